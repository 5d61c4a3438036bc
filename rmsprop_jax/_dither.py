"""Random bits for stochastic rounding, computed from where they are used.

The bits of an element are a hash of (seed, step, slot, leaf, index of the element). So
there is no key to keep, a restart repeats the run, and all meshes have the same bits.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, UInt32

# Odd and without pattern: 2**32 over the golden ratio; the others are those of Wellons'
# "lowbias32" (hash-prospector).
_GOLDEN = 0x9E3779B9
_FIRST, _SECOND = 0x7FEB352D, 0x846CA68B

Words = Any  # uint32, of NumPy where the numbers are known, else of JAX


class Dither(NamedTuple):
    """The key of one stochastic rounding of one array.

    Attributes:
      seed: seed of the transformation.
      step: number of updates before this one.
      slot: a letter for the moment, since one parameter may have several.
      leaf: number of the parameter in its tree.
      rows: numbers of the rows that are rounded, where not all are; they get the bits
        that they would get if all rows were rounded.
    """

    seed: ArrayLike
    step: Array
    slot: str
    leaf: int
    rows: Array | None = None

    def random(self, shape: tuple[int, ...]) -> UInt32[Array, "*shape"]:
        """Return 32 random bits for each element of an array."""
        # Two words: with one alone, two keys give the same bits in another order.
        key = np.array([[1, 2], [3, 4]], np.uint32)
        # What is known comes first, and is one constant: so the program of a leaf is
        # that of every leaf of its shape, and XLA compiles it once.
        for part in (ord(self.slot), self.leaf, self.seed, self.step):
            key = _mix(key + _uint32(part) + _uint32(_GOLDEN), _FIRST, _SECOND)
        # XLA fuses no reduction into what repeats it: so the key is computed once and
        # not for each element, and on CPU a step copies one leaf at a time.
        key = lax.reduce(jnp.asarray(key), np.uint32(0), lax.bitwise_xor, (0,))
        return _stream(key, self.rows, shape=shape)


@functools.partial(jax.jit, static_argnames="shape")
def _stream(
    key: UInt32[Array, "2"], rows: Array | None, *, shape: tuple[int, ...]
) -> UInt32[Array, "..."]:
    """Hash the number of each element with the key."""
    x = (_index(shape, rows) + key[0]) * _uint32(_FIRST)
    x = (x ^ (x >> 15)) + key[1]
    return _mix(x, _FIRST, _SECOND)


def _mix(x: Words, first: int, second: int) -> Words:
    """Scramble 32 bits, one to one."""
    x = (x ^ (x >> 16)) * _uint32(first)
    x = (x ^ (x >> 15)) * _uint32(second)
    return x ^ (x >> 16)


def _index(
    shape: tuple[int, ...], rows: Array | None = None
) -> UInt32[Array, "*shape"]:
    """Number the elements in row-major order, modulo 2**32.

    A sum over dimensions, and no reshape: so each device of a mesh computes its part.
    """
    index, stride = jnp.zeros(shape, jnp.uint32), 1
    for k in reversed(range(len(shape))):
        along = lax.broadcasted_iota(jnp.uint32, shape, k)
        if k == 0 and rows is not None:
            along = lax.broadcast_in_dim(_uint32(rows), shape, (0,))
        index, stride = index + along * _uint32(stride), stride * shape[k]
    return index


def _uint32(value: ArrayLike) -> Words:
    """Take the low 32 bits of an integer."""
    if isinstance(value, int):
        return np.uint32(value % 2**32)
    return jnp.asarray(value).astype(jnp.uint32)
