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

CLOSE = dict(rtol=1e-4, atol=1e-6)


def law_01_returns_extra_args(subject: Subject) -> None:
    """The factory returns a `GradientTransformationExtraArgs`.

    Its `update` ignores keyword arguments that it does not know, with
    `optax.with_extra_args_support` around it and without.

    Source: optax contrib/_common_test.py.
    """
    tx, params = subject.make(), example()
    (g,) = gradients(1)
    name = "GradientTransformationExtraArgs"
    assert isinstance(tx, optax.GradientTransformationExtraArgs), (
        f"the factory returns a {type(tx).__name__}, not a {name}: pass its functions "
        f"to `optax.{name}(init, update)`, where `update` takes **extra_args"
    )
    want, _ = subject.update(tx, g, tx.init(params), params)
    for taker in (tx, optax.with_extra_args_support(tx)):
        arguments = {**subject.extra_args, "unheard_of": jnp.ones(())}
        got, _ = taker.update(g, taker.init(params), params, **arguments)
        assert_equal(got, want)


def law_02_params_may_be_none(subject: Subject) -> None:
    """`update` without `params` gives the same update, or a ValueError naming `params`.

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
    what = "`update(g, state)` silently differs from `update(g, state, params)`"
    assert_close(got, want, rtol=1e-5, what=what)


def law_03_is_pure(subject: Subject) -> None:
    """Equal inputs give equal results, and all steps share one compilation.

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
    """Transformations made from equal arguments are equal and have one hash.

    A transformation can then be a static argument of `jax.jit` without compiling again.

    Source: optax#353, D16.
    """
    a, b = subject.make(), subject.make()
    assert hash(a) == hash(a) and a == a
    assert a == b and hash(a) == hash(b), (
        "two calls of the factory give transformations that differ: each compiles "
        "anew as a static argument of `jax.jit`. Cache the factory."
    )


def law_05_runs_compiled(subject: Subject) -> None:
    """Results under jit, scan, cond and vmap are those without them.

    In a scan half of the steps are skipped by a cond; vmap is over parameters, and over
    the learning rate where the factory takes one.

    Source: optax _src/test_utils.py, ferminet#105.
    """
    params, gs = example(), gradients(3)
    want = subject.follow(subject.make(), params, gs)
    got = _scanned(subject, params, gs)
    assert_close(got, (_stacked(want[0]), want[1]), **CLOSE, what="in scan and cond")

    def first(params: PyTree, **rate: Any) -> PyTree:
        tx = subject.make(**rate)
        return subject.update(tx, gs[0], tx.init(params), params)[0]

    pair = [params, jax.tree.map(lambda p: 2 * p, params)]
    got = jax.jit(jax.vmap(first))(_stacked(pair))
    want = _stacked([first(params) for params in pair])
    assert_close(got, want, **CLOSE, what="vmap over params")
    if (name := subject.learning_rate) is not None:
        rates = (0.125, 0.5)
        over_rates = jax.vmap(lambda rate: first(params, **{name: rate}))
        got = jax.jit(over_rates)(jnp.asarray(rates))
        want = _stacked([first(params, **{name: rate}) for rate in rates])
        assert_close(got, want, **CLOSE, what=f"vmap {name}")


def law_06_takes_every_learning_rate(subject: Subject) -> None:
    """A learning rate as float, array, NumPy scalar or schedule gives one result.

    A bfloat16 scalar changes no dtype. A stateful schedule is passed by
    `optax.inject_hyperparams`.

    Source: optax#1405, optax alias_test.py.
    """
    if (name := subject.learning_rate) is None:
        raise DoesNotApply("the factory takes no learning rate")
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
    """The transformation works inside the wrappers of optax.

    In `chain` and `named_chain` its updates are those without; in `flatten`,
    `lookahead`, `schedule_free`, `mechanize`, `sam` and `apply_if_finite` they are
    finite.

    Source: optax#271, optax contrib/_common_test.py.
    """
    params, gs = example(), gradients(2)
    want, _ = subject.follow(subject.make(), params, gs)

    def check_equal(tx: Any) -> None:
        got, _ = subject.follow(tx, params, gs)
        assert_close(got, want, rtol=1e-5)

    def check_finite(tx: Any) -> None:
        got, _ = subject.follow(subject.compiled(tx), params, gs)
        chex.assert_trees_all_equal_shapes_and_dtypes(got, want)
        assert_finite(got)

    def check_lookahead(tx: Any) -> None:
        pair = optax.LookaheadParams(params, params)
        state = tx.init(pair)
        for g in gs:
            u, state = tx.update(g, state, pair)
            chex.assert_trees_all_equal_shapes_and_dtypes(u.fast, want[0])
            assert_finite(u)

    wrappers = {
        "chain": (check_equal, _chained),
        "named_chain": (check_equal, _named),
        "apply_if_finite": (check_finite, lambda tx: optax.apply_if_finite(tx, 1)),
        "flatten": (check_finite, optax.flatten),
        "schedule_free": (check_finite, _schedule_free),
        "mechanize": (check_finite, optax.contrib.mechanize),
        "sam": (check_finite, lambda tx: optax.contrib.sam(tx, optax.sgd(0.1))),
        "lookahead": (check_lookahead, lambda tx: optax.lookahead(tx, 2, 0.5)),
    }
    check_each(lambda case: case[0](case[1](subject.make())), wrappers)


def _scanned(subject: Subject, params: PyTree, gs: list[PyTree]) -> tuple[Any, Any]:
    """Return updates and last state of a scan in which a cond skips every other step.

    All of it is compiled in one program.
    """
    tx = subject.make()

    def one(state: Any, given: Any) -> Any:
        g, kept = given
        zeros = jax.tree.map(jnp.zeros_like, g)
        u, state = jax.lax.cond(
            kept,
            lambda: subject.update(tx, g, state, params),
            lambda: (zeros, state),
        )
        return state, u

    @jax.jit
    def run(gs: PyTree) -> Any:
        twice = jax.tree.map(lambda x: jnp.repeat(x, 2, axis=0), gs)
        kept = jnp.arange(2 * len(jax.tree.leaves(gs)[0])) % 2 == 1
        return jax.lax.scan(one, tx.init(params), (twice, kept))

    state, updates = run(_stacked(gs))
    return jax.tree.map(lambda u: u[1::2], updates), state


def _stacked(trees: list[PyTree]) -> PyTree:
    return jax.tree.map(lambda *x: jnp.stack(x), *trees)


def _chained(tx: Any) -> Any:
    return optax.chain(optax.identity(), tx)


def _named(tx: Any) -> Any:
    return optax.named_chain(("a", optax.identity()), ("b", tx))


def _schedule_free(tx: Any) -> Any:
    return optax.contrib.schedule_free(tx, 0.1)
