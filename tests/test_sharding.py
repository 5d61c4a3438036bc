"""State sharded as the parameters are, or split further; eight virtual devices."""

import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from cases import gradients
from flax import nnx
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from rmsprop_jax import master_weights, rmsprop, scale_by_rmsprop, sharding
from rmsprop_jax.interop import orbax

STORAGES = ("float32", "bfloat16", "uint8")
every_storage = pytest.mark.parametrize("storage", STORAGES)
PARAMS = {
    "embed": jnp.asarray(gradients(1, (16, 8))[0], jnp.float32),
    "layer": {"kernel": jnp.ones((8, 24)), "bias": jnp.zeros(24)},
    "scale": jnp.asarray(1.0),
}
SPECS = {
    "embed": P("fsdp", "tensor"),
    "layer": {"kernel": P("fsdp", "tensor"), "bias": P("tensor")},
    "scale": P(),
}
MESHES = {
    "8": ((8,), ("fsdp",)),
    "4x2": ((4, 2), ("fsdp", "tensor")),
    "2x2x2": ((2, 2, 2), ("data", "fsdp", "tensor")),
}


def make_mesh(shape, axes, kind=AxisType.Auto):
    return jax.make_mesh(shape, axes, axis_types=(kind,) * len(axes))


def mesh_of(name, kind=AxisType.Auto):
    return make_mesh(*MESHES[name], kind)


def placed(mesh, params=PARAMS):
    """Shard as SPECS say, with the axes that the mesh has."""

    def put(p, spec):
        kept = [a if a in mesh.shape else None for a in spec]
        return jax.device_put(p, NamedSharding(mesh, P(*kept)))

    return jax.tree.map(put, params, SPECS)


def narrow(tree):
    return jax.tree.map(lambda x: x.astype(jnp.bfloat16), tree)


TRANSFORMATIONS = {
    "float32": lambda: rmsprop(0.1, centered=True, momentum=0.9),
    "bfloat16": lambda: rmsprop(0.1, centered=True, momentum=0.9, storage="bfloat16"),
    "uint8": lambda: rmsprop(0.1, centered=True, momentum=0.9, storage="uint8"),
    "chain": lambda: optax.chain(
        optax.clip(1.0), rmsprop(optax.linear_schedule(0.1, 0, 9), weight_decay=0.1)
    ),
    "masked": lambda: optax.masked(
        rmsprop(0.1, storage="uint8"), lambda p: jax.tree.map(lambda x: x.ndim > 1, p)
    ),
    "partition": lambda: optax.partition(
        {"a": rmsprop(0.1, momentum=0.9), "b": optax.adam(0.1)},
        {"embed": "a", "layer": {"kernel": "b", "bias": "a"}, "scale": "b"},
    ),
    "injected": lambda: optax.inject_hyperparams(rmsprop)(0.1, momentum=0.9),
    "MultiSteps": lambda: optax.MultiSteps(rmsprop(0.1), 2).gradient_transformation(),
}


@pytest.mark.parametrize("make", TRANSFORMATIONS)
@pytest.mark.parametrize("mesh", MESHES)
@pytest.mark.rows(8)
def test_state_lives_where_its_parameters_do(make, mesh):
    """From live arrays, NamedSharding or PartitionSpec; made there, and kept there."""
    tx, params = TRANSFORMATIONS[make](), placed(mesh_of(mesh))
    shardings = sharding.state_shardings(tx, params)
    given = jax.tree.map(lambda p: p.sharding, params)
    specs = jax.tree.map(lambda p: p.sharding.spec, params)
    assert sharding.state_shardings(tx, PARAMS, given) == shardings
    assert sharding.state_shardings(tx, PARAMS, params) == shardings
    from_specs = sharding.state_shardings(tx, PARAMS, specs)
    assert jax.tree.map(lambda x: x.spec, shardings) == from_specs
    state = sharding.init_sharded(tx, params, shardings)
    chex.assert_trees_all_equal(state, tx.init(PARAMS))
    for x, where in zip(*map(jax.tree.leaves, (state, shardings)), strict=True):
        assert x.sharding.is_equivalent_to(where, x.ndim)
    owned = [x for x in jax.tree.leaves(shardings) if x.spec != P()]
    assert owned
    with jax.numpy_dtype_promotion("standard"):  # for what is of optax
        _, after = jax.jit(tx.update)(params, state, params)
    for x, where in zip(*map(jax.tree.leaves, (after, shardings)), strict=True):
        assert x.sharding.is_equivalent_to(where, x.ndim)


@pytest.mark.parametrize("mesh", MESHES)
@pytest.mark.parametrize("make", ("float32", "uint8"))
@pytest.mark.rows(2)
def test_any_mesh_gives_the_run_of_one_device(make, mesh):
    """Updated state and parameters bit for bit, the dither included."""
    tx = TRANSFORMATIONS[make]()

    @jax.jit
    def step(k, params, state):
        g = jax.tree.map(lambda p: jnp.sin(p * (k + 1.0) + k), params)
        u, state = tx.update(g, state, params)
        return optax.apply_updates(params, u), state

    def follow(params):
        state = tx.init(params)  # eagerly it is where the parameters are
        for k in range(4):
            params, state = step(jnp.float32(k), params, state)
        return jax.tree.map(np.asarray, (params, state))

    chex.assert_trees_all_equal(follow(placed(mesh_of(mesh))), follow(PARAMS))


@pytest.mark.parametrize("bits", (24, 32))
@pytest.mark.rows(1)
def test_master_weights_on_a_mesh(bits):
    tx = master_weights(rmsprop(1e-3, storage="uint8"), bits=bits)
    alone = narrow(PARAMS)
    params = placed(mesh_of("2x2x2"), alone)

    def follow(params, state):
        for k in range(4):
            g = jax.tree.map(lambda p, k=k: jnp.sin(p * (k + 1.0) + k), params)
            u, state = jax.jit(tx.update)(g, state, params)
            params = optax.apply_updates(params, u)
        return jax.tree.map(np.asarray, (params, state))

    with jax.numpy_dtype_promotion("standard"):
        state = sharding.init_sharded(tx, params, sharding.state_shardings(tx, params))
        assert state.residual["embed"].sharding.spec == P("fsdp", "tensor")
        chex.assert_trees_all_equal(
            follow(params, state), follow(alone, tx.init(alone))
        )


needs_explicit_meshes = pytest.mark.skipif(
    not (hasattr(jax.sharding, "reshard") and hasattr(jax, "set_mesh")),
    reason="explicit meshes came later",
)


@needs_explicit_meshes
def test_explicit_meshes():
    """Under sharding-in-types the state has the type of its parameter."""
    mesh = mesh_of("4x2", AxisType.Explicit)
    with jax.set_mesh(mesh):
        params = placed(mesh)
        tx = TRANSFORMATIONS["uint8"]()
        shardings = sharding.state_shardings(tx, params)
        state = sharding.init_sharded(tx, params, shardings)
        _, after = jax.jit(tx.update)(params, state, params)
        before, after = (
            [jax.typeof(x) for x in jax.tree.leaves(t)] for t in (state, after)
        )
        assert before == after
        assert any(t.sharding.spec == P("fsdp", "tensor") for t in before)


def test_jitted_init_keeps_the_sharding_and_that_of_optax_does_not():
    """Why there is an `init` for any transformation (optax issue 548)."""
    params = placed(mesh_of("8"))
    lost = jax.jit(optax.scale_by_rms().init)(params)
    assert len(lost.nu["embed"].sharding.device_set) == 1
    for storage in STORAGES:
        kept = jax.jit(scale_by_rmsprop(storage=storage).init)(params)
        assert kept.s["embed"].sharding.spec[0] == "fsdp"
    made = sharding.init_sharded(
        optax.scale_by_rms(),
        params,
        sharding.state_shardings(optax.scale_by_rms(), params),
    )
    assert made.nu["embed"].sharding.spec[0] == "fsdp"


def per_device(tree):
    return sum(x.addressable_shards[0].data.nbytes for x in jax.tree.leaves(tree))


def whole(tree):
    return sum(x.nbytes for x in jax.tree.leaves(tree))


WIDE = {"a": jnp.ones((64, 32)), "b": jnp.ones((32, 8)), "c": jnp.ones(16)}


@every_storage
def test_zero1_divides_the_bytes_by_the_axis(storage):
    mesh = make_mesh((8,), ("data",))
    tx = scale_by_rmsprop(centered=True, storage=storage)
    state = sharding.init_sharded(tx, WIDE, sharding.zero1_shardings(tx, WIDE, mesh))
    moments = (state.s, state.m)
    assert per_device(moments) == whole(moments) / 8
    assert sharding.replicated(sharding.zero1_shardings(tx, WIDE, mesh)) == ["step"]


def test_zero1_beside_other_axes_takes_the_largest_dimension():
    mesh = mesh_of("2x2x2")
    tx = scale_by_rmsprop()
    specs = jax.tree.map(lambda spec: spec, SPECS)
    found = sharding.zero1_shardings(tx, PARAMS, mesh, "data", specs).s
    assert found["embed"].spec == P(("fsdp", "data"), "tensor")
    assert found["layer"]["kernel"].spec == P("fsdp", ("tensor", "data"))
    assert found["layer"]["bias"].spec == P(("tensor", "data"))
    assert found["scale"].spec == P()


def test_leaves_that_no_axis_divides_stay_whole_and_are_listed():
    mesh = make_mesh((8,), ("data",))
    params = {"w": jnp.ones((9, 8)), "odd": jnp.ones((9, 12)), "x": jnp.ones(())}
    shardings = sharding.zero1_shardings(scale_by_rmsprop(), params, mesh)
    assert sharding.replicated(shardings) == ["step", "s/odd", "s/x"]
    assert shardings.s["w"].spec == P(None, "data")


def zero1_step(storage, kind=AxisType.Auto):
    """A training step with its batch over the data axis and its state split."""
    mesh = make_mesh((8,), ("data",), kind)
    everywhere, split = NamedSharding(mesh, P()), NamedSharding(mesh, P("data"))
    tx = rmsprop(0.01, momentum=0.9, storage=storage)
    params = jax.device_put({"w": jnp.ones((64, 32)), "b": jnp.zeros(32)}, everywhere)
    x = jax.device_put(jnp.asarray(gradients(1, (16, 64))[0], jnp.float32), split)

    def step(params, state, x):
        def loss(p):
            return jnp.mean((jnp.tanh(x @ p["w"]) + p["b"][None] - 0.5) ** 2)

        u, state = tx.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, u), state

    shardings = sharding.zero1_shardings(tx, params, mesh)
    return tx, params, x, step, shardings, everywhere


@every_storage
def test_zero1_trains_as_replicated(storage):
    tx, params, x, step, shardings, everywhere = zero1_step(storage)
    results = []
    for where in (shardings, sharding.state_shardings(tx, params)):
        state = sharding.init_sharded(tx, params, where)
        jitted = jax.jit(step, out_shardings=(everywhere, where))
        p = params
        for _ in range(5):
            p, state = jitted(p, state, x)
        results.append(jax.tree.map(np.asarray, (p, state)))
    # The gradient is summed over devices in another order; that may turn a rounding.
    (got, _), (want, _) = results
    chex.assert_trees_all_close(got, want, rtol=1e-5, atol=1e-4)


@needs_explicit_meshes
def test_zero1_on_an_explicit_mesh():
    """Gradients of the replicated parameters meet a state that is split."""
    results = []
    for kind in (AxisType.Auto, AxisType.Explicit):
        tx, params, x, step, shardings, everywhere = zero1_step("uint8", kind)
        with jax.set_mesh(everywhere.mesh):
            state = sharding.init_sharded(tx, params, shardings)
            for _ in range(3):
                params, state = jax.jit(step, out_shardings=(everywhere, shardings))(
                    params, state, x
                )
            assert state[0].s["w"].sharding.spec == P("data", None)
        results.append(jax.tree.map(np.asarray, params))
    chex.assert_trees_all_close(*results, rtol=1e-5, atol=1e-4)


@every_storage
def test_zero1_moves_gradients_and_updates_and_never_the_state(storage):
    tx, params, x, step, shardings, everywhere = zero1_step(storage)
    state = sharding.init_sharded(tx, params, shardings)
    jitted = jax.jit(step, out_shardings=(everywhere, shardings))
    text = jitted.lower(params, state, x).compile().as_text()
    gathered = re.findall(r"= \(?(\w+)\[([\d,]*)\]\S* all-gather", text)
    # One for each parameter, in float32: the updates, or the new parameters.
    assert sorted(gathered) == [("f32", "32"), ("f32", "64,32")]
    reduced = re.findall(r"(all-reduce|reduce-scatter)(?:-start)?\(", text)
    assert reduced
    kept = {"float32": "f32", "bfloat16": "bf16", "uint8": "u8"}[storage]
    if storage != "float32":
        moved = re.findall(rf"{kept}\[[\d,]*\]\S* (?:all-|reduce-|collective-)", text)
        assert not moved


def test_shard_map():
    """Each device with its part: float32 as in one piece."""
    mesh = make_mesh((8,), ("x",))
    tx = rmsprop(0.1, centered=True, momentum=0.9)
    params = jnp.asarray(gradients(1, (16, 4))[0], jnp.float32)
    state = tx.init(params)
    specs = sharding.state_shardings(tx, params, P("x"))
    update = jax.shard_map(
        tx.update, mesh=mesh, in_specs=(P("x"), specs), out_specs=(P("x"), specs)
    )
    for _ in range(3):
        want = jax.jit(tx.update)(params, state)
        got = jax.jit(update)(params, state)
        chex.assert_trees_all_close(got, want, rtol=1e-6)
        _, state = want


def test_the_state_of_an_nnx_optimizer():
    mesh = mesh_of("4x2")
    model = nnx.Linear(16, 8, rngs=nnx.Rngs(0))
    tx = rmsprop(0.1, momentum=0.9, storage="uint8")
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    specs = {"kernel": P("fsdp", "tensor"), "bias": P("tensor")}
    where = jax.tree.map(lambda s: NamedSharding(mesh, s), specs)
    params = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    state = nnx.state(optimizer)
    shardings = sharding.shardings_of(state, params, where)
    nnx.update(optimizer, jax.device_put(state, shardings))
    nnx.update(model, jax.device_put(params, where))
    found = optimizer.opt_state[0].s["kernel"][...]
    assert found.sharding.spec == P("fsdp", "tensor")
    assert found.dtype == jnp.uint8

    @nnx.jit
    def step(model, optimizer, x):
        g = nnx.grad(lambda m: jnp.sum(m(x) ** 2))(model)
        optimizer.update(model, g)

    with jax.numpy_rank_promotion("allow"):
        step(model, optimizer, jnp.ones((4, 16)))
    found = optimizer.opt_state[0].s["kernel"][...]
    assert found.sharding.is_equivalent_to(where["kernel"], 2)


def test_the_names_of_parameters_confuse_nothing():
    """Parameters called like fields of states, nested in each other, of one shape."""
    leaf = jnp.ones((8, 8))
    params = {"s": {"w": leaf, "s": leaf}, "w": leaf, "trace": {"s": leaf}}
    specs = {"s": {"w": P("a"), "s": P("b")}, "w": P("c"), "trace": {"s": P("d")}}
    tx = rmsprop(0.1, centered=True, momentum=0.9)
    found = sharding.state_shardings(tx, params, specs)
    of_state = sharding.shardings_of(tx.init(params), params, specs)
    for state in (found, of_state):
        assert (state[0].s, state[0].m, state[2].trace) == (specs, specs, specs)
        assert state[0].step == P()
    mask = {"s": {"w": False, "s": False}, "w": True, "trace": {"s": False}}
    found = sharding.state_shardings(
        optax.masked(optax.trace(0.9), mask), params, specs
    )
    assert jax.tree.leaves(found) == [P("c")]


def test_a_state_that_fits_in_two_ways_is_refused():
    leaf = jnp.ones((8, 8))
    params = {"trace": {"w": leaf}, "w": leaf}
    specs = {"trace": {"w": P("a")}, "w": P("b")}
    tx = optax.masked(optax.trace(0.9), {"trace": {"w": False}, "w": True})
    with pytest.raises(ValueError, match=r"in two ways.*sharding.state_shardings\(tx"):
        sharding.shardings_of(tx.init(params).inner_state, params, specs)
    assert jax.tree.leaves(sharding.state_shardings(tx, params, specs)) == [P("b")]


HOST = "pinned_host"
needs_memory_spaces = pytest.mark.skipif(
    not hasattr(jax, "memory"), reason="JAX before 0.7.1 has no jax.memory"
)


@needs_memory_spaces
@pytest.mark.parametrize("kind", (AxisType.Auto, AxisType.Explicit))
def test_state_of_parameters_in_host_memory(kind):
    """It is created in host memory, by `init` and under jit, and by the helpers."""
    mesh = jax.make_mesh((8,), ("x",), axis_types=(kind,))
    where = NamedSharding(mesh, P("x"), memory_kind=HOST)
    params = {"w": jax.device_put(jnp.ones((16, 4)), where)}
    tx = rmsprop(0.1, centered=True, momentum=0.9, storage="uint8")
    with jax.set_mesh(mesh):
        shardings = sharding.state_shardings(tx, params)
        states = [
            tx.init(params),
            jax.jit(tx.init)(params),
            sharding.init_sharded(tx, params, shardings),
        ]
        given = {"w": where}
        further = sharding.zero1_shardings(tx, params, mesh, "x", given)
    for state in (*states, shardings, further):
        kept = (state[0].s, state[0].m, state[2].trace)
        for x in jax.tree.leaves(kept):
            found = getattr(x, "sharding", x)
            assert (found.memory_kind, found.spec[0]) == (HOST, "x")


@needs_memory_spaces
@pytest.mark.parametrize("storage", ("float32", "uint8"))
def test_state_in_host_memory_is_streamed_through_the_device(storage):
    """Equal bit for bit to a run in device memory; the state never stays on it."""
    mesh = make_mesh((8,), ("x",))
    tx = rmsprop(0.1, centered=True, momentum=0.9, storage=storage)
    params = {"w": jnp.linspace(-1, 1, 64).reshape(16, 4)}
    params = jax.device_put(params, NamedSharding(mesh, P("x")))

    def follow(tx, kind):
        where = jax.tree.map(
            lambda x: NamedSharding(mesh, x.spec, memory_kind=kind),
            sharding.state_shardings(tx, params),
        )
        state = jax.device_put(tx.init(params), where)
        p, step = params, jax.jit(tx.update, donate_argnums=1)
        for _ in range(3):
            u, state = step(p, state, p)
            p = optax.apply_updates(p, u)
        return jax.tree.map(np.asarray, (p, state)), state

    want, _ = follow(tx, None)
    got, state = follow(sharding.streamed(tx), HOST)
    chex.assert_trees_all_equal(got, want)
    assert {x.sharding.memory_kind for x in jax.tree.leaves(state)} == {HOST}


@needs_memory_spaces
def test_parameters_and_state_in_host_memory():
    """The pattern of docs/many-devices.md for parameters in host memory."""
    host = jax.sharding.SingleDeviceSharding(jax.devices()[0], memory_kind=HOST)
    tx = sharding.streamed(rmsprop(0.1))
    params = jax.device_put(jnp.ones(4), host)
    state = tx.init(params)

    @jax.jit
    def step(params, state, g):
        here = jax.device_put(params, jax.memory.Space.Device)
        u, state = tx.update(g, state, here)
        moved = optax.apply_updates(here, u)
        return jax.device_put(moved, jax.memory.Space.Host), state

    g = jnp.ones(4)
    moved, state = step(params, state, g)
    plain = rmsprop(0.1)
    want = 1 + plain.update(g, plain.init(g))[0]
    np.testing.assert_array_equal(moved, want)
    assert {moved.sharding.memory_kind, state[0].s.sharding.memory_kind} == {HOST}


@pytest.mark.parametrize("masters", (False, True))
@pytest.mark.rows(2)
def test_sharding_metadata_of_flax_is_copied_to_a_state(masters):
    """nnx gives each leaf of a state the metadata of its parameter."""
    if not hasattr(jax, "set_mesh"):
        pytest.skip("JAX before 0.8 has no jax.set_mesh")
    part, init = nnx.with_partitioning, nnx.initializers

    class Net(nnx.Module):
        def __init__(self, rngs):
            embedding = part(init.normal(), ("y", None))
            kernel = part(init.lecun_normal(), (None, "y"))
            self.embed = nnx.Embed(16, 8, embedding_init=embedding, rngs=rngs)
            self.dense = nnx.Linear(
                8, 8, param_dtype=jnp.bfloat16, kernel_init=kernel, rngs=rngs
            )

        def __call__(self, ids):
            return self.dense(self.embed(ids))

    tx = rmsprop(1e-3, storage="uint8", momentum=0.9)
    tx = master_weights(tx) if masters else tx

    @nnx.jit
    def start():
        model = Net(nnx.Rngs(0))
        return model, nnx.Optimizer(model, tx, wrt=nnx.Param)

    @nnx.jit
    def step(model, optimizer):
        g = nnx.grad(lambda m: jnp.mean(m(jnp.arange(4)) ** 2))(model)
        optimizer.update(model, g)

    ranks, dtypes = (
        jax.numpy_rank_promotion("allow"),
        jax.numpy_dtype_promotion("standard"),
    )
    with jax.set_mesh(make_mesh((4, 2), ("x", "y"))), ranks, dtypes:
        model, optimizer = start()
        before = model.dense.kernel[...]
        step(model, optimizer)
        assert not jnp.array_equal(model.dense.kernel[...], before)


ERRORS = [
    (dict(param_shardings={"w": P("x")}), ValueError, "must be a tree like"),
    (
        dict(param_shardings={"w": P("x"), "b": 3}),
        TypeError,
        "at 'b' must be a Named.*3",
    ),
    (
        dict(param_shardings={"w": P(), "b": P(None, "x")}),
        ValueError,
        "at 'b'.*more dim",
    ),
    (dict(), TypeError, "at 'b' must be.*SingleDevice(.|\n)*param_shardings"),
]


@pytest.mark.parametrize(("options", "kind", "match"), ERRORS)
def test_wrong_shardings_are_refused_by_name(options, kind, match):
    params = {"w": jnp.ones((8, 4)), "b": jnp.ones(4)}
    with pytest.raises(kind, match=match):
        sharding.state_shardings(scale_by_rmsprop(), params, **options)


def test_wrong_meshes_and_axes_are_refused_by_name():
    mesh, other = make_mesh((8,), ("x",)), make_mesh((4, 2), ("x", "y"))
    params, tx = {"w": jnp.ones((8, 4)), "b": jnp.ones(12)}, scale_by_rmsprop()
    mixed = {"w": NamedSharding(other, P("x")), "b": NamedSharding(mesh, P())}
    with pytest.raises(ValueError, match="at 'w' is on another mesh"):
        sharding.state_shardings(tx, params, mixed)
    uneven = {"w": NamedSharding(mesh, P("x")), "b": NamedSharding(mesh, P("x"))}
    with pytest.raises(ValueError, match="at 'b'.*dimension of 12 into 8"):
        sharding.state_shardings(tx, params, uneven)
    with pytest.raises(ValueError, match=r"axis=...\)` must be one of.*'x'.*'data'"):
        sharding.zero1_shardings(tx, params, mesh)
    with pytest.raises(
        ValueError, match=r"sharding.init_sharded\(shardings\)` must be a tree"
    ):
        sharding.init_sharded(tx, params, {"w": P()})


SAVED = ("8", "4", "1", "2x4", "zero1")


def layout(tx, params, name):
    """Put parameters and state on the first devices, as the name says."""
    devices = np.asarray(jax.devices())
    shape = {"8": (8,), "4": (4,), "1": (1,), "2x4": (2, 4), "zero1": (8,)}[name]
    mesh = jax.sharding.Mesh(
        devices[: np.prod(shape)].reshape(shape), ("x", "y")[: len(shape)]
    )
    spec = P() if name == "zero1" else P(*("x", "y")[: len(shape)])
    params = jax.device_put(params, NamedSharding(mesh, spec))
    if name == "zero1":
        return params, sharding.zero1_shardings(tx, params, mesh, "x")
    return params, sharding.state_shardings(tx, params)


@pytest.mark.parametrize(
    ("before", "after"),
    [("8", "4"), ("8", "1"), ("8", "2x4"), ("zero1", "8"), ("1", "zero1")],
)
@every_storage
@pytest.mark.rows(5)
def test_a_checkpoint_goes_on_on_another_mesh(before, after, storage, tmp_path):
    """Saved on one mesh, restored on another: the step is that not interrupted."""
    tx = rmsprop(0.1, centered=True, momentum=0.9, storage=storage)
    values = {"w": jnp.asarray(gradients(1, (16, 8))[0], jnp.float32)}
    params, shardings = layout(tx, values, before)
    state = sharding.init_sharded(tx, params, shardings)
    _, state = jax.jit(tx.update)(params, state, params)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "step", state)
    other, wanted = layout(tx, values, after)
    like = jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), state, wanted
    )
    restored = orbax.restore(tmp_path / "step", like)
    for x, where in zip(*map(jax.tree.leaves, (restored, wanted)), strict=True):
        assert x.sharding.is_equivalent_to(where, x.ndim)
    want = jax.jit(tx.update)(params, state, params)
    got = jax.jit(tx.update)(other, restored, other)
    chex.assert_trees_all_equal(*(jax.tree.map(np.asarray, x) for x in (got, want)))
