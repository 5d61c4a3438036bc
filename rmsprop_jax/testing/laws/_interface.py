"""Laws 1 to 7: what optax and JAX may do with a transformation."""

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import PyTree

from .._closeness import assert_close, assert_equal, assert_finite
from .._report import check_each
from .._subject import DoesNotApply, Subject, example, gradients


def law_01_returns_extra_args(subject: Subject) -> None:
    """Be a `GradientTransformationExtraArgs` that ignores arguments it does not know.

    With `optax.with_extra_args_support` around it and without.

    Source: optax contrib/_common_test.py.
    """
    tx, params = subject.make(), example()
    (g,) = gradients(1)
    name = "GradientTransformationExtraArgs"
    assert isinstance(tx, optax.GradientTransformationExtraArgs), (
        f"the factory gives a {type(tx).__name__}, not a {name}: pass its functions to "
        f"`optax.{name}(init, update)`, where `update` takes **extra_args"
    )
    want, _ = subject.update(tx, g, tx.init(params), params)
    for taker in (tx, optax.with_extra_args_support(tx)):
        arguments = {**subject.extra_args, "unheard_of": jnp.ones(())}
        got, _ = taker.update(g, taker.init(params), params, **arguments)
        assert_equal(got, want)


def law_02_params_may_be_none(subject: Subject) -> None:
    """Without `params` give the same update, or a ValueError that names `params`.

    Source: optax NO_PARAMS_MSG.
    """
    tx, params = subject.make(), example()
    (g,) = gradients(1)
    try:
        got, _ = subject.update(tx, g, tx.init(params), None)
    except ValueError as error:
        assert "params" in str(error), f"the error does not name `params`: {error}"
        return
    want, _ = subject.update(tx, g, tx.init(params), params)
    what = "`update(g, state)` is silently another than `update(g, state, params)`"
    assert_close(got, want, rtol=1e-5, what=what)


def law_03_is_pure(subject: Subject) -> None:
    """Give the same result for the same input, and compile once for all steps.

    Source: optax#206, optax#577.
    """
    step, params = subject.step, example()
    g, other = gradients(2)
    state = step.tx.init(params)
    assert_equal(step.tx.init(params), state, what="two calls of `init` differ")
    step.update(g, state, params)
    before = step.traces
    first = step.update(g, state, params)
    step.update(other, first[1], params)
    again = step.update(g, state, params)
    assert_equal(again, first, what="two calls of `update` on one input differ")
    assert step.traces == before, (
        "`update` was traced anew for the state that it returned: dtypes or weak types "
        "differ from those that `init` gave"
    )


def law_04_hashes_stably(subject: Subject) -> None:
    """Be equal to another made from the same arguments, with the same hash.

    So that it can be a static argument of `jax.jit` without compiling again.

    Source: optax#353, D16.
    """
    a, b = subject.make(), subject.make()
    assert hash(a) == hash(a) and a == a
    assert a == b and hash(a) == hash(b), (
        "two calls of the factory give transformations that differ: each compiles "
        "anew as a static argument of `jax.jit`. Cache the factory."
    )


def law_05_runs_compiled(subject: Subject) -> None:
    """Give the same under jit, scan, cond and vmap as without.

    In a scan half of the steps are skipped by a cond; vmap is over parameters, and over
    the learning rate where the factory takes one.

    Source: optax _src/test_utils.py, ferminet#105.
    """
    tx, params, gs = subject.make(), example(), gradients(3)
    want, state = subject.follow(tx, params, gs)

    @jax.jit
    def run(params: PyTree, gs: PyTree) -> Any:
        def one(state: Any, given: Any) -> Any:
            g, keep = given
            zeros = jax.tree.map(jnp.zeros_like, g)
            u, state = jax.lax.cond(
                keep,
                lambda: subject.update(tx, g, state, params),
                lambda: (zeros, state),
            )
            return state, u

        twice = jax.tree.map(lambda x: jnp.repeat(x, 2, axis=0), gs)
        keep = jnp.arange(2 * len(want)) % 2 == 1
        return jax.lax.scan(one, tx.init(params), (twice, keep))

    stacked = jax.tree.map(lambda *x: jnp.stack(x), *gs)
    end, updates = run(params, stacked)
    kept = jax.tree.map(lambda u: u[1::2], updates)
    close = dict(rtol=1e-4, atol=1e-6)
    want = jax.tree.map(lambda *x: jnp.stack(x), *want)
    assert_close(kept, want, **close, what="in scan and cond")
    assert_close(end, state, **close, what="in scan and cond")

    def first(g: PyTree, params: PyTree, **rate: Any) -> PyTree:
        tx = subject.make(**rate)
        return subject.update(tx, g, tx.init(params), params)[0]

    pair = jax.tree.map(lambda p: jnp.stack([p, 2 * p]), params)
    got = jax.vmap(first, in_axes=(None, 0))(gs[0], pair)
    alone = [first(gs[0], jax.tree.map(lambda p, k=k: p[k], pair)) for k in range(2)]
    want = jax.tree.map(lambda *x: jnp.stack(x), *alone)
    assert_close(got, want, **close, what="vmap over params")
    if (rate := subject.learning_rate) is not None:
        rates = jnp.asarray([0.125, 0.5])
        got = jax.vmap(lambda x: first(gs[0], params, **{rate: x}))(rates)
        alone = [first(gs[0], params, **{rate: float(x)}) for x in rates]
        want = jax.tree.map(lambda *x: jnp.stack(x), *alone)
        assert_close(got, want, **close, what=f"vmap {rate}")


def law_06_takes_every_learning_rate(subject: Subject) -> None:
    """Take the learning rate as float, array, NumPy scalar and schedule, to one result.

    A bfloat16 scalar changes no dtype. A stateful schedule comes by
    `optax.inject_hyperparams`.

    Source: optax#1405, optax alias_test.py.
    """
    name = _need_rate(subject)
    params, gs = example(), gradients(2)
    want, _ = subject.follow(subject.make(**{name: 0.125}), params, gs)

    def check(tx: optax.GradientTransformation) -> None:
        got, _ = subject.follow(tx, params, gs)
        assert_close(got, want, rtol=1e-4, atol=1e-7)
        chex.assert_trees_all_equal_dtypes(got, want)

    bfloat16 = jnp.bfloat16(0.125)
    rates = {
        "jnp array": jnp.asarray(0.125),
        "np.float32": np.float32(0.125),
        "np.float64": np.float64(0.125),
        "0-d NumPy array": np.asarray(0.125),
        "bfloat16 scalar": np.asarray(bfloat16)[()],
        "bfloat16 array": jnp.asarray(bfloat16),
        "schedule": optax.constant_schedule(0.125),
        "schedule of arrays": lambda _: jnp.asarray(0.125),
    }
    stateful = optax.WrappedSchedule(optax.constant_schedule(0.125))
    check_each(lambda rate: check(subject.make(**{name: rate})), rates)
    check_each(
        lambda rate: check(subject.inject(**{name: rate})),
        {"stateful schedule": stateful},
    )


def law_07_composes(subject: Subject) -> None:
    """Work inside the wrappers of optax.

    In `chain` and `named_chain` as without; in `flatten`, `lookahead`,
    `schedule_free`, `mechanize`, `sam` and `apply_if_finite` with finite updates.

    Source: optax#271, optax contrib/_common_test.py.
    """
    params, gs = example(), gradients(2)
    plain = subject.make
    want, _ = subject.follow(plain(), params, gs)

    def check_equal(tx: Any) -> None:
        got, _ = subject.follow(tx, params, gs)
        assert_close(got, want, rtol=1e-5)

    def check_finite(tx: Any) -> None:
        got, _ = subject.follow(tx, params, gs)
        chex.assert_trees_all_equal_shapes_and_dtypes(got, want)
        assert_finite(got)

    def check_lookahead(tx: Any) -> None:
        pair = optax.LookaheadParams(params, params)
        state = tx.init(pair)
        for g in gs:
            u, state = tx.update(g, state, pair)
            chex.assert_trees_all_equal_shapes_and_dtypes(u.fast, want[0])
            assert_finite(u)

    check_each(
        lambda case: case[0](case[1]()),
        {
            "chain": (
                check_equal,
                lambda: optax.chain(optax.identity(), plain()),
            ),
            "named_chain": (
                check_equal,
                lambda: optax.named_chain(("a", optax.identity()), ("b", plain())),
            ),
            "apply_if_finite": (
                check_finite,
                lambda: optax.apply_if_finite(plain(), 1),
            ),
            "flatten": (check_finite, lambda: optax.flatten(plain())),
            "schedule_free": (
                check_finite,
                lambda: optax.contrib.schedule_free(plain(), 0.1),
            ),
            "mechanize": (check_finite, lambda: optax.contrib.mechanize(plain())),
            "sam": (
                check_finite,
                lambda: optax.contrib.sam(plain(), optax.sgd(0.1)),
            ),
            "lookahead": (
                check_lookahead,
                lambda: optax.lookahead(plain(), 2, 0.5),
            ),
        },
    )


def _need_rate(subject: Subject) -> str:
    if subject.learning_rate is None:
        raise DoesNotApply("the factory takes no learning rate")
    return subject.learning_rate
