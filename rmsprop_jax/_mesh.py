"""Functions that JAX cannot give a sharding on a mesh of explicit axes."""

from collections.abc import Callable
from typing import Any

import jax
from jaxtyping import Array, PyTree


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
