"""Shardings of optimizer state: as the parameters have, or split further (ZeRO-1).

A leaf of a state belongs to the parameter whose path its own path ends with, if it has
the shape of it. So chains, masks, partitions and `flax.nnx.Optimizer` need nothing
else. Any other leaf, such as a count, is replicated.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree

from ._arguments import Call
from ._trees import path_name

Placement = NamedSharding | PartitionSpec


def state_shardings(
    tx: optax.GradientTransformation, params: PyTree, param_shardings: PyTree = None
) -> PyTree:
    """Give each leaf of a state the sharding of its parameter.

        sharding(state leaf) = sharding(its parameter), or replicated where it has none

    Args:
      tx: any optax transformation.
      params: the parameters: arrays or `jax.ShapeDtypeStruct`.
      param_shardings: a tree like `params` of `NamedSharding` or `PartitionSpec`; None
        for those that the parameters have.

    Returns:
      A tree like `tx.init(params)` of the kind that was given: `NamedSharding`, for
      `jax.jit(..., out_shardings=...)`, or `PartitionSpec`.

    Raises:
      ValueError: for shardings of another tree, rank or mesh, or which do not divide
        the parameter, naming the leaf.
      TypeError: for a leaf that is no sharding, or parameters without one.

    Example:
      >>> import jax, jax.numpy as jnp, rmsprop_jax
      >>> P = jax.sharding.PartitionSpec
      >>> tx = rmsprop_jax.scale_by_rmsprop(storage="uint8")
      >>> state_shardings(tx, {"w": jnp.ones((8, 4))}, {"w": P("data", None)})
      RMSPropState(count=P(), s={'w': P('data', None)}, m=None)

    Source: Rajbhandari, Rasley, Ruwase and He, ZeRO, 2020, section 5; GSPMD, 2021.
    """
    state = jax.eval_shape(tx.init, params)
    return _place("sharding.state_shardings", state, params, param_shardings)


def zero1_shardings(
    tx: optax.GradientTransformation,
    params: PyTree,
    mesh: Mesh | AbstractMesh,
    axis: str = "data",
    param_shardings: PyTree = None,
) -> PyTree:
    """Split the state over the data axis, with the parameters as they are (ZeRO-1).

        bytes of state on a device = bytes of state / size of the axis

    Of each leaf the dimension is split that leaves the largest parts; a leaf that the
    axis does not divide keeps the sharding of its parameter. `replicated` lists those.
    Under `jax.jit` with these as `out_shardings` of the state, XLA slices the gradients
    and gathers the updates: nothing else changes in the training step.

    Args:
      tx: any optax transformation.
      params: the parameters: arrays or `jax.ShapeDtypeStruct`.
      mesh: the mesh to split over.
      axis: its axis over which the batch is split.
      param_shardings: a tree like `params` of `NamedSharding` or `PartitionSpec`, where
        the parameters are sharded over other axes; None for replicated ones.

    Returns:
      A tree like `tx.init(params)` of `NamedSharding`.

    Raises:
      ValueError: for an axis that the mesh does not have, and as `state_shardings`.

    Example:
      >>> import jax, jax.numpy as jnp, rmsprop_jax
      >>> mesh = jax.make_mesh((1,), ("data",))
      >>> tx = rmsprop_jax.scale_by_rmsprop()
      >>> zero1_shardings(tx, {"w": jnp.ones((8, 4))}, mesh).s["w"].spec
      P('data', None)

    Source: Rajbhandari, Rasley, Ruwase and He, ZeRO: Memory Optimizations Toward
      Training Trillion Parameter Models, 2020, section 5.1.
    """
    call = Call("sharding.zero1_shardings")
    if axis not in mesh.shape:
        raise ValueError(
            f"`{call}(axis=...)` must be one of the mesh, {tuple(mesh.shape)}; got "
            f"{axis!r}."
        )
    if param_shardings is None:
        param_shardings = jax.tree.map(lambda p: PartitionSpec(), params)
    param_shardings = jax.tree.map(
        lambda x: NamedSharding(mesh, x) if isinstance(x, PartitionSpec) else x,
        param_shardings,
        is_leaf=_is_placement,
    )
    state = jax.eval_shape(tx.init, params)

    def split(leaf: Any, sharding: NamedSharding) -> NamedSharding:
        return NamedSharding(mesh, _split(leaf.shape, sharding.spec, mesh, axis))

    return _place(call, state, params, param_shardings, split)


def init(tx: optax.GradientTransformation, params: PyTree, shardings: PyTree) -> PyTree:
    """Make the state where it shall live.

        state = tx.init(params)       each leaf on the devices of its sharding

    Of a transformation of optax `jax.jit(tx.init)` alone puts zeros, which depend on no
    parameter, on one device.

    Args:
      tx: any optax transformation.
      params: the parameters.
      shardings: what `state_shardings` or `zero1_shardings` gives, or a tree of
        `NamedSharding` like `tx.init(params)`.

    Returns:
      The state of `tx`.

    Raises:
      ValueError: for a tree that is not that of the state.

    Example:
      >>> import jax, jax.numpy as jnp, rmsprop_jax
      >>> tx, params = rmsprop_jax.scale_by_rmsprop(), {"w": jnp.ones((8, 4))}
      >>> mesh = jax.make_mesh((1,), ("data",))
      >>> state = init(tx, params, zero1_shardings(tx, params, mesh))
      >>> state.s["w"].sharding.spec
      P('data', None)

    Source: `jax.jit` with `out_shardings`.
    """
    expected = jax.tree.structure(jax.eval_shape(tx.init, params))
    got = jax.tree.structure(shardings)
    if got != expected:
        raise ValueError(
            f"`sharding.init(shardings)` must be a tree like the state, {expected}; "
            f"got {got}. Make it with `sharding.state_shardings(tx, params, ...)`."
        )
    return jax.jit(tx.init, out_shardings=shardings)(params)


def replicated(shardings: PyTree) -> list[str]:
    """List the leaves that every device holds whole.

    Args:
      shardings: a tree of `NamedSharding` or `PartitionSpec`.

    Returns:
      The paths of leaves that no axis splits, such as counts, biases and whatever the
      axis does not divide.

    Example:
      >>> P = jax.sharding.PartitionSpec
      >>> replicated({"count": P(), "s": P("data", None)})
      ['count']
    """
    named = jax.tree_util.tree_leaves_with_path(shardings, is_leaf=_is_placement)
    return [path_name(path) for path, x in named if not _axes(_spec(x))]


def shardings_of(
    state: PyTree, params: PyTree, param_shardings: PyTree = None
) -> PyTree:
    """Give the shardings of a state that is there, such as that of `nnx.Optimizer`.

    Args:
      state: a state, of arrays or `jax.ShapeDtypeStruct`, in any container.
      params, param_shardings: as in `state_shardings`.

    Returns:
      A tree like `state`, of the kind that was given.

    Raises:
      ValueError: as `state_shardings`.
      TypeError: as `state_shardings`.

    Example:
      >>> import jax.numpy as jnp
      >>> P = jax.sharding.PartitionSpec
      >>> state = {"step": jnp.zeros(()), "opt_state": [{"w": jnp.ones((8, 4))}]}
      >>> shardings_of(state, {"w": jnp.ones((8, 4))}, {"w": P("data")})
      {'opt_state': [{'w': P('data',)}], 'step': P()}
    """
    return _place("sharding.shardings_of", state, params, param_shardings)


def _place(
    call: Call,
    state: PyTree,
    params: PyTree,
    param_shardings: PyTree = None,
    change: Callable[[Any, Any], Any] = lambda leaf, sharding: sharding,
) -> PyTree:
    """Give each leaf `change(leaf, sharding of its parameter)`."""
    placed = _by_path(call, params, param_shardings)
    anything = next((x for _, x in placed.values()), PartitionSpec())
    whole = _like(anything, PartitionSpec())

    def place(path: Any, leaf: Any) -> Placement:
        owner = _owner(path_name(path), leaf.shape, placed)
        return whole if owner is None else change(leaf, owner)

    return jax.tree_util.tree_map_with_path(place, state)


Placed = dict[str, tuple[tuple[int, ...], Placement]]


def _by_path(call: Call, params: PyTree, param_shardings: PyTree) -> Placed:
    """Pair each parameter with its sharding, or refuse by name."""
    named = jax.tree_util.tree_leaves_with_path(params)
    if param_shardings is None:
        given = [getattr(p, "sharding", None) for _, p in named]
    else:
        given = _given(call, params, param_shardings)
    placed: Placed = {}
    for (path, p), sharding in zip(named, given, strict=True):
        where = f"`{call}`: the sharding of the parameter at {path_name(path) or '/'}"
        if isinstance(sharding, jax.Array):
            sharding = sharding.sharding
        if not _is_placement(sharding):
            raise TypeError(
                f"{where} must be a NamedSharding or a PartitionSpec; got "
                f"{sharding!r}. Put the parameters on a mesh with `jax.device_put`, or "
                "pass `param_shardings`."
            )
        assert isinstance(sharding, NamedSharding | PartitionSpec)
        _check(where, jnp.shape(p), sharding)
        first = next((x for _, x in placed.values()), sharding)
        if getattr(first, "mesh", None) != getattr(sharding, "mesh", None):
            raise ValueError(f"{where} is on another mesh than those before it.")
        placed[path_name(path)] = (jnp.shape(p), sharding)
    return placed


def _given(call: Call, params: PyTree, param_shardings: PyTree) -> list[Any]:
    found, treedef = jax.tree.flatten(param_shardings, is_leaf=_is_placement)
    expected = jax.tree.structure(params)
    if treedef != expected:
        raise ValueError(
            f"`{call}(param_shardings=...)` must be a tree like the parameters, "
            f"{expected}; got {treedef}."
        )
    return found


def _check(where: str, shape: tuple[int, ...], sharding: Placement) -> None:
    spec = _spec(sharding)
    if len(spec) > len(shape):
        raise ValueError(f"{where}, {spec}, has more dimensions than {shape}.")
    if isinstance(sharding, NamedSharding):
        for size, entry in zip(shape, spec, strict=False):
            parts = math.prod(sharding.mesh.shape[a] for a in _axes((entry,)))
            if size % parts:
                raise ValueError(
                    f"{where}, {spec}, splits a dimension of {size} into {parts} "
                    f"equal parts; its shape is {shape}. Leave that axis out."
                )


def _owner(name: str, shape: tuple[int, ...], placed: Placed) -> Placement | None:
    """Find the parameter whose path ends the path of a leaf; the longest one."""
    parts = name.split("/")
    for k in range(len(parts) + 1):
        found = placed.get("/".join(parts[k:]))
        if found is not None and found[0] == shape:
            return found[1]
    return None


def _split(
    shape: tuple[int, ...], spec: PartitionSpec, mesh: Mesh | AbstractMesh, axis: str
) -> PartitionSpec:
    """Split the dimension with the largest parts by one more axis, if one divides."""
    entries = [*spec, *[None] * (len(shape) - len(spec))]
    if axis in _axes(entries):
        return spec
    sizes = [
        size // math.prod(mesh.shape[a] for a in _axes((entry,)))
        for size, entry in zip(shape, entries, strict=True)
    ]
    able = [d for d, size in enumerate(sizes) if size and size % mesh.shape[axis] == 0]
    if not able:
        return spec
    d = max(able, key=lambda d: sizes[d])
    axes = (*_axes((entries[d],)), axis)
    entries[d] = axes[0] if len(axes) == 1 else axes
    return PartitionSpec(*entries)


def _axes(spec: Any) -> tuple[str, ...]:
    """Name the axes of the mesh in a PartitionSpec."""
    entries = [entry if isinstance(entry, tuple) else (entry,) for entry in spec]
    return tuple(axis for entry in entries for axis in entry if isinstance(axis, str))


def _spec(sharding: Placement) -> PartitionSpec:
    return sharding.spec if isinstance(sharding, NamedSharding) else sharding


def _like(sharding: Placement, spec: PartitionSpec) -> Placement:
    named = isinstance(sharding, NamedSharding)
    return NamedSharding(sharding.mesh, spec) if named else spec


def _is_placement(x: Any) -> bool:
    return isinstance(x, NamedSharding | PartitionSpec)
