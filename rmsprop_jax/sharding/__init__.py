"""Shardings of optimizer state: those of the parameters, or sharded further (ZeRO-1).

Each leaf that a state keeps for a parameter gets the sharding of that parameter, with
its memory kind. This holds inside chains, masks, partitions and other wrappers. A leaf
that belongs to no parameter, such as a count, is replicated.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree

from .._arguments import Call
from .._placement import in_memory_of
from .._trees import at, named_leaves
from ._owners import Owner, owners_in, owners_of

Placement = NamedSharding | PartitionSpec


def state_shardings(
    tx: optax.GradientTransformation, params: PyTree, param_shardings: PyTree = None
) -> PyTree:
    """Return the sharding of each leaf of a state: that of its parameter.

        sharding(state leaf) = sharding(its parameter), or replicated where it has none

    Args:
      tx: any optax transformation.
      params: the parameters: arrays or `jax.ShapeDtypeStruct`.
      param_shardings: a tree like `params` of `NamedSharding` or `PartitionSpec`; None
        for those that the parameters have.

    Returns:
      A tree like `tx.init(params)` of `NamedSharding`, for
      `jax.jit(..., out_shardings=...)`, or of `PartitionSpec` where those were given.

    Raises:
      ValueError: for shardings of another tree, rank or mesh, or which do not divide
        the parameter, naming the leaf.
      TypeError: for a leaf that is no sharding, or parameters without one.

    Example:
      >>> import jax, jax.numpy as jnp, rmsprop_jax
      >>> P = jax.sharding.PartitionSpec
      >>> tx = rmsprop_jax.scale_by_rmsprop(storage="uint8")
      >>> state_shardings(tx, {"w": jnp.ones((8, 4))}, {"w": P("data", None)})
      RMSPropState(step=P(), s={'w': P('data', None)}, m=None)

    Source: Rajbhandari, Rasley, Ruwase and He, ZeRO, 2020, section 5; GSPMD, 2021.
    """
    call = Call("sharding.state_shardings")
    state = jax.eval_shape(tx.init, params)
    return _place(call, state, owners_of(tx, params), params, param_shardings)


def zero1_shardings(
    tx: optax.GradientTransformation,
    params: PyTree,
    mesh: Mesh | AbstractMesh,
    axis: str = "data",
    param_shardings: PyTree = None,
) -> PyTree:
    """Shard the state over the data axis, and the parameters as they are (ZeRO-1).

        bytes of state on a device = bytes of state / size of the axis

    Each leaf is sharded along its largest dimension that the axis divides. A leaf that
    the axis does not divide keeps the sharding of its parameter; `replicated` lists
    these. Under `jax.jit` with the result as `out_shardings` of the state, XLA slices
    the gradients and gathers the updates; the training step needs no other change.

    Args:
      tx: any optax transformation.
      params: the parameters: arrays or `jax.ShapeDtypeStruct`.
      mesh: the mesh to shard over.
      axis: its axis over which the batch is split.
      param_shardings: a tree like `params` of `NamedSharding` or `PartitionSpec`, where
        the parameters are sharded over other axes; None for replicated ones, in the
        memory that the parameters are in.

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
        param_shardings = jax.tree.map(
            lambda p: NamedSharding(mesh, PartitionSpec(), memory_kind=_host(p)), params
        )
    param_shardings = jax.tree.map(
        lambda x: NamedSharding(mesh, x) if isinstance(x, PartitionSpec) else x,
        param_shardings,
        is_leaf=_is_placement,
    )
    state = jax.eval_shape(tx.init, params)

    def shard_further(leaf: Any, of: NamedSharding) -> NamedSharding:
        spec = _sharded_further(leaf.shape, of.spec, mesh, axis)
        return NamedSharding(mesh, spec, memory_kind=of.memory_kind)

    owners = owners_of(tx, params)
    return _place(call, state, owners, params, param_shardings, shard_further)


def init_sharded(
    tx: optax.GradientTransformation, params: PyTree, shardings: PyTree
) -> PyTree:
    """Create the state already sharded.

        state = tx.init(params)       each leaf on the devices of its sharding

    `jax.jit(tx.init)` alone puts the zeros of an optax transformation on one device,
    because they depend on no parameter.

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
      >>> state = init_sharded(tx, params, zero1_shardings(tx, params, mesh))
      >>> state.s["w"].sharding.spec
      P('data', None)

    Source: `jax.jit` with `out_shardings`.
    """
    expected = jax.tree.structure(jax.eval_shape(tx.init, params))
    got = jax.tree.structure(shardings)
    if got != expected:
        raise ValueError(
            "`sharding.init_sharded(shardings)` must be a tree like the state, "
            f"{expected}; got {got}. Make it with `sharding.state_shardings(tx, "
            "params, ...)`."
        )
    return jax.jit(tx.init, out_shardings=shardings)(params)


def replicated(shardings: PyTree) -> list[str]:
    """List the leaves that are on every device as a whole.

    Args:
      shardings: a tree of `NamedSharding` or `PartitionSpec`.

    Returns:
      The paths of leaves that no axis splits, such as counts, biases and whatever the
      axis does not divide.

    Example:
      >>> P = jax.sharding.PartitionSpec
      >>> replicated({"step": P(), "s": P("data", None)})
      ['step']
    """
    named = named_leaves(shardings, _is_placement)
    return [name for name, x in named if not _axes(_spec(x))]


def shardings_of(
    state: PyTree, params: PyTree, param_shardings: PyTree = None
) -> PyTree:
    """Return the shardings of an existing state, such as that of `nnx.Optimizer`.

    The trees inside the state are compared with that of the parameters, by names and
    shapes. Where the transformation is at hand use `state_shardings`, which compares
    nothing.

    Args:
      state: a state, of arrays or `jax.ShapeDtypeStruct`, in any container.
      params, param_shardings: as in `state_shardings`.

    Returns:
      A tree like `state`, of the kind that was given.

    Raises:
      ValueError: for a state in which a tree fits the parameters in two ways, and as
        `state_shardings`.
      TypeError: as `state_shardings`.

    Example:
      >>> import jax.numpy as jnp
      >>> P = jax.sharding.PartitionSpec
      >>> state = {"step": jnp.zeros(()), "opt_state": [{"w": jnp.ones((8, 4))}]}
      >>> shardings_of(state, {"w": jnp.ones((8, 4))}, {"w": P("data")})
      {'opt_state': [{'w': P('data',)}], 'step': P()}
    """
    call = Call("sharding.shardings_of")
    owners = owners_in(call, state, params)
    return _place(call, state, owners, params, param_shardings)


def streamed(
    tx: optax.GradientTransformation,
) -> optax.GradientTransformationExtraArgs:
    """Keep the state in the memory of the host, and update it on the device.

        state -> device;   update;   state -> host

    For a state that was created in host memory, with shardings of
    `memory_kind="pinned_host"`. A step moves the bytes of the state to the device and
    back; XLA overlaps that with other work where it can. Gradients and updates stay on
    the device. Parameters in host memory are copied to the device for the update.

    Args:
      tx: any optax transformation.

    Returns:
      An `optax.GradientTransformationExtraArgs` with the state of `tx`.

    Example:
      >>> import jax, jax.numpy as jnp, rmsprop_jax
      >>> device = jax.devices()[0]
      >>> host = jax.sharding.SingleDeviceSharding(device, memory_kind="pinned_host")
      >>> params, tx = jnp.ones(4), streamed(rmsprop_jax.rmsprop(0.1))
      >>> state = jax.device_put(tx.init(params), host)
      >>> updates, state = jax.jit(tx.update)(params, state, params)
      >>> state[0].s.sharding.memory_kind
      'pinned_host'

    Source: `jax.memory.Space`, JAX 0.7.1 or newer.
    """
    inner = optax.with_extra_args_support(tx)

    def on_device(tree: PyTree) -> PyTree:
        return jax.tree.map(lambda x: jax.device_put(x, jax.memory.Space.Device), tree)

    def update(
        updates: PyTree, state: PyTree, params: PyTree = None, **extra_args: Any
    ):
        here = on_device((updates, state, params))
        updates, after = inner.update(*here, **extra_args)
        return updates, jax.tree.map(in_memory_of, state, after)

    return optax.GradientTransformationExtraArgs(inner.init, update)


def _place(
    call: Call,
    state: PyTree,
    owners: list[Owner],
    params: PyTree,
    param_shardings: PyTree = None,
    change: Callable[[Any, Any], Any] = lambda leaf, sharding: sharding,
) -> PyTree:
    """Give each leaf `change(leaf, sharding of its parameter)`."""
    placements = _placements(call, params, param_shardings)
    anything = next(iter(placements), PartitionSpec())
    whole = _like(anything, PartitionSpec())
    leaves, treedef = jax.tree.flatten(state)
    placed = [
        whole if k is None else change(leaf, placements[k])
        for leaf, k in zip(leaves, owners, strict=True)
    ]
    return jax.tree.unflatten(treedef, placed)


def _placements(call: Call, params: PyTree, param_shardings: PyTree) -> list[Placement]:
    """Return the sharding of each parameter, or refuse by name."""
    named = named_leaves(params)
    if param_shardings is None:
        given = [getattr(p, "sharding", None) for _, p in named]
    else:
        given = _given(call, params, param_shardings)
    placements: list[Placement] = []
    for (name, p), sharding in zip(named, given, strict=True):
        where = f"`{call}`: the sharding of the parameter at {at(name)}"
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
        first = placements[0] if placements else sharding
        if getattr(first, "mesh", None) != getattr(sharding, "mesh", None):
            raise ValueError(f"{where} is on another mesh than those before it.")
        placements.append(sharding)
    return placements


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
                    f"{where}, {spec}, shards a dimension of {size} into {parts} "
                    f"equal parts; its shape is {shape}. Leave that axis out."
                )


def _sharded_further(
    shape: tuple[int, ...], spec: PartitionSpec, mesh: Mesh | AbstractMesh, axis: str
) -> PartitionSpec:
    """Shard the dimension with the largest parts by one more axis, if one divides."""
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


def _host(p: Any) -> str | None:
    """Return the memory kind of a parameter in host memory; None on a device."""
    kind = getattr(getattr(p, "sharding", None), "memory_kind", None)
    return kind if kind == "pinned_host" else None


def _is_placement(x: Any) -> bool:
    return isinstance(x, NamedSharding | PartitionSpec)
