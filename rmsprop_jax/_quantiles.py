"""Quantiles of large arrays by counting: no sort, and on a mesh nothing is gathered."""

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import PartitionSpec
from jaxtyping import Array, Bool, Float

from .sparse._mesh import automatic

NAMES = ("min", "q05", "q50", "q95", "max")
_LEVELS = (0.0, 0.05, 0.5, 0.95, 1.0)


@jax.jit
def quantiles(x: Float[Array, "..."]) -> Float[Array, "5"]:
    """Give the quantiles `NAMES` of numbers >= 0, each rounded to bfloat16.

    The codes of bfloat16 have the order of the numbers, and there are few enough to
    count each. NaN counts as the largest; of nothing every quantile is NaN.
    """
    return automatic(_count, PartitionSpec, x)


def _count(x: Float[Array, "..."]) -> Float[Array, "5"]:
    codes = lax.bitcast_convert_type(x.astype(jnp.bfloat16), jnp.uint16) & 0x7FFF
    counts = jnp.zeros(2**15, jnp.uint32).at[codes].add(1)
    indices = [int(level * max(x.size - 1, 0)) for level in _LEVELS]
    found = jnp.searchsorted(
        jnp.cumsum(counts),
        jnp.array(indices, jnp.uint32),
        side="right",
        method="compare_all",
    )
    found = jnp.minimum(found, 0x7FFF).astype(jnp.uint16)
    return lax.bitcast_convert_type(found, jnp.bfloat16).astype(jnp.float32)


def share(mask: Bool[Array, "..."]) -> Float[Array, ""]:
    """Give the share of True; of nothing it is 0."""
    return jnp.sum(mask, dtype=jnp.uint32) / max(mask.size, 1)
