"""Tables whose rows are spread over the devices of a mesh."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Float, PyTree

from .._arguments import is_traced


def by_row(table: Array) -> Float[Array, " rows"]:
    """Give one number a row, where the row is: for `constant_like`."""
    if is_traced(table):
        # XLA shards this as it shards the table, and finds later that nobody reads it.
        return jnp.max(table.real, axis=1, initial=0.0)
    sharding = getattr(table, "sharding", None)
    if isinstance(sharding, NamedSharding) and not sharding.mesh.empty:
        sharding = NamedSharding(sharding.mesh, PartitionSpec(*sharding.spec[:1]))
        return jnp.zeros(len(table), jnp.float32, device=sharding)
    return jnp.zeros(len(table), jnp.float32)


def spec(tree: PyTree, *more: Any) -> PyTree:
    """Give the partition of arrays whose sharding is part of their type."""
    return jax.tree.map(
        lambda x: PartitionSpec(*jax.typeof(x).sharding.spec, *more), tree
    )
