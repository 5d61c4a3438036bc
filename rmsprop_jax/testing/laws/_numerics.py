"""Laws 25 to 29, 31 and 32: numbers that are zero, tiny, huge, many or not finite."""

import contextlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array

from .._closeness import assert_close, assert_equal, assert_finite
from .._context import double_precision
from .._report import check_each
from .._subject import DECAYS, EPSILONS, DoesNotApply, Subject, example, gradients

LOW = (jnp.float16, jnp.bfloat16)


def law_25_zero_gradients_move_nothing(subject: Subject) -> None:
    """A zero gradient gives a zero update, and finite updates later, in every dtype.

    At parameters of zero, which weight decay does not move; with an eps of 0 too, where
    the factory takes it.

    Source: optax#1784, optax#1553, D3, D11.
    """
    dtypes = {jnp.dtype(x).name: x for x in (*LOW, jnp.float32)}
    zeros = {name: jnp.zeros((2, 3), dtype) for name, dtype in dtypes.items()}
    ones = jax.tree.map(jnp.ones_like, zeros)

    def check(tx: optax.GradientTransformation) -> None:
        us, state = subject.follow(tx, zeros, [zeros, ones, zeros])
        assert_equal(us[0], zeros)
        assert_finite((us, state))

    cases = {"as it is": subject.make()}
    if (eps := subject.find(EPSILONS)) is not None:
        with contextlib.suppress(ValueError):  # a factory may refuse an eps of 0
            cases[f"{eps}=0"] = subject.make(**{eps: 0.0})
    check_each(check, cases)


def law_26_float16_squares_fit(subject: Subject) -> None:
    """Float16 gradients whose squares do not fit give the updates of float32.

    Gradients of 1e-4 and 300, whose squares are 0 and inf in float16; within 1 %.

    Source: D4, D5.
    """
    tx = subject.make()
    sizes = {"a": [1e-4, -1e-4, 300.0, -300.0], "b": [[1e-3, 300.0, 1.0]] * 2}
    low = {k: jnp.asarray(x, jnp.float16) for k, x in sizes.items()}
    wide = jax.tree.map(lambda x: x.astype(jnp.float32), low)
    got, _ = subject.follow(tx, jax.tree.map(jnp.zeros_like, low), [low] * 4)
    want, _ = subject.follow(tx, jax.tree.map(jnp.zeros_like, wide), [wide] * 4)

    def rounded(u: Array) -> Array:
        largest = float(jnp.finfo(jnp.float16).max)
        u = jnp.clip(u, -largest, largest).astype(jnp.float16)
        return u.astype(jnp.float32)

    # Below float16's normal numbers an update has few digits: hence the tolerance.
    assert_close(
        jax.tree.map(rounded, got),
        jax.tree.map(rounded, want),
        rtol=0.01,
        atol=2e-7,
        what=f"for gradients of {sizes['a']} and {sizes['b'][0]}",
    )


def law_27_averages_follow_in_bfloat16(subject: Subject) -> None:
    """With bfloat16 parameters averages follow the gradients up and down.

    After 1,500 gradients of 1 and 1,500 of 0.1 the mean update of 64 coordinates is
    that of float32 within 10 %; with a decay of 0.999 where the factory takes one.

    Source: optax#1552, Optimisers.jl#215, D6.
    """
    decay = subject.find(DECAYS)
    tx = subject.make(**({} if decay is None else {decay: 0.999}))

    def last(dtype: Any) -> Array:
        params = jnp.zeros(64, dtype)

        def step(state: Any, g: Array) -> Any:
            u, state = subject.update(tx, jnp.full_like(params, g), state, params)
            return state, jnp.mean(u.astype(jnp.float32))

        sizes = jnp.repeat(jnp.asarray([1.0, 0.1]), 1500)
        return jax.lax.scan(step, tx.init(params), sizes)[1][1499::1500]

    low, wide = jax.jit(lambda: (last(jnp.bfloat16), last(jnp.float32)))()
    what = "mean update after gradients of 1, then of 0.1; bfloat16 beside float32"
    assert_close(low, wide, rtol=0.1, atol=1e-7, what=what)


def law_28_constant_gradients_are_bounded(subject: Subject) -> None:
    """Constant gradients, tiny and huge, give steps no longer than in float64.

    For 1,500 steps finite, and at most 1.5 times the longest step that float64 takes;
    centered, and with a decay of 0.99, where the factory takes these.

    Source: optax#1785, mxnet#6235, D1.
    """
    given: dict[str, Any] = (
        {"centered": True} if "centered" in subject.arguments else {}
    )
    if (decay := subject.find(DECAYS)) is not None:
        given[decay] = 0.99
    tx = subject.make(**given)
    sizes = np.outer([1e-12, 1.0, 100.0, 1e4, 1e12], np.linspace(1, 1.37, 60))

    def longest(dtype: Any) -> np.ndarray:
        g = {"a": jnp.asarray(sizes, dtype)}
        zeros = jax.tree.map(jnp.zeros_like, g)
        # One call per step: XLA rounds differently in a loop, and hides failures.
        update = jax.jit(lambda g, state: subject.update(tx, g, state, zeros))
        state, reach = tx.init(zeros), np.zeros(sizes.shape)
        for _ in range(1500):
            u, state = update(g, state)
            reach = np.maximum(reach, np.abs(np.asarray(u["a"], np.float64)))
        return reach

    got = longest(jnp.float32)
    with double_precision():
        bound = 1.5 * longest(np.float64)
    excess = np.where(np.isfinite(got), got - bound, np.inf)
    k = np.unravel_index(np.argmax(excess), got.shape)
    assert excess[k] <= 0, (
        f"a gradient that stays {sizes[k]:.3g} gives a step of {got[k]:.3g} in "
        f"float32; in float64 the longest is {bound[k] / 1.5:.3g}"
    )


def law_29_recovers_or_shows(subject: Subject) -> None:
    """After a gradient that is not finite a coordinate is NaN, or it moves again.

    It never stands still at a finite value: after inf or NaN come 60 gradients of 1.

    Source: optax#1746, numpyro#956, D9.
    """
    step, ones = subject.step, jax.tree.map(jnp.ones_like, example())
    params = jax.tree.map(jnp.zeros_like, ones)

    def check(bad: float) -> None:
        struck = {**ones, "a": ones["a"].at[1].set(bad)}
        u, state = ones, step.tx.init(params)
        for g in (ones, struck, *[ones] * 60):
            u, state = step.update(g, state, params)
        last = u["a"][1]
        assert last != 0, f"the update stays {last}"

    check_each(check, {str(bad): bad for bad in (jnp.inf, -jnp.inf, jnp.nan)})


def law_31_counts_without_end(subject: Subject) -> None:
    """Updates are finite after a million steps, and when counters are at their maximum.

    Counters stop there instead of turning negative.

    Source: brax#578, optax safe_increment.
    """
    step, params = subject.step, example()
    (g,) = gradients(1)
    _, state = step.update(g, step.tx.init(params), params)

    def is_counter(x: Any) -> bool:
        return x.ndim == 0 and jnp.issubdtype(x.dtype, jnp.integer)

    def check(count: int | None) -> None:
        def at(x: Array) -> Array:
            if not is_counter(x):
                return x
            most = jnp.iinfo(x.dtype).max
            return jnp.asarray(most if count is None else min(count, most), x.dtype)

        u, after = step.update(g, jax.tree.map(at, state), params)
        assert_finite(u)
        for path, x in jax.tree_util.tree_leaves_with_path(after):
            where = jax.tree_util.keystr(path)
            assert not is_counter(x) or x >= 0, f"the counter at {where} became {x}"

    check_each(check, {"a million": 1_000_000, "the largest": None})


def law_32_equals_its_oracle(subject: Subject) -> None:
    """In float32 the path is that of the oracle, within 2e-5 of the distance moved.

    The oracle is the caller's: `oracle(start, gradients, learning_rate)` gives the
    parameters after each gradient, in float64. `learning_rate` is a number and then a
    schedule, or None where the factory takes none.

    Source: optax#532, pytorch#32545, D10.
    """
    oracle, name = subject.oracle, subject.learning_rate
    if oracle is None:
        raise DoesNotApply("no oracle was given")
    rng = np.random.default_rng(0)
    start = np.asarray([0.5, -1.0, 1.5, 2.0])
    gs = rng.standard_normal((40, 4)) * np.asarray([1e-3, 0.1, 1.0, 10.0])
    gs = gs.astype(np.float32).astype(np.float64)  # exact in both

    def check(rate: Any) -> None:
        tx = subject.make(**({} if name is None else {name: rate}))
        params: Any = {"a": jnp.asarray(start, jnp.float32)}
        state, path = tx.init(params), []
        update = jax.jit(lambda g, s, p: subject.update(tx, g, s, p))
        for g in gs:
            u, state = update({"a": jnp.asarray(g, jnp.float32)}, state, params)
            params = optax.apply_updates(params, u)
            path.append(params["a"])
        want = np.asarray(oracle(start, list(gs), rate))
        moved = np.abs(np.diff(want, axis=0, prepend=start[None])).sum(0).max()
        assert_close(np.asarray(path, np.float64), want, rtol=0.0, atol=2e-5 * moved)

    schedule = optax.linear_schedule(0.1, 0.0, 40)
    rates = {"at a learning rate of 0.01": 0.01, "under a schedule": schedule}
    check_each(check, rates if name is not None else {"as it is": None})
