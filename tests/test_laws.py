"""The laws of the rule, one test function each, over every combination of options."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import oracle
import pytest
from cases import (
    CHAINS,
    LOW_PRECISION,
    REAL,
    RULES,
    distance,
    gradients,
    name,
    quick_jit,
    run,
    run_all,
)

from rmsprop_jax import rmsprop, scale_by_rmsprop

BOTH_EPS = (0.0, 1e-8)
every_rule = pytest.mark.parametrize("rule", RULES, ids=name)


def follow(tx, gs):
    """Give updates and states over gradients, without parameters."""
    state, path = tx.init(jnp.zeros_like(gs[0])), []
    for g in gs:
        u, state = tx.update(g, state)
        path.append((u, state))
    return path


@every_rule
@pytest.mark.parametrize("dtype", LOW_PRECISION)
@pytest.mark.rows(4)
def test_arithmetic_is_float32_whatever_the_dtype(rule, dtype):
    """The updates are those of the same gradients in float32, rounded once."""
    gs = jnp.asarray(gradients(steps=12), jnp.float32).astype(dtype)
    got = follow(scale_by_rmsprop(**rule), gs)
    want = follow(scale_by_rmsprop(**rule), gs.astype(jnp.float32))
    for (u, state), (wide, wide_state) in zip(got, want, strict=True):
        largest = float(jnp.finfo(dtype).max)
        chex.assert_trees_all_equal(u, jnp.clip(wide, -largest, largest).astype(dtype))
        chex.assert_trees_all_equal(state, wide_state)


@pytest.mark.parametrize("chain", CHAINS, ids=name)
@pytest.mark.parametrize("dtype", LOW_PRECISION)
@pytest.mark.rows(8)
def test_the_whole_chain_is_float32(chain, dtype):
    """Momentum, learning rate and weight decay lose nothing to the parameter's dtype.

    A learning rate of 1e-6 takes every step below what float16 can hold.
    """
    gs = jnp.asarray(gradients(steps=12), jnp.float32).astype(dtype)
    params = jnp.linspace(-1, 1, 7).astype(dtype)
    tx = rmsprop(1e-6, **chain)
    wide = params.astype(jnp.float32)
    state, wide_state = tx.init(params), tx.init(wide)
    for g in gs:
        u, state = tx.update(g, state, params)
        wide_u, wide_state = tx.update(g.astype(jnp.float32), wide_state, wide)
        chex.assert_trees_all_equal(u, wide_u.astype(dtype))
    chex.assert_trees_all_equal(state, wide_state)


@every_rule
@pytest.mark.parametrize(
    ("dtype", "gradient_dtype"),
    [
        (jnp.float16, jnp.float32),
        (jnp.bfloat16, jnp.float32),
        (jnp.bfloat16, jnp.bfloat16),
        (jnp.float32, jnp.float16),
        (jnp.float32, jnp.float32),
        (jnp.complex64, jnp.complex64),
    ],
)
@pytest.mark.rows(18)
def test_state_keeps_its_type_and_updates_are_as_adding_needs(
    rule, dtype, gradient_dtype
):
    params = {"a": jnp.ones((3, 2), dtype), "b": jnp.asarray(1.0, dtype)}
    updates = jax.tree.map(lambda p: jnp.ones(p.shape, gradient_dtype), params)
    tx = rmsprop(0.1, momentum=0.9, weight_decay=0.1, **rule)
    state = tx.init(params)
    u, new_state = jax.eval_shape(tx.update, updates, state, params)
    chex.assert_trees_all_equal_shapes(u, updates)
    with jax.numpy_dtype_promotion("standard"):
        needed = jnp.promote_types(dtype, gradient_dtype)
    assert {x.dtype for x in jax.tree.leaves(u)} == {needed}
    chex.assert_trees_all_equal_structs(new_state, state)
    kept, given = map(jax.tree.leaves, (new_state, state))
    for after, before in zip(kept, given, strict=True):
        assert (after.shape, after.dtype) == (before.shape, before.dtype)
        assert not after.weak_type and not before.weak_type


def test_gradients_of_16_bits_lose_nothing_on_float32_parameters():
    """DESIGN.md, promise 2: 1e-7 of decoupled decay is below the last bit of -0.1."""
    tx = rmsprop(0.1, 0.0, 0.0, weight_decay=1e-6, decoupled_weight_decay=True)
    p = jnp.ones(3)
    g = jnp.ones(3, jnp.bfloat16)
    u, _ = tx.update(g, tx.init(p), p)
    np.testing.assert_array_equal(u, jnp.float32(-0.1) - jnp.float32(1e-7))
    plain = rmsprop(0.1)
    assert plain.update(g, plain.init(p))[0].dtype == jnp.bfloat16


def test_mixed_precision_tree_keeps_each_leaf_under_x64(x64):
    dtypes = dict(
        a=jnp.float16, b=jnp.float32, c=jnp.float64, d=jnp.complex64, e=jnp.complex128
    )
    params = {k: jnp.ones(3, d) for k, d in dtypes.items()}
    tx = rmsprop(0.1, centered=True, momentum=0.9, weight_decay=0.1)
    state = tx.init(params)
    u, state = tx.update(params, state, params)
    assert {k: v.dtype for k, v in u.items()} == dtypes
    rms, momentum = (s for s in state if s != optax.EmptyState())
    wide = dict(dtypes, a=jnp.float32)
    assert {k: v.dtype for k, v in rms.m.items()} == wide
    assert {k: v.dtype for k, v in momentum.trace.items()} == wide


@every_rule
@pytest.mark.parametrize("eps", BOTH_EPS)
@pytest.mark.parametrize("dtype", (*REAL, jnp.complex64))
@pytest.mark.rows(16)
def test_zero_gradient_gives_zero_update(rule, eps, dtype):
    """At the first step, and after a step that was not zero."""
    gs = jnp.zeros((4, 3), dtype).at[1].set(1.0)
    for k, (u, state) in enumerate(follow(scale_by_rmsprop(eps=eps, **rule), gs)):
        if k != 1:
            chex.assert_trees_all_equal(u, jnp.zeros_like(u))
        chex.assert_tree_all_finite(state)


@every_rule
@pytest.mark.rows(4)
def test_float16_squares_neither_underflow_nor_overflow(rule):
    sizes = jnp.asarray([1e-4, -1e-4, 300.0, -300.0], jnp.float16)
    gs = jnp.tile(sizes, (20, 1))
    got = follow(scale_by_rmsprop(eps=1e-3, **rule), gs)
    want = follow(scale_by_rmsprop(eps=1e-3, **rule), gs.astype(jnp.float32))
    for (u, _), (wide, _) in zip(got, want, strict=True):
        largest = float(jnp.finfo(jnp.float16).max)
        wide = jnp.clip(wide, -largest, largest)
        chex.assert_trees_all_equal(u, wide.astype(jnp.float16))


@every_rule
@pytest.mark.parametrize("eps", BOTH_EPS)
@pytest.mark.rows(4)
def test_extreme_float32_neither_freezes_nor_overflows(rule, eps):
    """After the extreme comes an ordinary gradient, which must still move."""
    sizes = jnp.asarray([1e-30, 1e-25, 1e20, 1e30])
    signs = jnp.asarray([1.0, -1.0, 0.5, -0.5])
    gs = jnp.concatenate([jnp.tile(sizes * signs, (30, 1)), jnp.tile(signs, (2000, 1))])
    tx = scale_by_rmsprop(eps=eps, **rule)

    def step(state, g):
        u, state = tx.update(g, state)
        return state, u

    state, us = jax.lax.scan(step, tx.init(signs), gs)
    chex.assert_tree_all_finite((us, state))
    seen = us[:30] if eps == 0 else us[30:]
    if rule["initial_scale"] == 0 and not rule["centered"] and eps == 0:
        assert float(jnp.min(jnp.abs(seen))) > 0.3
    assert bool(jnp.all(jnp.sign(us[-1]) == signs / jnp.abs(signs)))
    if not rule["centered"]:
        np.testing.assert_allclose(jnp.abs(us[-1]), 1.0, rtol=1e-5)


@every_rule
@pytest.mark.rows(2)
def test_constant_gradients_stay_within_the_float64_bound(x64, rule):
    """10,000 steps in float32 against the largest |u| that float64 gives."""
    sizes = jnp.asarray([1e-12, 1.0, 1.37, 100.0, 1e4, 1e12])
    g = jnp.outer(sizes, jnp.linspace(0.3, 1, 8))
    tx = scale_by_rmsprop(0.99, **rule)

    def longest(dtype):
        def step(state, _):
            u, state = tx.update(g.astype(dtype), state)
            return state, jnp.abs(u)

        return jax.jit(
            lambda s: jnp.max(jax.lax.scan(step, s, length=10_000)[1], axis=0)
        )(tx.init(g.astype(dtype)))

    wide, narrow = longest(jnp.float64), longest(jnp.float32)
    chex.assert_tree_all_finite(narrow)
    assert bool(jnp.all(narrow.astype(jnp.float64) <= 1.001 * wide))


@every_rule
@pytest.mark.rows(4)
def test_s_is_never_negative(rule):
    """Constant, drifting and alternating gradients: where E[g^2]-E[g]^2 cancels."""
    steps = jnp.arange(3000.0)[:, None]
    gs = 1e4 * jnp.concatenate(
        [jnp.ones_like(steps), 1 + 1e-6 * steps, 1 + 1e-7 * (-1) ** steps], axis=1
    )
    tx = scale_by_rmsprop(0.999, **rule)

    def step(state, g):
        u, state = tx.update(g, state)
        return state, (u, state.s)

    _, (u, s) = jax.lax.scan(step, tx.init(gs[0]), gs)
    assert float(jnp.min(s)) >= 0
    chex.assert_tree_all_finite(u)


@every_rule
@pytest.mark.parametrize("momentum", (None, 0.9))
@pytest.mark.rows(6)
def test_hold_loses_only_the_held_coordinate(rule, momentum):
    gs = jnp.asarray(gradients(steps=6, shape=(6,)), jnp.float32)
    bad = slice(2, 5)
    broken = gs.at[3, bad].set(jnp.asarray([jnp.nan, jnp.inf, -jnp.inf]))
    params = jnp.ones(6)
    tx = rmsprop(0.1, momentum=momentum, nonfinite="hold", **rule)
    update = jax.jit(tx.update)

    def follow(gs):
        p, states, path = params, [tx.init(params)], [params]
        for g in gs:
            u, state = update(g, states[-1], p)
            p = optax.apply_updates(p, u)
            states.append(state)
            path.append(p)
        return path, states

    (path, states), (want, _) = follow(broken), follow(gs)
    before, after = states[3:5]
    others = jnp.asarray([0, 1, 5])
    chex.assert_trees_all_equal(path[-1][others], want[-1][others])
    assert bool(jnp.all(jnp.isfinite(jnp.stack(path))))
    chex.assert_trees_all_equal(after[0].s[bad], before[0].s[bad])
    if rule["centered"]:
        chex.assert_trees_all_equal(after[0].m[bad], before[0].m[bad])
    if momentum is None:
        chex.assert_trees_all_equal(path[4][bad], path[3][bad])
    else:  # the buffer sees a zero
        np.testing.assert_allclose(
            after[-1].trace[bad], 0.9 * before[-1].trace[bad], rtol=1e-6
        )


@every_rule
@pytest.mark.parametrize("bad", (jnp.nan, jnp.inf, -jnp.inf))
def test_propagate_shows_nan_at_once_and_for_good(rule, bad):
    gs = jnp.asarray(gradients(steps=6, shape=(4,)), jnp.float32).at[3, 2].set(bad)
    path = follow(scale_by_rmsprop(**rule), gs)
    us = jnp.stack([u for u, _ in path])
    assert bool(jnp.all(jnp.isnan(us[3:, 2])))
    assert bool(jnp.all(jnp.isfinite(us.at[3:, 2].set(0))))
    assert bool(jnp.isnan(path[3][1].s[2]))


@every_rule
@pytest.mark.rows(4)
def test_complex_s_is_real_and_joint(rule):
    """Turning the gradients in the complex plane turns the updates and leaves s."""
    gs = jnp.asarray(gradients(steps=10, dtype=np.complex64))
    turn = jnp.asarray(np.exp(0.7j), jnp.complex64)
    a, b = (follow(scale_by_rmsprop(**rule), x) for x in (gs, gs * turn))
    for (u, state), (turned, turned_state) in zip(a, b, strict=True):
        assert state.s.dtype == jnp.float32
        # At t = 1 a corrected centered s is 0 in exact arithmetic.
        chex.assert_trees_all_close(turned, u * turn, rtol=2e-4, atol=1e-6)
        chex.assert_trees_all_close(turned_state.s, state.s, rtol=1e-5, atol=1e-12)


def end_of(tx, gs):
    """Give the parameters, from 0, after all of the gradients."""

    def step(carry, g):
        p, state = carry
        u, state = tx.update(g, state, p)
        return (p + u, state), None

    start = jnp.zeros_like(gs[0])
    return jax.lax.scan(step, (start, tx.init(start)), gs)[0][0]


@every_rule
@pytest.mark.rows(2)
def test_derivatives_are_finite_at_zero_gradients(rule):
    """Through three updates with eps = 0, in the gradients and in every number.

    Along all ones: a partial derivative that is not finite shows in the sum.
    """
    gs = jnp.zeros((3, 3)).at[:, 1].set(0.5)
    args = (gs, *(jnp.asarray(x) for x in (0.9, 0.0, 0.8, 0.1)))

    def end(gs, decay, eps, momentum, learning_rate):
        tx = rmsprop(learning_rate, decay, eps, momentum=momentum, **rule)
        return end_of(tx, gs)

    @quick_jit
    def both(*args):
        p, forward = jax.jvp(end, args, jax.tree.map(jnp.ones_like, args))
        return forward, jax.vjp(end, *args)[1](jnp.ones_like(p))

    chex.assert_tree_all_finite(both(*args))


@every_rule
@pytest.mark.rows(2)
def test_derivatives_equal_finite_differences(x64, rule):
    rng = np.random.default_rng(0)
    gs = jnp.asarray(rng.standard_normal((4, 3))).at[:, 0].set(0.0)

    def end(gs, numbers):
        decay, eps, momentum, learning_rate = numbers
        tx = rmsprop(learning_rate, decay, eps, momentum=momentum, **rule)
        return jnp.sum(end_of(tx, gs) * jnp.asarray([1.0, 2.0, -1.0]))

    numbers = jnp.asarray([0.9, 1e-2, 0.8, 0.1])
    # Reverse mode is the transpose of forward mode: one check holds for both.
    check = dict(order=1, modes=("rev",), eps=1e-8, rtol=1e-5)
    jax.test_util.check_grads(jax.jit(end), (gs, numbers), **check)


@every_rule
@pytest.mark.parametrize("dtype", (*REAL, np.float64))
@pytest.mark.rows(8)
def test_numbers_may_be_arrays_of_any_float_dtype(rule, dtype):
    """Used in float32: equal to Python numbers of the same value."""
    gs = jnp.asarray(gradients(steps=3), jnp.float32)
    exact = dict(decay=0.875, eps=0.0078125, momentum=0.75, weight_decay=0.125)
    arrays = {k: np.asarray(v, dtype)[()] for k, v in exact.items()}
    if dtype is not np.float64:
        arrays = {k: jnp.asarray(v) for k, v in arrays.items()}
    params = jnp.ones(7)
    tx = rmsprop(0.5, **exact, **rule)
    other = rmsprop(np.asarray(0.5, dtype)[()], **arrays, **rule)
    state, want_state = other.init(params), tx.init(params)
    for g in gs:
        got, state = other.update(g, state, params)
        want, want_state = tx.update(g, want_state, params)
        chex.assert_trees_all_close(got, want, rtol=1e-6)
    chex.assert_trees_all_equal_dtypes(state, want_state)


@every_rule
@pytest.mark.rows(4)
def test_injected_numbers_equal_plain_ones(rule):
    gs = jnp.asarray(gradients(steps=20), jnp.float32)
    options = dict(decay=0.99, eps=1e-6, momentum=0.9, weight_decay=0.01, **rule)
    injected = optax.inject_hyperparams(rmsprop)(0.01, **options)
    want, want_state = run(rmsprop(0.01, **options), jnp.ones(7), gs)
    got, state = run(injected, jnp.ones(7), gs)
    tolerance = 2e-5 * distance(want, np.ones(7))
    chex.assert_trees_all_close(got, want, rtol=0, atol=tolerance)
    chex.assert_trees_all_close(state.inner_state, want_state, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", LOW_PRECISION)
@pytest.mark.parametrize("jitted", (False, True))
def test_injected_decay_that_rounded_to_one_is_refused(dtype, jitted):
    tx = optax.inject_hyperparams(rmsprop)(1e-3, decay=0.9999, momentum=None)
    init = jax.jit(tx.init) if jitted else tx.init
    with pytest.raises(ValueError, match=r"decay.*hyperparam_dtype=jnp.float32"):
        init(jnp.ones(3, dtype))
    tx = optax.inject_hyperparams(rmsprop, hyperparam_dtype=jnp.float32)(
        1e-3, decay=0.9999
    )
    state = tx.init(jnp.ones(3, dtype))
    for _ in range(50):
        u, state = tx.update(jnp.ones(3, dtype), state)
    want = oracle.rmsprop(np.zeros(3), np.ones((50, 3)), 1e-3, decay=0.9999)
    np.testing.assert_allclose(
        np.asarray(u, float), want[-1] - want[-2], rtol=float(jnp.finfo(dtype).eps)
    )


def test_a_constant_schedule_equals_its_number():
    gs = jnp.asarray(gradients(steps=10), jnp.float32)
    want, got = (
        run_all([rmsprop(rate, **chain) for chain in CHAINS], jnp.ones(7), gs)[0]
        for rate in (0.25, lambda _: 0.25)
    )
    chex.assert_trees_all_close(got, want, rtol=1e-6)


def test_momentum_orders_agree_only_at_a_constant_rate():
    gs = jnp.asarray(gradients(steps=10), jnp.float32)
    inside, outside = (
        [
            run(rmsprop(lr, momentum=0.9, lr_in_momentum=order), jnp.ones(7), gs)[0][-1]
            for lr in (0.01, optax.linear_schedule(0.01, 0.0, 10))
        ]
        for order in (True, False)
    )
    chex.assert_trees_all_close(inside[0], outside[0], rtol=1e-5)
    assert float(jnp.max(jnp.abs(inside[1] - outside[1]))) > 1e-3


def test_momentum_zero_equals_none():
    gs = jnp.asarray(gradients(steps=10), jnp.float32)
    want, _ = run(rmsprop(0.01), jnp.ones(7), gs)
    for order in (True, False):
        got, _ = run(rmsprop(0.01, momentum=0.0, lr_in_momentum=order), jnp.ones(7), gs)
        chex.assert_trees_all_close(got, want, rtol=1e-6)


@pytest.mark.parametrize("decoupled", (False, True))
@pytest.mark.parametrize("mask", ({"w": True, "b": False}, "function"))
def test_weight_decay_mask_spares_a_leaf(decoupled, mask):
    if mask == "function":
        mask = lambda params: jax.tree.map(lambda p: p.ndim > 1, params)  # noqa: E731
    params = {"w": jnp.ones((2, 2)), "b": jnp.ones(2)}
    g = jax.tree.map(jnp.zeros_like, params)
    tx = rmsprop(
        0.1, weight_decay=0.5, decoupled_weight_decay=decoupled, weight_decay_mask=mask
    )
    u, _ = tx.update(g, tx.init(params), params)
    chex.assert_trees_all_equal(u["b"], jnp.zeros(2))
    want = -0.1 * 0.5 if decoupled else -0.1 / np.sqrt(0.1)
    chex.assert_trees_all_close(u["w"], jnp.full((2, 2), want), rtol=1e-5)


def test_count_stops_at_its_maximum():
    tx = scale_by_rmsprop(bias_correction=True)
    state = tx.init(jnp.ones(2))
    top = jnp.iinfo(jnp.int32).max
    state = state._replace(step=jnp.asarray(top, jnp.int32))
    u, state = tx.update(jnp.ones(2), state)
    assert state.step == top
    chex.assert_tree_all_finite(u)


def test_an_update_that_overflows_is_the_largest_number():
    """A centered step has no bound but eps: 2**62 over 1e-30 is beyond float32."""
    tx = scale_by_rmsprop(0.0, 1e-30, eps_in_sqrt=False, centered=True)
    g = jnp.asarray([1e30, -1e30], jnp.float32)
    u, state = tx.update(g, tx.init(g))
    assert bool(jnp.all(jnp.isfinite(u))) and u[0] == -u[1] > 1e38
    chex.assert_tree_all_finite(state)
