"""Tables whose rows are spread over the devices of a mesh."""

from collections.abc import Callable
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


def automatic(
    function: Callable[..., Any], out: Callable[[], PyTree], table: Array, *args: Any
) -> Any:
    """Call a function and leave to the compiler where what it computes lies.

    On a mesh of explicit axes JAX would ask for the sharding of every row that is read:
    which device has it is known only at run time. `out()` gives that of the results.
    """
    if hasattr(jax.sharding, "auto_axes"):
        mesh = jax.typeof(table).sharding.mesh
        if not mesh.empty and mesh.explicit_axes:
            with jax.sharding.use_abstract_mesh(mesh):
                function = jax.sharding.auto_axes(function, out_sharding=out())
                return jax.jit(function)(table, *args)
    return function(table, *args)
