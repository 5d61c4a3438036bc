"""Tables whose rows are spread over the devices of a mesh."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec
from jax.typing import DTypeLike
from jaxtyping import Array, PyTree


def zeros_by_row(table: Array, dtype: DTypeLike) -> Array:
    """Make one zero a row, where the row is."""
    sharding = getattr(table, "sharding", None)
    if isinstance(sharding, NamedSharding) and not sharding.mesh.empty:
        sharding = NamedSharding(sharding.mesh, PartitionSpec(*sharding.spec[:1]))
        return jnp.zeros(len(table), dtype, device=sharding)
    return jnp.zeros(len(table), dtype)


def spec(tree: PyTree, *more: Any) -> PyTree:
    """Give the partition of arrays whose sharding is part of their type."""
    return jax.tree.map(
        lambda x: PartitionSpec(*jax.typeof(x).sharding.spec, *more), tree
    )
