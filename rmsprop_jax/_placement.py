"""Where arrays are placed: on meshes of automatic and of explicit axes."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, PyTree

from ._arguments import is_traced

Shaped = ArrayLike | jax.ShapeDtypeStruct


def constant_like(like: Shaped, value: Array) -> Array:
    """Repeat `value` in the shape and sharding of `like`."""
    x = jnp.full_like(like, value, dtype=value.dtype)
    # Under `jax.jit` a constant depends on nothing, so XLA would put it on one device.
    # XLA shards a selection as it shards the condition, and only then removes it.
    return jnp.where(like == like, x, x) if is_traced(like) else x


def resharded(x: Array, like: Array) -> Array:
    """Shard `x` as `like` is, where shardings are part of the types."""
    given, wanted = jax.typeof(x).sharding, jax.typeof(like).sharding
    if given.mesh.empty or wanted.mesh.empty or given.spec == wanted.spec:
        return x
    return jax.sharding.reshard(x, wanted)


def with_automatic_axes(
    function: Callable[..., Any], out: Callable[[], PyTree], array: Array, *args: Any
) -> Any:
    """Call a function and let the compiler decide where its intermediates are.

    On a mesh of explicit axes JAX would ask for the sharding of each row that is
    looked up, and which device holds a row is known only when the program runs.
    `out()` gives the shardings of the results.
    """
    if hasattr(jax.sharding, "auto_axes"):
        mesh = jax.typeof(array).sharding.mesh
        if not mesh.empty and mesh.explicit_axes:
            with jax.sharding.use_abstract_mesh(mesh):
                function = jax.sharding.auto_axes(function, out_sharding=out())
                return jax.jit(function)(array, *args)
    return function(array, *args)
