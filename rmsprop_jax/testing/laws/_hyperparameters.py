"""Laws 8 to 10: numbers that are injected, traced, or zero."""

from typing import Any

import chex
import jax
import jax.numpy as jnp

from .._closeness import assert_close
from .._report import check_each
from .._subject import DoesNotApply, Subject, example, gradients


def law_08_injects(subject: Subject) -> None:
    """Under `optax.inject_hyperparams` equal the plain one, state included.

    With bfloat16 parameters, to whose dtype the numbers are rounded, equal it to within
    10 % of the largest update, or refuse the numbers with a ValueError; never silently
    another optimizer. A decay is 0.999 there, and comes as 1.

    Source: optax#1414, optax#1445, D7.
    """
    subject.numbers()
    params, gs = example(), gradients(3)
    want, state = subject.follow(subject.make(), params, gs)
    got, injected = subject.follow(subject.inject(), params, gs)
    close = dict(rtol=1e-4, atol=1e-6)
    assert_close(got, want, **close, what="updates")
    assert_close(injected.inner_state, state, **close, what="state")
    decay = {} if (name := subject.find(("b2", "decay"))) is None else {name: 0.999}
    low, gs = example(jnp.bfloat16), gradients(3, jnp.bfloat16)
    want, _ = subject.follow(subject.make(**decay), low, gs)
    try:
        got, _ = subject.follow(subject.inject(**decay), low, gs)
    except ValueError:
        return
    what = f"injected with bfloat16 parameters, and {decay or 'the default numbers'}"
    largest = max(float(jnp.max(jnp.abs(u))) for u in jax.tree.leaves(want))
    assert_close(got, want, what, rtol=0.0, atol=0.1 * largest)


def law_09_takes_traced_numbers(subject: Subject) -> None:
    """Take every number as int, array, tracer and schedule.

    `optax.inject_hyperparams` makes tracers of all that are given as int, float or
    array, and schedules of functions.

    Source: optax#412.
    """
    numbers = subject.numbers()
    params, (g,) = example(), gradients(1)

    def first(numbers: Any) -> Any:
        tx = subject.make(**numbers)
        return subject.update(tx, g, tx.init(params), params)[0]

    def check_traced(name: str) -> None:
        jax.eval_shape(lambda x: first({name: x}), jnp.asarray(numbers[name]))

    def check_schedule(name: str) -> None:
        tx = subject.inject(**{name: lambda _: jnp.asarray(numbers[name])})
        got, _ = subject.follow(tx, params, [g])
        assert_close(got[0], want, rtol=1e-4, atol=1e-7)

    want = first({})
    check_each(check_traced, {f"{name} traced": name for name in numbers})
    floats = {k: v for k, v in numbers.items() if isinstance(v, float)}
    check_each(check_schedule, {f"{name} as a schedule": name for name in floats})
    if (rate := subject.learning_rate) is not None:
        got, want = first({rate: 1}), first({rate: 1.0})
        chex.assert_trees_all_equal_dtypes(got, want)
        assert_close(got, want, rtol=1e-6, what=f"{rate}=1")


def law_10_zero_momentum_is_none(subject: Subject) -> None:
    """With momentum 0 give the updates of momentum None.

    Source: optax alias_test.py.
    """
    if "momentum" not in subject.arguments:
        raise DoesNotApply("the factory takes no momentum")
    params, gs = example(), gradients(3)
    try:
        plain = subject.make(momentum=None)
    except TypeError as error:
        raise DoesNotApply("the factory takes no momentum of None") from error
    want, _ = subject.follow(plain, params, gs)
    got, _ = subject.follow(subject.make(momentum=0.0), params, gs)
    assert_close(got, want, rtol=1e-6)
