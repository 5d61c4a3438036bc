"""A format that keeps 16-bit floats as unsigned integers."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array

from .._storage import Format


@dataclasses.dataclass(frozen=True)
class FloatPatterns(Format):
    """Another format, whose 16-bit floats are stored as the uint16 of their pattern.

    Before XLA on CPU writes rows into an array of bfloat16 or float16, it casts the
    whole array to float32, and back afterwards.

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
        """Whether `inner` rounds stochastically."""
        return self.inner.stochastic

    def encode(self, x: Array, random: Array) -> Array:
        """Store `x`."""
        stored = self.inner.encode(x, random)
        if not _is_narrow(stored.dtype):
            return stored
        return lax.bitcast_convert_type(stored, jnp.uint16)

    def decode(self, stored: Array) -> Array:
        """Return what was stored."""
        x, random = (jax.ShapeDtypeStruct((), x) for x in (jnp.float32, jnp.uint32))
        dtype = jax.eval_shape(self.inner.encode, x, random).dtype
        if stored.dtype == jnp.uint16 and _is_narrow(dtype):
            stored = lax.bitcast_convert_type(stored, dtype)
        return self.inner.decode(stored)


def _is_narrow(dtype: np.dtype) -> bool:
    return bool(jnp.issubdtype(dtype, jnp.floating)) and dtype.itemsize == 2
