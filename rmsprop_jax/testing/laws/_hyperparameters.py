"""Laws 8 to 10: numbers that are injected, traced, or zero."""

from typing import Any

import chex
import jax
import jax.numpy as jnp

from .._closeness import assert_close
from .._report import check_each
from .._subject import DoesNotApply, Subject, example, gradients


def law_08_injects(subject: Subject) -> None:
    """Under `optax.inject_hyperparams` updates and state are those of the factory.

    `optax.inject_hyperparams` rounds numbers to the dtype of the parameters: with
    bfloat16 parameters a decay of 0.999 becomes 1. The updates must then be within 10 %
    of the largest update, or the numbers be refused with a ValueError; they may not
    silently become those of another optimizer.

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
    """Every number may be an int, an array, a tracer or a schedule.

    `optax.inject_hyperparams` makes tracers of ints, floats and arrays, and calls
    functions as schedules.

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
    """A momentum of 0 gives the updates of a momentum of None.

    Source: optax alias_test.py.
    """
    if "momentum" not in subject.arguments:
        raise DoesNotApply("the factory takes no momentum")
    params, gs = example(), gradients(3)
    try:
        plain = subject.make(momentum=None)
    except (TypeError, ValueError) as error:
        raise DoesNotApply(f"the factory refuses a momentum of None: {error}") from None
    want, _ = subject.follow(plain, params, gs)
    got, _ = subject.follow(subject.make(momentum=0.0), params, gs)
    assert_close(got, want, rtol=1e-6)
