"""Quantiles of large arrays by counting: no sort, and no gathering on a mesh."""

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import PartitionSpec
from jaxtyping import Array, Bool, Float, UInt32

from .._placement import with_automatic_axes

NAMES = ("min", "q05", "q50", "q95", "max")
_LEVELS = (0.0, 0.05, 0.5, 0.95, 1.0)


@jax.jit
def quantiles(x: Float[Array, "..."]) -> Float[Array, "5"]:
    """Return the quantiles `NAMES` of numbers >= 0, each rounded to bfloat16.

    The codes of bfloat16 are ordered as the numbers are, and there are few enough to
    count each. NaN counts as the largest number; quantiles of an empty array are NaN.
    """
    return with_automatic_axes(_count, PartitionSpec, x)


def _count(x: Float[Array, "..."]) -> Float[Array, "5"]:
    codes = lax.bitcast_convert_type(x.astype(jnp.bfloat16), jnp.uint16) & 0x7FFF
    counts = jnp.zeros(2**15, jnp.uint32).at[codes].add(1).reshape(256, 128)
    places = [int(level * max(x.size - 1, 0)) for level in _LEVELS]
    index = jnp.array(places, jnp.uint32)
    # First the exponent, then the mantissa: in small leaves a running sum over all
    # codes would cost more than the counting.
    exponents = jnp.tile(jnp.sum(counts, axis=1, dtype=jnp.uint32), (5, 1))
    exponent, index = _find(exponents, index)
    mantissa, _ = _find(counts[exponent], index)
    code = (exponent * 128 + mantissa).astype(jnp.uint16)
    return lax.bitcast_convert_type(code, jnp.bfloat16).astype(jnp.float32)


def _find(
    counts: UInt32[Array, "5 bins"], index: UInt32[Array, "5"]
) -> tuple[UInt32[Array, "5"], UInt32[Array, "5"]]:
    """Return the bin that holds the element of each index, and its index in the bin."""
    sums = jnp.cumsum(counts, axis=1, dtype=jnp.uint32)
    before = sums <= index[:, None]
    found = jnp.minimum(before.sum(axis=1, dtype=jnp.uint32), counts.shape[1] - 1)
    return found, index - jnp.max(sums, axis=1, where=before, initial=0)


def share(mask: Bool[Array, "..."]) -> Float[Array, ""]:
    """Return the share of True; 0 for an empty mask."""
    count = jnp.sum(mask, dtype=jnp.uint32)
    return count.astype(jnp.float32) / float(max(mask.size, 1))
