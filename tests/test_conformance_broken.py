"""Each law of `rmsprop_jax.testing` can fail: a transformation that breaks it."""

import re
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rmsprop_jax.testing import LAWS, examine


class State(NamedTuple):
    count: jax.Array
    trace: optax.Params


def build(init=None, update=None):
    """Make descent with momentum, or something else where it is given."""

    def usual_init(params):
        return State(jnp.zeros((), jnp.int32), jax.tree.map(jnp.zeros_like, params))

    def usual_update(updates, state, params=None, **extra_args):
        trace = jax.tree.map(
            lambda g, b: (g + 0.5 * b).astype(b.dtype), updates, state.trace
        )
        updates = jax.tree.map(lambda b: -0.125 * b, trace)
        return updates, State(optax.safe_increment(state.count), trace)

    return optax.GradientTransformationExtraArgs(
        init or usual_init, update or usual_update
    )


def stateless(function):
    """Make a transformation from a function of gradients and parameters."""
    return lambda: optax.with_extra_args_support(optax.stateless(function))


def leafwise(function):
    return stateless(lambda updates, _: jax.tree.map(function, updates))


def twice_where_traced(g):
    return 2 * g if isinstance(g, jax.core.Tracer) else g


def skips_weight_decay():
    def update(updates, params):
        if params is None:
            return updates
        return jax.tree.map(lambda g, p: g + 0.1 * p, updates, params)

    return stateless(update)()


def drifts():
    """Start in float16 and continue in the dtype of the gradients."""

    def init(params):
        low = jax.tree.map(lambda p: jnp.zeros(p.shape, jnp.float16), params)
        return State(jnp.zeros((), jnp.int32), low)

    def update(updates, state, params=None, **extra_args):
        trace = jax.tree.map(lambda g, b: g + b, updates, state.trace)
        return trace, State(state.count, trace)

    return build(init, update)


def needs_a_float(learning_rate=0.1):
    return optax.scale(-float(learning_rate))


def branches_on_momentum(learning_rate=0.1, momentum=0.0):
    if momentum > 0:
        return optax.sgd(learning_rate, momentum)
    return optax.sgd(learning_rate)


def none_is_some_momentum(learning_rate=0.1, momentum=0.0):
    return optax.sgd(learning_rate, 0.9 if momentum is None else momentum)


def calls_params():
    def update(updates, params):
        return params(updates) if callable(params) else updates

    return stateless(update)()


def has_unnamed_state():
    def init(params):
        return (jnp.zeros(()), params)

    return build(init, lambda g, state, params=None, **_: (g, state))


def reads_values():
    def init(params):
        size = float(sum(jnp.sum(p) for p in jax.tree.leaves(params)))
        return State(jnp.zeros((), jnp.int32), jax.tree.map(lambda p: p + size, params))

    return build(init)


def ignores_mu_dtype(mu_dtype=None):
    return build()


def counts_past_the_end():
    def update(updates, state, params=None, **extra_args):
        return updates, State(state.count + 1, state.trace)

    return build(update=update)


def keeps_params():
    return build(lambda params: State(jnp.zeros((), jnp.int32), params))


def starts_by_devices(dtype=jnp.float32):
    """Depend on the mesh, as the blocks of some quantizers do."""

    def init(params):
        return State(
            jnp.zeros((), jnp.int32),
            jax.tree.map(
                lambda p: jnp.full_like(p, len(p.sharding.device_set), dtype=dtype),
                params,
            ),
        )

    return build(init)


def wrong_oracle(start, gradients, learning_rate):
    del gradients, learning_rate
    return np.cumsum(np.ones((40, 4)), axis=0) + start


# For each law a factory that breaks it, and words of the message.
BREAKERS = {
    "returns_extra_args": (
        lambda: optax.GradientTransformation(*build()),
        "returns a GradientTransformation, not",
    ),
    "params_may_be_none": (skips_weight_decay, "silently differs"),
    "is_pure": (drifts, "traced anew"),
    "hashes_stably": (optax.sgd, "two calls of the factory"),
    "runs_compiled": (
        leafwise(lambda g: g if jnp.sum(g) > 0 else -g),
        "TracerBoolConversionError",
    ),
    "takes_every_learning_rate": (needs_a_float, "schedule: TypeError"),
    "composes": (stateless(lambda g, _: {"a": g["a"], "b": g["b"]}), "flatten: "),
    "injects": (optax.rmsprop, "injected with bfloat16 parameters"),
    "takes_traced_numbers": (branches_on_momentum, "momentum traced: "),
    "zero_momentum_is_none": (none_is_some_momentum, "differ in leaves"),
    "takes_every_tree": (leafwise(lambda g: g / jnp.max(g)), "zero-size: "),
    "takes_none_gradients": (optax.rmsprop, "do not match"),
    "may_be_masked": (
        stateless(lambda g, _: jax.tree.map(lambda x: x * len(g), g)),
        "masked: ",
    ),
    "takes_callable_params": (calls_params, "were called"),
    "names_its_state": (has_unnamed_state, r"\[0\] is under no field name"),
    "maps_its_params": (lambda: optax.flatten(build()), "Error"),
    "inits_from_shapes": (reads_values, "ConcretizationTypeError"),
    "survives_a_checkpoint": (optax.rmsprop, "centered the other way: .*StdDev"),
    "resets_in_part": (drifts, "traced anew"),
    "updates_in_gradient_dtype": (
        leafwise(lambda g: g.astype(jnp.float32)),
        "bfloat16: ",
    ),
    "keeps_the_types_of_its_state": (optax.rmsprop, r"bfloat16\[4\] at first, float32"),
    "keeps_a_mixed_tree_apart": (lambda: optax.flatten(build()), "float64"),
    "honours_its_state_dtype": (ignores_mu_dtype, "mu_dtype=.*the state has"),
    "treats_complex_as_a_plane": (leafwise(lambda g: g / jnp.sqrt(g * g)), "g \\* 1j"),
    "zero_gradients_move_nothing": (optax.rmsprop, "eps=0: "),
    "float16_squares_fit": (optax.rmsprop, "for gradients of .0.0001"),
    "averages_follow_in_bfloat16": (optax.rmsprop, "after gradients of 1, then of 0.1"),
    "constant_gradients_are_bounded": (optax.rmsprop, "gives a step of nan"),
    "recovers_or_shows": (optax.rmsprop, "inf: the update stays"),
    "has_derivatives": (
        partial(optax.rmsprop, eps_in_sqrt=False),
        "at zero gradients",
    ),
    "counts_without_end": (counts_past_the_end, "counter at .count became -2147483648"),
    "equals_its_oracle": (optax.sgd, "under a schedule: "),
    "state_is_sharded_as_its_params": (build, "jitted init: .* on 8 devices"),
    "updates_in_place": (keeps_params, "is in the buffer of a parameter"),
    "shards_without_a_trace": (starts_by_devices, "differ"),
    "stores_the_same_on_every_mesh": (
        partial(starts_by_devices, jnp.bfloat16),
        "bfloat16 state on 1 and on several devices",
    ),
    "accumulates": (leafwise(twice_where_traced), "updates: "),
    "compiles_to_little": (leafwise(lambda g: jnp.sin(g @ g) @ g @ g), "temporaries"),
    "converges": (lambda: optax.sgd(0.0), "1 from its minimum"),
}


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.name)
def test_the_law_can_be_broken(law):
    factory, words = BREAKERS[law.name]
    report = examine(factory, only=[law.name], oracle=wrong_oracle)
    (broken,) = report.broken
    assert (broken.number, broken.statement) == (law.number, law.statement)
    assert re.search(words, broken.message, re.DOTALL), broken.message
