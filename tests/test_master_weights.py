"""16-bit parameters that lose nothing."""

import pickle
import subprocess
import sys

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen, nnx
from flax.training.train_state import TrainState

from rmsprop_jax import (
    MasterWeightsState,
    master_weights,
    restore_master_weights,
    rmsprop,
    split_master_weights,
)
from rmsprop_jax._dither import Dither
from rmsprop_jax._number_lines import join, move, split

NARROW = (jnp.bfloat16, jnp.float16)
# Between neighbours: float16 has three bits of mantissa more than bfloat16.
LAST_PLACE = {
    (jnp.bfloat16, 24): 2.0**-15,
    (jnp.float16, 24): 2.0**-18,
    (jnp.bfloat16, 32): 2.0**-23,
    (jnp.float16, 32): 2.0**-23,
}
every_dtype = pytest.mark.parametrize("dtype", NARROW)
every_size = pytest.mark.parametrize("bits", (24, 32))


@pytest.fixture(autouse=True)
def standard_promotion():
    """Updates are float32 and parameters narrow: `apply_updates` promotes."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def values(dtype, n=20_000):
    """Float32 values over the range of a 16-bit type, and its landmarks."""
    rng = np.random.default_rng(0)
    low, high = (-24, 15.9) if dtype == jnp.float16 else (-120, 127)
    x = np.exp2(rng.uniform(low, high, n)) * rng.choice([-1, 1], n)
    marks = [0.0, 1.0, -1.0, 2.0**-14, 2.0**-14 * (1 - 2.0**-24), 1 - 2.0**-24]
    return jnp.asarray(np.concatenate([x, marks]).astype(np.float32))


@every_dtype
@every_size
def test_split_and_join_keep_the_bits_promised(dtype, bits):
    x = values(dtype)
    p, residual = split(x, dtype, bits)
    assert (p.dtype, residual.dtype.itemsize) == (dtype, bits // 8 - 2)
    error = jnp.abs(join(p, residual) - x)
    # Below 6e-5 float16 has steps of 2**-24, and 8 or 16 bits more.
    floor = 2.0**-14 if dtype == jnp.float16 else 0.0
    allowed = 0.503 * LAST_PLACE[dtype, bits] * jnp.maximum(jnp.abs(x), floor)
    assert bool(jnp.all(error <= allowed))
    if bits == 32 and dtype == jnp.bfloat16:
        chex.assert_trees_all_equal(join(p, residual), x)
    if bits == 32:
        half_a_place = float(jnp.finfo(dtype).eps) / 2
        assert bool(
            jnp.all(
                jnp.abs(p.astype(jnp.float32) - x)
                <= 1.001
                * jnp.maximum(
                    half_a_place * jnp.abs(x), 2.0**-25 if dtype == jnp.float16 else 0
                )
            )
        )


@every_dtype
@every_size
def test_split_saturates_and_keeps_nan_and_inf(dtype, bits):
    x = jnp.asarray([jnp.inf, -jnp.inf, jnp.nan, 3.4e38, -3.4e38, 0.0])
    p, residual = split(x, dtype, bits)
    largest = float(jnp.finfo(dtype).max)
    want = [np.inf, -np.inf, np.nan, largest, -largest, 0.0]
    np.testing.assert_array_equal(p.astype(jnp.float32), want)
    back = np.asarray(join(p, residual))
    np.testing.assert_array_equal(back[[0, 1, 2, 5]], np.asarray(want)[[0, 1, 2, 5]])
    assert np.all(np.isfinite(back[3:5]))


def problem(dtype):
    """A quadratic in a few coordinates of very different size; noisy gradients."""
    rng = np.random.default_rng(3)
    start = (rng.standard_normal(64) * 10.0 ** rng.uniform(-3, 1, 64)).astype("f4")
    gs = rng.standard_normal((60, 64)).astype("f4") + 0.3
    return jnp.asarray(start).astype(dtype), jnp.asarray(gs).astype(dtype)


def follow(tx, params, gs):
    state = tx.init(params)
    step = jax.jit(tx.update)
    for g in gs:
        u, state = step(g, state, params)
        params = optax.apply_updates(params, u)
    return params, state


@every_dtype
@pytest.mark.parametrize("inner", ("rmsprop", "adamw", "sgd"))
@pytest.mark.rows(2)
def test_32_bits_are_float32_master_weights(dtype, inner):
    """Equal to a float32 copy kept beside the parameters, within float32 rounding."""
    make = {
        "rmsprop": lambda: rmsprop(1e-3, momentum=0.9, weight_decay=0.01),
        "adamw": lambda: optax.adamw(1e-3),
        "sgd": lambda: optax.sgd(1e-3, momentum=0.9),
    }[inner]
    params, gs = problem(dtype)
    p, state = follow(master_weights(make(), bits=32), params, gs)
    w, _ = follow(make(), params.astype(jnp.float32), gs.astype(jnp.float32))
    got = restore_master_weights(p, state)
    scale = jnp.maximum(jnp.abs(w), jnp.abs(params.astype(jnp.float32)))
    assert bool(jnp.all(jnp.abs(got - w) <= len(gs) * 2.0**-23 * scale + 1e-9))
    near = got.astype(dtype)
    assert np.mean(np.asarray(p == near)) > 0.98  # but for ties


@every_dtype
@pytest.mark.rows(1)
def test_24_bits_are_unbiased(dtype):
    """10,000 steps of a 64th of the last place: nearest rounding would not move."""
    n, steps = 4096, 10_000
    params = jnp.ones(n, dtype)
    params = params * 1.5  # in the middle of a binade
    step = LAST_PLACE[dtype, 24] / (64 if dtype == jnp.bfloat16 else 16)
    tx = master_weights(optax.sgd(1.0))
    g = jnp.full(n, step, jnp.float32)

    @jax.jit
    def run(params, state):
        def step(carry, _):
            p, state = carry
            u, state = tx.update(g, state, p)
            return (optax.apply_updates(p, u), state), None

        return jax.lax.scan(step, (params, state), length=steps)[0]

    p, state = run(params, tx.init(params))
    w = restore_master_weights(p, state)
    np.testing.assert_allclose(jnp.mean(1.5 - w), steps * step, rtol=0.01)
    # That of a sum of as many draws, and so not the same for all elements.
    share = step / LAST_PLACE[dtype, 24]
    spread = (steps * share * (1 - share)) ** 0.5 * LAST_PLACE[dtype, 24]
    np.testing.assert_allclose(jnp.std(w), spread, rtol=0.05)


@every_dtype
@every_size
@pytest.mark.rows(2)
def test_updates_land_on_the_rounded_master(dtype, bits):
    """Steps far larger and far smaller than the parameter, through zero and back."""
    rng = np.random.default_rng(5)
    n = 5000
    params = jnp.asarray(rng.standard_normal(n), jnp.float32).astype(dtype)
    tx = master_weights(optax.sgd(1.0), bits=bits)
    state = tx.init(params)
    for k in range(6):
        w = restore_master_weights(params, state)
        steps = rng.standard_normal(n) * 10.0 ** rng.uniform(-6, 1, n)
        g = jnp.where(jnp.arange(n) % 7 == k, w, jnp.asarray(steps, jnp.float32))
        u, state = tx.update(g, state, params)
        params = optax.apply_updates(params, u)
        got = restore_master_weights(params, state)
        largest = jnp.maximum(jnp.maximum(jnp.abs(w), jnp.abs(g)), jnp.abs(w - g))
        allowed = LAST_PLACE[dtype, bits] * jnp.maximum(largest, 2.0**-14)
        assert bool(jnp.all(jnp.abs(got - (w - g)) <= allowed))
        half = 1.01 * float(jnp.finfo(dtype).eps) / 2
        tail = half * jnp.abs(got) + 2.0**-24 * largest + 2.0**-25
        assert bool(jnp.all(jnp.abs(got - params.astype(jnp.float32)) <= tail))


def test_other_leaves_pass_through_untouched(x64):
    """Bit for bit those of the inner transformation, with zeros for residuals."""
    params = {
        "f32": jnp.ones((3, 2)).astype(jnp.float32),
        "f64": jnp.ones(2, jnp.float64),
        "c64": jnp.ones(2, jnp.complex64),
        "scalar": jnp.asarray(1.0, jnp.float32),
        "bf16": jnp.ones((2, 2), jnp.bfloat16),
    }
    tx, inner = master_weights(rmsprop(0.1)), rmsprop(0.1)
    state, inner_state = tx.init(params), inner.init(params)
    for _ in range(3):
        u, state = tx.update(params, state, params)
        want, inner_state = inner.update(params, inner_state, params)
        for k in set(params) - {"bf16"}:
            assert u[k].dtype == want[k].dtype
            chex.assert_trees_all_equal(u[k], want[k])
    assert u["bf16"].dtype == jnp.float32
    assert state.residual["bf16"].shape == (2, 2)
    chex.assert_trees_all_equal_shapes(state.residual, params)
    assert not any(state.residual[k].any() for k in set(params) - {"bf16"})
    with pytest.raises(ValueError, match="master weights of shape"):
        restore_master_weights({**params, "bf16": params["f32"]}, state)


@every_size
def test_bytes_are_exact(bits):
    params = jnp.ones((30, 20), jnp.bfloat16)
    tx = master_weights(rmsprop(0.1, storage="uint8"), bits=bits)
    state = tx.init(params)
    kept = sum(x.nbytes for x in jax.tree.leaves((params, state)) if x.ndim)
    assert kept == (2 + (bits // 8 - 2) + 1) * 600


def network(w, x):
    return jnp.tanh(x @ w["a"] + w["c"][None]) @ w["b"]


def losses_of(tx, dtype, steps=5000):
    """Train a network on what another one does; give the last losses."""
    rng = np.random.default_rng(1)
    draw = lambda *shape: jnp.asarray(rng.standard_normal(shape) / 4, jnp.float32)  # noqa: E731
    start = {"a": draw(16, 32), "b": draw(32, 1), "c": jnp.zeros(32)}
    teacher = jax.tree.map(lambda x: 3 * x, {**start, "a": draw(16, 32)})
    params = jax.tree.map(lambda x: x.astype(dtype), start)

    def loss(p, key):
        x = jax.random.normal(key, (64, 16))
        p = jax.tree.map(lambda v: v.astype(jnp.float32), p)
        return jnp.mean((network(p, x) - network(teacher, x)) ** 2)

    def step(carry, k):
        p, state = carry
        value, g = jax.value_and_grad(loss)(p, jax.random.fold_in(jax.random.key(0), k))
        u, state = tx.update(g, state, p)
        return (optax.apply_updates(p, u), state), value

    scan = jax.jit(lambda c: jax.lax.scan(step, c, jnp.arange(steps)))
    return float(jnp.mean(scan((params, tx.init(params)))[1][-200:]))


@pytest.mark.long
def test_training_follows_float32_where_bfloat16_stalls():
    rate = optax.cosine_decay_schedule(1e-3, 5000)
    want = losses_of(rmsprop(rate), jnp.float32)
    plain = losses_of(rmsprop(rate), jnp.bfloat16)
    assert plain > 1.3 * want
    for bits in (24, 32):
        got = losses_of(master_weights(rmsprop(rate), bits=bits), jnp.bfloat16)
        assert abs(got - want) < 0.01 * want
    small = master_weights(rmsprop(rate, storage="uint8"))
    assert losses_of(small, jnp.bfloat16) < 1.05 * want


@every_size
def test_split_is_the_way_back(bits):
    params = {"w": jnp.ones((4, 3), jnp.bfloat16), "b": jnp.ones(3)}
    tx = optax.chain(optax.clip(1.0), master_weights(rmsprop(0.1), bits=bits))
    state = tx.init(params)
    weights = {"w": values(jnp.bfloat16)[:12].reshape(4, 3), "b": jnp.full(3, 0.3)}
    params, state = split_master_weights(weights, params, state)
    assert params["w"].dtype == jnp.bfloat16
    chex.assert_trees_all_close(
        restore_master_weights(params, state),
        weights,
        rtol=LAST_PLACE[jnp.bfloat16, bits],
    )
    u, state = tx.update(weights, state, params)
    chex.assert_trees_all_equal_dtypes(u, weights)


def test_parameters_may_be_tuples():
    params = (jnp.ones(3, jnp.bfloat16), [jnp.ones(2)])
    weights = (jnp.full(3, 0.3), [jnp.full(2, 0.3)])
    state = master_weights(rmsprop(0.1), bits=32).init(params)
    params, state = split_master_weights(weights, params, state)
    restored = restore_master_weights(params, state)
    chex.assert_trees_all_equal(restored, weights)


def test_restore_finds_master_weights_at_any_depth():
    params = {"a": jnp.full(3, 0.3, jnp.bfloat16), "b": jnp.ones(2, jnp.bfloat16)}
    labels = {"a": "x", "b": "y"}
    injected = optax.inject_hyperparams(
        lambda learning_rate: master_weights(rmsprop(learning_rate))
    )
    for tx in (
        optax.masked(master_weights(rmsprop(1e-4)), {"a": True, "b": False}),
        optax.partition(
            {"x": master_weights(rmsprop(1e-4)), "y": master_weights(rmsprop(1e-5))},
            labels,
        ),
        injected(1e-4),
        optax.chain(optax.identity(), master_weights(rmsprop(1e-4))),
        optax.MultiSteps(master_weights(rmsprop(1e-4)), 1).gradient_transformation(),
    ):
        p, state = params, tx.init(params)
        for _ in range(2):
            u, state = jax.jit(tx.update)(p, state, p)
            p = optax.apply_updates(p, u)
        weights = restore_master_weights(p, state)
        assert {w.dtype for w in jax.tree.leaves(weights)} == {np.dtype("float32")}
        moved = weights["a"] - params["a"].astype(jnp.float32)
        np.testing.assert_allclose(moved, -(10**0.5 + (10 / 1.9) ** 0.5) * 1e-4, 0.05)


def test_restore_refuses_what_does_not_belong():
    params = {"w": jnp.ones((2, 2), jnp.bfloat16)}
    state = master_weights(rmsprop(0.1)).init(params)
    for call in (
        restore_master_weights,
        lambda p, s: split_master_weights(p, p, s),
    ):
        with pytest.raises(ValueError, match="there is no MasterWeightsState"):
            call(params, rmsprop(0.1).init(params))
        with pytest.raises(ValueError, match=r"shape \(2, 2\) for.*'w'.*has None"):
            call({"v": params["w"]}, state)
        with pytest.raises(ValueError, match=r"'w'.*has \(3,\)"):
            call({"w": jnp.ones(3, jnp.bfloat16)}, state)


def test_an_inner_that_is_no_transformation_is_refused():
    """In a process of its own: here the annotations are enforced and speak first."""
    code = "import rmsprop_jax as r; r.master_weights(r.rmsprop)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "TypeError: `master_weights(inner)` must be an optax" in done.stderr


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match=r"master_weights\(bits=...\)` must be 24 or"):
        master_weights(rmsprop(0.1), bits=16)
    params = jnp.ones(2, jnp.bfloat16)
    tx = master_weights(rmsprop(0.1))
    with pytest.raises(ValueError, match="needs the parameters"):
        tx.update(params, tx.init(params))
    with pytest.raises(ValueError, match=r"must have the shape of its parameter"):
        tx.update(jnp.ones(3), tx.init(params), params)
    with pytest.raises(TypeError, match="cannot be differentiated through"):
        jax.grad(lambda g: jnp.sum(tx.update(g, tx.init(params), params)[0]))(params)


def test_none_gradients_and_abstract_parameters():
    params = {"a": jnp.ones(2, jnp.bfloat16), "b": None}
    tx = master_weights(rmsprop(0.1))
    u, state = tx.update(params, tx.init(params), params)
    assert u["b"] is None
    shapes = jax.eval_shape(tx.init, params)
    abstract = tx.init(
        jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), params)
    )
    chex.assert_trees_all_equal_shapes_and_dtypes(shapes, state)
    chex.assert_trees_all_equal_shapes_and_dtypes(abstract, state)


def test_state_stays_and_restarts_bit_for_bit():
    params, gs = problem(jnp.bfloat16)
    tx = master_weights(rmsprop(1e-3, storage="uint8"))
    p, state = follow(tx, params, gs[:30])
    chex.assert_trees_all_equal_shapes_and_dtypes(state, tx.init(params))
    kept = pickle.loads(pickle.dumps(jax.tree.map(np.asarray, (p, state))))

    def go_on(p, state):
        for g in gs[30:]:
            u, state = jax.jit(tx.update)(g, state, p)
            p = optax.apply_updates(p, u)
        return p, state

    chex.assert_trees_all_equal(go_on(*kept), go_on(p, state))


def test_map_params_sees_one_leaf_a_parameter():
    params = {"a": jnp.ones(2, jnp.bfloat16), "b": jnp.ones((2, 2)), "c": jnp.ones(())}
    tx = master_weights(rmsprop(0.1, momentum=0.9))
    named = optax.tree.map_params(
        tx, lambda _, name: name, tx.init(params), {k: k for k in params}
    )
    assert named.residual == {k: k for k in params}


def test_flax_nnx():
    """A bfloat16 model; its float32 weights from the state of the optimizer."""
    model = nnx.Linear(8, 4, param_dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    tx = master_weights(rmsprop(1e-4, storage="uint8"))
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    x = jnp.ones((3, 8), jnp.bfloat16)

    @nnx.jit
    def step(model, optimizer):
        g = nnx.grad(lambda model: jnp.sum(model(x) ** 2))(model)
        optimizer.update(model, g)

    before = model.kernel[...].astype(jnp.float32)
    for _ in range(3):
        step(model, optimizer)
    assert model.kernel[...].dtype == jnp.bfloat16
    weights = restore_master_weights(
        nnx.to_pure_dict(nnx.state(model, nnx.Param)), optimizer.opt_state
    )
    moved = np.abs(weights["kernel"] - before)
    assert np.all((moved > 3e-4) & (moved < 9e-4))


def test_flax_linen():
    model = linen.Dense(4, param_dtype=jnp.bfloat16)
    x = jnp.ones((3, 8), jnp.bfloat16)
    state = TrainState.create(
        apply_fn=model.apply,
        params=model.init(jax.random.key(0), x)["params"],
        tx=master_weights(rmsprop(1e-4, storage="uint8")),
    )
    g = jax.grad(lambda p: jnp.sum(state.apply_fn({"params": p}, x) ** 2))(state.params)
    after = state.apply_gradients(grads=g)
    weights = restore_master_weights(after.params, after.opt_state)
    assert after.params["kernel"].dtype == jnp.bfloat16
    moved = weights["kernel"] - state.params["kernel"].astype(jnp.float32)
    np.testing.assert_allclose(np.abs(moved), 1e-4 * 10**0.5, rtol=0.1)
    assert isinstance(after.opt_state, MasterWeightsState)


def test_parameters_that_became_float32_are_refused_by_name():
    """`p + u` promotes; the residual would be ignored from then on."""
    params = {"w": jnp.ones(3, jnp.bfloat16), "b": jnp.ones(2), "n": None}
    tx = master_weights(rmsprop(0.1))
    u, state = tx.update(params, tx.init(params), params)
    added = jax.tree.map(lambda p, u: p + u, params, u)
    with pytest.raises(ValueError, match=r"at 'w' is float32(.|\n)*apply_updates\(pa"):
        jax.jit(tx.update)(params, state, added)
    tx.update(params, state, optax.apply_updates(params, u))
    narrowed = {**params, "b": params["b"].astype(jnp.bfloat16)}
    with pytest.raises(ValueError, match="at 'b' is bfloat16, and was of 32"):
        tx.update(params, state, narrowed)
    with pytest.raises(ValueError, match=r"at 'w' has.*of 24 bits.*\(bits=32\)"):
        master_weights(rmsprop(0.1), bits=32).update(params, state, params)


WRAPPERS = {
    "flatten": optax.flatten,  # concatenates in float32 what has several dtypes
    "scale": lambda tx: optax.chain(tx, optax.scale(0.5)),
}


@pytest.mark.parametrize("name", WRAPPERS)
def test_wrappers_belong_inside(name):
    """Outside, the parameters do not land where the master weights are."""
    wrap, (start, gs) = WRAPPERS[name], problem(jnp.bfloat16)

    def error(tx):
        params = {"w": start, "b": start[:5].astype(jnp.float32)}
        state, step = tx.init(params), jax.jit(tx.update)
        for g in gs:
            u, state = step({"w": g, "b": g[:5].astype(jnp.float32)}, state, params)
            params = optax.apply_updates(params, u)
        return jnp.max(jnp.abs(params["w"] / want - 1))

    gs = [g.astype(jnp.float32) for g in gs]
    want, _ = follow(wrap(optax.sgd(1e-4)), start.astype(jnp.float32), gs)
    half_a_place = float(jnp.finfo(jnp.bfloat16).eps) / 2
    assert error(master_weights(wrap(optax.sgd(1e-4)))) < 1.05 * half_a_place
    assert error(wrap(master_weights(optax.sgd(1e-4)))) > 3 * half_a_place


def test_lookahead_does_not_know_master_weights():
    """It moves the parameters after the update; the page says not to combine them."""
    start, gs = problem(jnp.bfloat16)

    def end(inner, params):
        params, tx = (
            optax.LookaheadParams.init_synced(params),
            optax.lookahead(inner, 5, 0.5),
        )
        state, step = tx.init(params), jax.jit(tx.update)
        for g in gs:
            u, state = step(g, state, params)
            params = optax.apply_updates(params, u)
        return params.slow.astype(jnp.float32)

    want = end(optax.sgd(1e-4), start.astype(jnp.float32))
    got = end(master_weights(optax.sgd(1e-4)), start)
    assert jnp.max(jnp.abs(got / want - 1)) > 3 * jnp.finfo(jnp.bfloat16).eps / 2


def test_random_bits_are_of_a_slot_of_their_own():
    """Those of `s` would tie the rounding of a weight to that of its denominator."""
    params = jnp.linspace(-1, 1, 1000).astype(jnp.bfloat16)
    g = jnp.full(1000, 1e-3)
    tx = master_weights(optax.sgd(1.0), seed=3)
    _, state = tx.update(g, tx.init(params), params)

    def rounded(slot):
        random = Dither(3, jnp.int32(0), slot, 0).random((1000,))
        return move(params, params.astype(jnp.float32) - g, 24, random).residual

    np.testing.assert_array_equal(state.residual, rounded("w"))
    assert jnp.mean(rounded("s") != rounded("w")) > 0.1
