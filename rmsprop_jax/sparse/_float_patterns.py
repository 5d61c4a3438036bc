"""Moments of 16 bits, kept as integers."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array

from .._storage import Format


@dataclasses.dataclass(frozen=True)
class Bits(Format):
    """Another format; where it stores 16-bit floats, their bits as uint16.

    Before it writes rows into an array of bfloat16 or float16, XLA on CPU casts all of
    the array to float32, and back after it.

    Attributes:
      inner: the format that encodes and decodes.
    """

    inner: Format

    @property
    def signed(self) -> bool:  # pyright: ignore
        """Whether `inner` keeps negative numbers."""
        return self.inner.signed

    @property
    def stochastic(self) -> bool:  # pyright: ignore
        """Whether `inner` rounds with the bits it is given."""
        return self.inner.stochastic

    def encode(self, x: Array, random: Array) -> Array:
        """Store `x`."""
        stored = self.inner.encode(x, random)
        if not _is_narrow(stored.dtype):
            return stored
        return lax.bitcast_convert_type(stored, jnp.uint16)

    def decode(self, stored: Array) -> Array:
        """Read what was stored."""
        x, random = (jax.ShapeDtypeStruct((), x) for x in (jnp.float32, jnp.uint32))
        dtype = jax.eval_shape(self.inner.encode, x, random).dtype
        if stored.dtype == jnp.uint16 and _is_narrow(dtype):
            stored = lax.bitcast_convert_type(stored, dtype)
        return self.inner.decode(stored)


def _is_narrow(dtype: np.dtype) -> bool:
    return bool(jnp.issubdtype(dtype, jnp.floating)) and dtype.itemsize == 2
