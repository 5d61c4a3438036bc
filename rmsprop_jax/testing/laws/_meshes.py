"""Laws 33, 35 and 36: parameters and state on several devices."""

import contextlib
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from jaxtyping import PyTree

from .._closeness import assert_close, assert_equal
from .._report import check_each
from .._subject import DoesNotApply, Subject

AXIS = "data"
# Reshards are of newer versions of JAX.
_KINDS = (AxisType.Auto, AxisType.Explicit)[: 1 + hasattr(jax.sharding, "reshard")]


def law_33_state_is_sharded_as_its_params(subject: Subject) -> None:
    """State is sharded as its parameters are: at `init`, under jit, and after updates.

    On a mesh of automatic axes by the sharding of the arrays, and on a mesh of explicit
    axes by their types.

    Source: optax#548, optax _sharding_test.py, D15.
    """
    tx = subject.make()
    update = subject.compiled(tx).update

    def check(kind: str) -> None:
        mesh = _mesh(AxisType.Explicit if kind == "explicit" else AxisType.Auto)
        params = jax.device_put(_params(), NamedSharding(mesh, PartitionSpec(AXIS)))
        with _use(mesh):
            init = jax.jit(tx.init) if kind == "jitted init" else tx.init
            state = init(params)
            _assert_sharded(state, params, "after `init`")
            _, after = update(params, state, params)
            _assert_sharded(after, params, "after `update`")
            if kind == "explicit":
                same = jax.tree.map(lambda x: str(jax.typeof(x)), (state, after))
                assert same[0] == same[1], f"types change: {same[0]} to {same[1]}"

    kinds = ("automatic", "explicit", "jitted init")
    check_each(check, {kind: kind for kind in kinds})


def law_35_shards_without_a_trace(subject: Subject) -> None:
    """With its state sharded (ZeRO-1) the updates are those of a replicated state.

    To within float32 rounding.

    Source: flax#5231, optax _sharding_test.py.
    """
    alone, sharded = _results(subject), _results(subject, AxisType.Auto)
    close = dict(rtol=2e-6, atol=1e-7)
    assert_close(sharded[0], alone[0], **close, what="updates")


def law_36_stores_the_same_on_every_mesh(subject: Subject) -> None:
    """State of fewer than 32 bits is the same to the bit on one device and on a mesh.

    On meshes of automatic and of explicit axes, whatever the size of a part is.

    Source: torchao#4912, bitsandbytes#89.
    """

    def narrow(kind: AxisType | None = None) -> list[Any]:
        leaves = jax.tree.leaves(_results(subject, kind)[1])
        return [x for x in leaves if x.ndim and x.dtype.itemsize < 4]

    alone = narrow()
    if not alone:
        raise DoesNotApply("no state is narrower than 32 bits")
    for kind in _KINDS:
        for one, many in zip(alone, narrow(kind), strict=True):
            what = f"{one.dtype} state on 1 and on several devices ({kind.name} axes)"
            assert_equal(many, one, what=what)


@functools.lru_cache(maxsize=3)
def _results(subject: Subject, kind: AxisType | None = None) -> tuple[PyTree, PyTree]:
    """Return updates and state after three steps: on one device, or on a mesh."""
    tx, rows = subject.make(), 17 * jax.device_count()
    rng = np.random.default_rng(0)
    # The parts are of 119 numbers, and 9 and 65 are not divided.
    shapes = {"a": (rows, 7), "b": (9,), "c": (13, 5)}
    start, *gs = (
        {name: rng.standard_normal(shape, np.float32) for name, shape in shapes.items()}
        for _ in range(4)
    )

    mesh = kind and _mesh(kind)

    def replicate(tree: PyTree) -> PyTree:
        return jax.device_put(tree, mesh and NamedSharding(mesh, PartitionSpec()))

    def place(x: Any) -> Any:
        own = mesh and x.ndim == 2 and x.shape[0] % mesh.size == 0
        spec = PartitionSpec(AXIS) if own else PartitionSpec()
        return jax.device_put(x, mesh and NamedSharding(mesh, spec))

    with _use(mesh) if mesh else contextlib.nullcontext():
        params, us = replicate(start), []
        state = jax.tree.map(place, tx.init(params))
        update = jax.jit(lambda g, s: subject.update(tx, g, s, params))
        for g in gs:
            u, state = update(replicate(g), state)
            us.append(u)
        return jax.tree.map(np.asarray, (us, state))


def _mesh(kind: Any) -> Any:
    if jax.device_count() == 1:
        flag = "--xla_force_host_platform_device_count=8"
        raise DoesNotApply(f"there is one device; set XLA_FLAGS={flag}")
    return jax.make_mesh((jax.device_count(),), (AXIS,), axis_types=(kind,))


def _use(mesh: Any) -> Any:
    if hasattr(jax, "set_mesh"):
        return jax.set_mesh(mesh)
    sharding: Any = jax.sharding  # up to JAX 0.7
    return sharding.use_mesh(mesh)


def _params() -> PyTree:
    rows = 2 * jax.device_count()
    return {"a": jnp.linspace(-1, 1, 3 * rows).reshape(rows, 3)}


def _assert_sharded(state: PyTree, params: PyTree, when: str) -> None:
    want = params["a"]
    for path, x in jax.tree_util.tree_leaves_with_path(state):
        if x.shape != want.shape:
            continue
        where = jax.tree_util.keystr(path)
        assert x.sharding.is_equivalent_to(want.sharding, x.ndim), (
            f"{when} the state at {where} is on {len(x.sharding.device_set)} devices "
            f"as {_spec(x)}, its parameter on {len(want.sharding.device_set)} as "
            f"{_spec(want)}"
        )


def _spec(x: Any) -> Any:
    return getattr(x.sharding, "spec", x.sharding)
