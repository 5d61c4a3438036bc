"""The optimizer inside the libraries that people use it with.

By default in one byte of storage, which asks most of a library, and in the wrappers of
optax that `test_conformance.py` does not compare; the long tests do the rest.
"""

import functools
import pickle
import subprocess
import sys
import warnings

import chex
import cloudpickle
import equinox
import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import optax
import optimistix
import orbax.checkpoint as ocp
import pytest
from cases import quick_jit
from flax import linen, nnx
from flax.training.train_state import TrainState

from rmsprop_jax import (
    RMSPropState,
    dialects,
    master_weights,
    restore_master_weights,
    rmsprop,
    scale_by_rmsprop,
)

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # haiku uses what JAX deprecates
    import haiku


def late(values, *soon):
    """Leave to the long tests all values but some."""
    return [x if x in soon else pytest.param(x, marks=pytest.mark.long) for x in values]


STORAGES = ("float32", "bfloat16", "uint8")
every_storage = pytest.mark.parametrize("storage", late(STORAGES, "uint8"))
X = np.random.default_rng(0).standard_normal((64, 6)).astype(np.float32)
Y = np.tanh(X @ np.linspace(-1, 1, 12, dtype=np.float32).reshape(6, 2))
PARAMS = {"w": jnp.asarray(X[:6, :2] / 3), "b": jnp.zeros(2)}


@pytest.fixture(autouse=True)
def as_users_have_it():
    """Promote as users do: optax and Flax are not written for strict promotion."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def loss(params, x=X, y=Y):
    return jnp.mean((jnp.tanh(x @ params["w"]) + params["b"] - y) ** 2)


def train(tx, params=PARAMS, steps=12, **extra):
    """Return the parameters after each step, and the last state."""

    @quick_jit
    def step(params, state, part):
        x, y = (jax.lax.dynamic_slice_in_dim(a, part, 16) for a in (X, Y))
        value, g = jax.value_and_grad(loss)(params, x, y)
        given = {k: value for k in extra}
        u, state = tx.update(g, state, params, **given)
        return optax.apply_updates(params, u), state

    state, path = tx.init(params), []
    for k in range(steps):
        params, state = step(params, state, 16 * (k % 4))
        path.append(params)
    return path, state


def alternate(tx):
    return optax.partition({"train": tx, "freeze": optax.set_to_zero()}, LABELS)


LABELS = {"w": "train", "b": "freeze"}
WRAPPERS = {
    "alone": lambda tx: tx,
    "chain": lambda tx: optax.chain(optax.clip_by_global_norm(0.5), tx),
    "named_chain": lambda tx: optax.named_chain(("clip", optax.clip(0.1)), ("tx", tx)),
    "masked": lambda tx: optax.masked(tx, {"w": True, "b": False}),
    "partition": alternate,
    "MultiSteps": lambda tx: optax.MultiSteps(tx, 4).gradient_transformation(),
    "apply_if_finite": lambda tx: optax.apply_if_finite(tx, 3),
    "flatten": optax.flatten,
    "schedule_free": lambda tx: optax.contrib.schedule_free(tx, 0.01),
    "mechanize": optax.contrib.mechanize,
    "ema": lambda tx: optax.chain(tx, optax.ema(0.9)),
    "add_decayed_weights": lambda tx: optax.chain(optax.add_decayed_weights(0.1), tx),
    "centralize": lambda tx: optax.chain(optax.centralize(), tx),
    "clip_block": lambda tx: optax.chain(optax.adaptive_grad_clip(0.1), tx),
    "sam": lambda tx: optax.contrib.sam(
        tx, optax.chain(optax.contrib.normalize(), optax.sgd(0.01)), sync_period=2
    ),
    "trust_ratio": lambda tx: optax.chain(
        tx, optax.scale_by_trust_ratio(), optax.scale(0.01)
    ),
    "with_extra_args": optax.with_extra_args_support,
    "conditionally": lambda tx: optax.conditionally_transform(tx, lambda k: k > 3),
    "freeze": lambda tx: optax.transforms.freeze({"w": False, "b": True}),
}


SOON = ("alone", "MultiSteps", "apply_if_finite", "conditionally", "freeze")


@pytest.mark.parametrize("wrapper", late(WRAPPERS, *SOON))
@pytest.mark.rows(10)
def test_inside_a_wrapper_of_optax_it_is_the_optimizer_of_optax(wrapper):
    """In float32 both are the same algorithm, and so is anything around them."""
    wrap = WRAPPERS[wrapper]
    want, _ = train(wrap(optax.rmsprop(0.01, momentum=0.9)))
    got, _ = train(wrap(rmsprop(0.01, momentum=0.9)))
    chex.assert_trees_all_close(got, want, rtol=2e-5, atol=2e-6)
    if wrapper not in ("freeze", "mechanize"):  # the one stays, the other starts slow
        assert float(jnp.max(jnp.abs(got[-1]["w"] - PARAMS["w"]))) > 1e-3


def test_lookahead():
    def follow(tx):
        tx = optax.lookahead(tx, sync_period=3, slow_step_size=0.5)
        params = optax.LookaheadParams.init_synced(PARAMS)
        state = tx.init(params)

        @quick_jit
        def step(params, state):
            u, state = tx.update(jax.grad(loss)(params.fast), state, params)
            return optax.apply_updates(params, u), state

        for _ in range(7):
            params, state = step(params, state)
        return params

    want, got = follow(optax.rmsprop(0.01)), follow(rmsprop(0.01))
    chex.assert_trees_all_close(got, want, rtol=2e-5, atol=2e-6)


def test_reduce_on_plateau():
    def wrap(tx):
        return optax.chain(tx, optax.contrib.reduce_on_plateau(patience=1, cooldown=1))

    want, _ = train(wrap(optax.rmsprop(0.1)), value=True)
    got, state = train(wrap(rmsprop(0.1)), value=True)
    chex.assert_trees_all_close(got, want, rtol=2e-5, atol=2e-6)
    assert float(optax.tree.get(state, "scale")) < 1


@every_storage
@pytest.mark.rows(1)
def test_multi_steps_moves_by_the_mean(storage):
    tx = rmsprop(0.01, storage=storage)
    many = optax.MultiSteps(tx, 4)
    gs = [jax.tree.map(lambda x, k=k: x * 0 + k + 1.0, PARAMS) for k in range(4)]
    state, update = many.init(PARAMS), jax.jit(many.update)
    for g in gs[:3]:
        u, state = update(g, state, PARAMS)
        chex.assert_trees_all_equal(u, jax.tree.map(jnp.zeros_like, u))
    u, _ = update(gs[3], state, PARAMS)
    mean = jax.tree.map(lambda *x: sum(x) / 4, *gs)
    want, _ = jax.jit(tx.update)(mean, tx.init(PARAMS), PARAMS)
    chex.assert_trees_all_close(u, want, rtol=1e-6)


@every_storage
@pytest.mark.rows(1)
def test_apply_if_finite_leaves_the_state_alone(storage):
    tx = optax.apply_if_finite(rmsprop(0.01, momentum=0.9, storage=storage), 3)
    update = jax.jit(tx.update)
    _, state = update(PARAMS, tx.init(PARAMS), PARAMS)
    bad = jax.tree.map(lambda x: x * jnp.nan, PARAMS)
    u, after = update(bad, state, PARAMS)
    chex.assert_trees_all_equal(u, jax.tree.map(jnp.zeros_like, u))
    chex.assert_trees_all_equal(after.inner_state, state.inner_state)


@every_storage
@pytest.mark.rows(1)
def test_flax_nnx(storage):
    model = nnx.Sequential(
        nnx.Linear(6, 8, rngs=nnx.Rngs(0)), nnx.relu, nnx.Linear(8, 1, rngs=nnx.Rngs(1))
    )
    tx = rmsprop(0.01, momentum=0.9, storage=storage)
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)

    @nnx.jit
    def step(model, optimizer):
        value, g = nnx.value_and_grad(lambda m: jnp.mean((m(X) - Y) ** 2))(model)
        optimizer.update(model, g)
        return value

    values = [float(step(model, optimizer)) for _ in range(25)]
    assert values[-1] < 0.5 * values[0]


@every_storage
@pytest.mark.rows(1)
def test_flax_linen(storage):
    model = linen.Dense(1)
    state = TrainState.create(
        apply_fn=model.apply,
        params=model.init(jax.random.key(0), X)["params"],
        tx=rmsprop(0.02, momentum=0.9, storage=storage),
    )

    @jax.jit
    def step(state):
        def value(params):
            return jnp.mean((state.apply_fn({"params": params}, X) - Y) ** 2)

        value, g = jax.value_and_grad(value)(state.params)
        return state.apply_gradients(grads=g), value

    values = []
    for _ in range(25):
        state, value = step(state)
        values.append(float(value))
    assert values[-1] < 0.7 * values[0]


@every_storage
@pytest.mark.rows(1)
def test_equinox(storage):
    """Layers with functions among their leaves: only the arrays are trained."""
    model = equinox.nn.MLP(6, 1, 8, 1, key=jax.random.key(0))
    tx = rmsprop(0.01, momentum=0.9, storage=storage)
    state = tx.init(equinox.filter(model, equinox.is_inexact_array))

    @equinox.filter_jit
    def step(model, state):
        @equinox.filter_value_and_grad
        def value(model):
            return jnp.mean((jax.vmap(model)(X) - Y) ** 2)

        value, g = value(model)
        params = equinox.filter(model, equinox.is_inexact_array)
        u, state = tx.update(g, state, params)
        return equinox.apply_updates(model, u), state, value

    values = []
    for _ in range(25):
        model, state, value = step(model, state)
        values.append(float(value))
    assert values[-1] < 0.5 * values[0]


@every_storage
@pytest.mark.rows(1)
def test_haiku(storage):
    net = haiku.without_apply_rng(haiku.transform(lambda x: haiku.nets.MLP([8, 1])(x)))
    params = net.init(jax.random.key(0), X)
    tx = rmsprop(0.01, momentum=0.9, storage=storage)

    @jax.jit
    def step(params, state):
        value, g = jax.value_and_grad(lambda p: jnp.mean((net.apply(p, X) - Y) ** 2))(
            params
        )
        u, state = tx.update(g, state, params)
        return optax.apply_updates(params, u), state, value

    state, values = tx.init(params), []
    for _ in range(25):
        params, state, value = step(params, state)
        values.append(float(value))
    assert values[-1] < 0.5 * values[0]


@every_storage
@pytest.mark.rows(1)
def test_optimistix(storage):
    solver = optimistix.OptaxMinimiser(
        rmsprop(0.02, storage=storage), rtol=1e-3, atol=1e-3
    )
    # It differentiates nothing but the loss, so that narrow storage serves too.
    found = optimistix.minimise(
        lambda p, _: loss(p), solver, PARAMS, max_steps=300, throw=False
    )
    assert float(loss(found.value)) < 0.5 * float(loss(PARAMS))


@pytest.mark.parametrize("dtype", late((jnp.float32, jnp.bfloat16), jnp.bfloat16))
def test_all_numbers_injected(dtype):
    """They are read and set between steps, as float32 for bfloat16 parameters too."""
    params = jax.tree.map(lambda x: x.astype(dtype), PARAMS)
    schedule = optax.linear_schedule(0.01, 0.001, 10)
    numbers = dict(decay=0.999, eps=1e-6, momentum=0.9, weight_decay=0.01)
    tx = optax.inject_hyperparams(rmsprop, hyperparam_dtype=jnp.float32)(
        learning_rate=schedule, **numbers
    )
    want, _ = train(rmsprop(schedule, **numbers), params)
    got, state = train(tx, params)
    # The two programs are fused otherwise, and bfloat16 rounds what differs.
    close = dict(rtol=2e-5, atol=2e-5) if dtype == jnp.float32 else dict(atol=0.02)
    chex.assert_trees_all_close(got, want, **close)
    assert state.hyperparams["decay"].dtype == jnp.float32
    state.hyperparams["decay"] = jnp.float32(0.0)
    g = jax.tree.map(jnp.ones_like, params)
    _, state = tx.update(g, state, params)
    s = optax.tree.get(state, "s")
    assert float(jnp.abs(s["w"] - (1 + 0.01 * params["w"].astype("f4")) ** 2).max()) < (
        1e-2
    )


def test_a_dialect_is_injected_with_its_defaults():
    """A default of 0 is an integer, and stays one."""
    tx = optax.inject_hyperparams(dialects.torch)(lr=0.01)
    path, _ = train(tx)
    want, _ = train(dialects.torch(lr=0.01))
    chex.assert_trees_all_close(path, want, rtol=2e-5, atol=2e-6)


def test_equal_arguments_give_equal_transformations():
    """So that `jax.jit` with a static one compiles once (optax issue 353)."""
    for make in (
        lambda: rmsprop(0.1, momentum=0.9, storage="uint8"),
        lambda: scale_by_rmsprop(decay=0.99),
        lambda: master_weights(rmsprop(0.1), bits=32),
        lambda: dialects.keras(0.1, rho=0.5),
    ):
        assert make() == make() and hash(make()) == hash(make())
    assert rmsprop(0.1) != rmsprop(0.2)
    assert rmsprop(0.1) != rmsprop(0.1, storage="uint8")
    # An array cannot be hashed, and still serves.
    assert rmsprop(jnp.asarray(0.1)) != rmsprop(jnp.asarray(0.1))


@pytest.mark.parametrize("storage", STORAGES)
def test_tree_get_set_and_map_params(storage):
    schedule = optax.constant_schedule(0.1)
    options = dict(centered=True, momentum=0.9)
    tx = optax.chain(optax.clip(1.0), rmsprop(schedule, **options, storage=storage))
    state = tx.init(PARAMS)
    for name in ("s", "m", "trace"):
        assert optax.tree.get(state, name) is not None
    theirs = optax.rmsprop(schedule, **options).init(PARAMS)
    assert optax.tree.get(state, "count") == optax.tree.get(theirs, "count")
    again = optax.tree.set(state, count=jnp.asarray(7, jnp.int32))
    assert int(optax.tree.get(again, "count")) == 7
    specs = {"w": "rows", "b": "none"}
    named = optax.tree.map_params(
        tx, lambda _, spec: spec, state, specs, transform_non_params=lambda _: "one"
    )
    assert optax.tree.get(named, "s") == optax.tree.get(named, "trace") == specs
    assert optax.tree.get(named, "count") == "one"


@every_storage
def test_a_scan_is_the_loop(storage):
    tx = rmsprop(0.01, momentum=0.9, storage=storage)

    def step(carry, _):
        params, state = carry
        u, state = tx.update(jax.grad(loss)(params), state, params)
        return (optax.apply_updates(params, u), state), None

    start = (PARAMS, tx.init(PARAMS))
    scanned, _ = jax.jit(lambda c: jax.lax.scan(step, c, length=10))(start)
    looped = start
    once = jax.jit(lambda c: step(c, None)[0])
    for _ in range(10):
        looped = once(looped)
    chex.assert_trees_all_close(scanned[0], looped[0], rtol=1e-4, atol=1e-5)
    chex.assert_trees_all_equal_shapes_and_dtypes(scanned, start)


@every_storage
def test_a_sweep_of_64_learning_rates_in_one_jit(storage):
    rates = jnp.logspace(-4, 0, 64)

    def end(rate):
        tx = rmsprop(rate, storage=storage)

        def step(carry, _):
            params, state = carry
            u, state = tx.update(jax.grad(loss)(params), state, params)
            return (optax.apply_updates(params, u), state), None

        start = (PARAMS, tx.init(PARAMS))
        return loss(jax.lax.scan(step, start, length=40)[0][0])

    ends = jax.jit(jax.vmap(end))(rates)
    assert ends.shape == (64,)
    best = int(jnp.argmin(ends))
    assert 0 < best < 63
    np.testing.assert_allclose(ends[best], jax.jit(end)(rates[best]), rtol=2e-2)


@pytest.mark.parametrize("rematerialized", late((False, True), True))
@pytest.mark.rows(1)
def test_the_learning_rate_is_learned_through_twenty_steps(rematerialized):
    def end(log_rate):
        tx = rmsprop(jnp.exp(log_rate), momentum=0.9)

        def step(carry, _):
            params, state = carry
            u, state = tx.update(jax.grad(loss)(params), state, params)
            return (optax.apply_updates(params, u), state), None

        step = jax.checkpoint(step) if rematerialized else step
        start = (PARAMS, tx.init(PARAMS))
        return loss(jax.lax.scan(step, start, length=20)[0][0])

    both = jax.jit(jax.value_and_grad(end))
    log_rate, values = jnp.asarray(-7.0), []
    for _ in range(10):
        value, slope = both(log_rate)
        log_rate = log_rate - 0.5 * jnp.sign(slope)
        values.append(float(value))
    assert values[-1] < 0.7 * values[0]
    high, low = (both(log_rate + x)[0] for x in (1e-2, -1e-2))
    slope, difference = both(log_rate)[1], (high - low) / 2e-2
    np.testing.assert_allclose(slope, difference, rtol=0.05, atol=1e-3)


@functools.cache
def states(storage):
    """A chained, masked and scheduled optimizer, some way into its run."""
    tx = optax.chain(
        optax.clip(1.0),
        optax.masked(
            rmsprop(
                optax.linear_schedule(0.1, 0, 100),
                centered=True,
                momentum=0.9,
                storage=storage,
            ),
            {"w": True, "b": False},
        ),
    )
    path, state = train(tx, steps=3)
    return tx, path[-1], state


def go_on(tx, params, state):
    for _ in range(3):
        u, state = jax.jit(tx.update)(jax.grad(loss)(params), state, params)
        params = optax.apply_updates(params, u)
    return params, state


def by_orbax(state, params, like, folder):
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder / "step", (params, state))
    with ocp.StandardCheckpointer() as checkpointer:
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, (params, like))
        return checkpointer.restore(folder / "step", abstract)[1]


def by_flax(state, params, like, folder):
    return flax.serialization.from_bytes(like, flax.serialization.to_bytes(state))


def by_pickle(state, params, like, folder):
    return pickle.loads(pickle.dumps(state))


@every_storage
@pytest.mark.parametrize("way", (by_orbax, by_flax, by_pickle))
@pytest.mark.rows(3)
def test_a_saved_state_is_restored_as_it_was(way, storage, tmp_path):
    """With its classes and dtypes; the run continues bit for bit, and donates."""
    tx, params, state = states(storage)
    restored = way(state, params, tx.init(params), tmp_path)
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    chex.assert_trees_all_equal_dtypes(restored, state)
    chex.assert_trees_all_equal(restored, state)
    restored = jax.tree.map(jnp.asarray, restored)
    chex.assert_trees_all_equal(go_on(tx, params, restored), go_on(tx, params, state))
    step = jax.jit(lambda s: tx.update(params, s, params)[1], donate_argnums=0)
    jax.block_until_ready(step(restored))
    kept = [x for x in jax.tree.leaves(restored) if x.nbytes > 4]
    assert kept and all(x.is_deleted() for x in kept)


@pytest.mark.long
def test_a_transformation_is_cloudpickled():
    """From another process, with its options."""
    code = (
        "import sys, cloudpickle, rmsprop_jax\n"
        "tx = rmsprop_jax.rmsprop(0.01, momentum=0.9, storage='uint8')\n"
        "sys.stdout.buffer.write(cloudpickle.dumps(tx))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    want, state = train(rmsprop(0.01, momentum=0.9, storage="uint8"))
    got, again = train(cloudpickle.loads(done.stdout))
    chex.assert_trees_all_equal(got[-1], want[-1])
    chex.assert_trees_all_equal(again, state)


def test_part_of_a_state_is_reset():
    tx = rmsprop(0.01, momentum=0.9)
    _, state = train(tx)
    fresh = optax.tree.get(tx.init(PARAMS), "s")
    state = optax.tree.set(state, s={**optax.tree.get(state, "s"), "b": fresh["b"]})
    kept = [x for x in jax.tree.leaves(state, is_leaf=is_moments) if is_moments(x)]
    chex.assert_trees_all_equal(kept[0].s["b"], jnp.zeros(2))
    assert float(jnp.min(kept[0].s["w"])) > 0


def is_moments(node):
    return isinstance(node, RMSPropState)


def test_master_weights_through_the_ecosystem(tmp_path):
    """Injected and chained, saved and restored, with a leaf of float32 beside."""
    params = {**PARAMS, "w": PARAMS["w"].astype(jnp.bfloat16)}
    tx = optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.inject_hyperparams(
            lambda learning_rate: master_weights(
                rmsprop(learning_rate, momentum=0.9, storage="uint8")
            ),
        )(0.01),
    )
    path, state = train(tx, params, steps=30)
    weights = restore_master_weights(path[-1], state)
    assert float(loss(weights)) < 0.6 * float(loss(PARAMS))
    restored = by_orbax(state, path[-1], tx.init(params), tmp_path)
    chex.assert_trees_all_equal(restored, state)
    chex.assert_trees_all_equal(restore_master_weights(path[-1], restored), weights)


def test_scale_by_rmsprop_is_the_first_link_of_any_chain():
    ours = optax.chain(
        scale_by_rmsprop(), optax.trace(0.9), optax.scale_by_learning_rate(0.01)
    )
    theirs = optax.chain(
        optax.scale_by_rms(0.9, eps_in_sqrt=True),
        optax.trace(0.9),
        optax.scale_by_learning_rate(0.01),
    )
    chex.assert_trees_all_close(train(ours)[0], train(theirs)[0], rtol=2e-5, atol=2e-6)
