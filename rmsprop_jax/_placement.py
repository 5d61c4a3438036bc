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
    """Repeat `value` in the shape, the sharding and the memory of `like`."""
    array: Any = like
    if _is_on_host(array):  # where `jnp.full_like` fails for one device (JAX 0.10)
        return jax.device_put(jnp.full(array.shape, value), array.sharding)
    x = jnp.full_like(like, value, dtype=value.dtype)
    if not is_traced(like):
        return x
    # Under `jax.jit` a constant depends on nothing, so XLA would put it on one device.
    # XLA shards a selection as it shards the condition, and only then removes it.
    here = in_memory_of(x, array)
    return in_memory_of(array, jnp.where(here == here, x, x))


def _is_on_host(x: Any) -> bool:
    kind = None if is_traced(x) else getattr(x, "sharding", None)
    return getattr(kind, "memory_kind", None) == "pinned_host"


def in_memory_of(like: Array, x: Array) -> Array:
    """Move `x` to the memory, of the host or of the device, that `like` is in."""
    # JAX before 0.7 has no memory spaces in its types.
    space = getattr(jax.typeof(like), "memory_space", None)
    same = space is None or space == jax.typeof(x).memory_space
    return x if same else jax.device_put(x, space)


def resharded(x: Any, like: Any) -> Any:
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
