"""A run moves between optax's RMSProp and ours in mid-training, both ways."""

import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import distance, gradients, name

from rmsprop_jax import rmsprop, scale_by_rmsprop
from rmsprop_jax.interop.optax import from_state, to_state

KEYS = ("centered", "bias_correction", "momentum")
OPTIONS = [
    dict(zip(KEYS, values, strict=True))
    for values in itertools.product((False, True), (False, True), (None, 0.9))
]


@pytest.fixture(autouse=True)
def standard_promotion():
    """optax adds a real decayed square to a complex one."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def problem(dtype):
    """Give parameters, one of them complex, and 60 gradients."""
    partner = np.result_type(dtype, np.complex64)
    real, complex_ = (
        gradients(60, (4,), 1, dtype),
        gradients(60, (3, 2), 2, partner),
    )
    gs = [
        {"real": jnp.asarray(a), "complex": jnp.asarray(b)}
        for a, b in zip(real, complex_, strict=True)
    ]
    return jax.tree.map(jnp.ones_like, gs[0]), gs


def stepper(tx):
    @jax.jit
    def step(params, state, g):
        updates, state = tx.update(g, state, params)
        return optax.apply_updates(params, updates), state

    return step


def train(step, params, state, gs):
    """Give the parameters and the state after every step."""
    visited = [(params, state)]
    for g in gs:
        visited.append(step(*visited[-1], g))
    return visited


@pytest.mark.parametrize("options", OPTIONS, ids=name)
@pytest.mark.rows(4)
def test_either_half_may_be_ours(x64, options):
    start, gs = problem(np.float64)
    rate = optax.exponential_decay(0.02, 10, 0.5)
    theirs, ours = (
        make(rate, 0.9, 1e-3, **options) for make in (optax.rmsprop, rmsprop)
    )
    in_optax, in_ours = stepper(theirs), stepper(ours)
    whole = train(in_optax, start, theirs.init(start), gs)

    params, state = train(in_ours, start, ours.init(start), gs[:30])[-1]
    state = to_state(state, theirs.init(start), decay=0.9)
    compare(train(in_optax, params, state, gs[30:])[-1], whole)

    params, kept = whole[30]
    state = from_state(kept, ours.init(start), decay=0.9)
    assert state[0].step == 30
    compare(train(in_ours, params, state, gs[30:])[-1], whole)
    # Back, to a rounding: of s + W*|m|**2 for s, and of W*m for m.
    back = to_state(state, theirs.init(start), decay=0.9)
    chex.assert_trees_all_equal_shapes_and_dtypes(back, kept)
    chex.assert_trees_all_close(back, kept, rtol=1e-15 * options["centered"])


def compare(got, whole):
    """The same parameters, to 1e-12 of the distance that each moved."""
    for key, x in got[0].items():
        path = [params[key] for params, _ in whole]
        error = np.max(np.abs(x - path[-1]))
        assert error <= 1e-12 * distance(path[1:], path[0])


PARAMS = {"w": jnp.arange(3.0), "b": jnp.ones(2)}


def stepped(tx, steps=3):
    state, update = tx.init(PARAMS), jax.jit(tx.update)
    for _ in range(steps):
        _, state = update(PARAMS, state, PARAMS)
    return state


def test_one_class_for_both_of_optax():
    """Our state has one structure where optax's depends on `bias_correction`."""
    template = rmsprop(0.1).init(PARAMS)
    for options in ({}, {"bias_correction": True}):
        state = from_state(stepped(optax.rmsprop(0.1, **options)), template)
        np.testing.assert_allclose(state[0].s["w"], (1 - 0.9**3) * PARAMS["w"] ** 2)


def test_a_start_without_steps():
    options = dict(centered=True, bias_correction=True)
    theirs = optax.rmsprop(0.1, **options).init(PARAMS)
    ours = rmsprop(0.1, **options).init(PARAMS)
    assert_same(from_state(theirs, ours, decay=0.9), ours)
    assert_same(to_state(ours, theirs, decay=0.9), theirs)


def assert_same(got, want):
    chex.assert_trees_all_equal_shapes_and_dtypes(got, want)
    chex.assert_trees_all_equal(got, want)


def test_parts_of_chains():
    """The moments alone, a trace of optax behind ours, and a wrapper around all."""
    state = stepped(optax.scale_by_stddev(), 2)
    got = from_state(state, scale_by_rmsprop(centered=True).init(PARAMS), count=2)
    assert got.count == 2
    theirs = optax.chain(optax.scale_by_rms(), optax.trace(0.9), optax.scale(-0.1))
    mixed = optax.chain(scale_by_rmsprop(), optax.trace(0.9), optax.scale(-0.1))
    state = stepped(theirs)
    got = from_state(state, mixed.init(PARAMS))
    assert_same(got[1], state[1])
    assert_same(to_state(got, theirs.init(PARAMS)), state)
    wrapped = optax.MultiSteps(optax.inject_hyperparams(rmsprop)(0.1), 2)
    got = from_state(stepped(optax.rmsprop(0.1)), wrapped.init(PARAMS), count=7)
    assert (got.gradient_step, got.inner_opt_state.count) == (7, 7)
    assert got.inner_opt_state.inner_state[0].count == 7


def test_low_precision_of_optax():
    params = {"w": jnp.ones(3, jnp.bfloat16)}
    theirs, ours = optax.rmsprop(0.1).init(params), rmsprop(0.1).init(params)
    theirs = jax.tree.map(lambda x: x + jnp.asarray(0.3, x.dtype), theirs)
    state = from_state(theirs, ours)
    assert state[0].s["w"].dtype == jnp.float32
    assert_same(to_state(state, theirs), theirs)


PLAIN, CENTERED = dict(), dict(centered=True)
BUFFERED, DIRECTIONS = dict(momentum=0.9), dict(momentum=0.9, lr_in_momentum=False)
BOTH = dict(centered=True, bias_correction=True)


def theirs(options, params=PARAMS):
    return optax.rmsprop(0.1, **options).init(params)


def ours(options, params=PARAMS):
    return rmsprop(0.1, **options).init(params)


@pytest.mark.parametrize(
    ("mine", "its", "into_ours", "into_theirs"),
    [
        (PLAIN, CENTERED, "unexpected: mu", "missing: mu"),
        (CENTERED, PLAIN, "missing: mu", "unexpected: mu"),
        (PLAIN, BUFFERED, "unexpected: trace", "missing: trace"),
        (BUFFERED, PLAIN, "missing: trace", "unexpected: trace"),
    ],
)
def test_other_moments(mine, its, into_ours, into_theirs):
    with pytest.raises(ValueError, match=f"optax.from_state`(.|\n)*{into_ours}, which"):
        from_state(theirs(its), ours(mine))
    with pytest.raises(ValueError, match=f"optax.to_state`(.|\n)*{into_theirs}, which"):
        to_state(ours(mine), theirs(its))


def test_other_parameters():
    other = {"w": jnp.ones(4), "c": jnp.ones(2)}
    match = (
        r"missing: nu of 'b'.*\n.*unexpected: nu of 'c'.*\n"
        r".*nu of 'w': got \(4,\), expected \(3,\) for 'w'\n.*Nothing was changed"
    )
    with pytest.raises(ValueError, match=match):
        from_state(theirs(PLAIN, other), ours(PLAIN))
    with pytest.raises(ValueError, match=match):
        to_state(ours(PLAIN, other), theirs(PLAIN))


def test_other_transformations():
    for convert in (from_state, to_state):
        with pytest.raises(ValueError, match="no state of `optax.scale_by_rms`"):
            convert(ours(PLAIN), ours(PLAIN))
        with pytest.raises(
            ValueError, match="no RMSPropState in this state; got tuple"
        ):
            convert(theirs(PLAIN), theirs(PLAIN))


def test_two_moments_for_one_parameter():
    twice = optax.chain(optax.scale_by_rms(), optax.scale_by_rms()).init(PARAMS)
    with pytest.raises(ValueError, match="two arrays nu for the parameter at 'b'"):
        from_state(twice, ours(PLAIN))


def test_the_decay_that_is_needed():
    old = optax.tree.set(theirs(BOTH), count=jnp.int32(3))
    new = optax.tree.set(ours(BOTH), step=jnp.int32(3))
    with pytest.raises(ValueError, match=r"from_state\(decay=.*; got None"):
        from_state(old, new)
    with pytest.raises(ValueError, match=r"to_state\(decay=.*; got None"):
        to_state(new, old)


@pytest.mark.parametrize("decay", [1.0, 1.5, -0.5])
def test_the_decay_that_is_none(decay):
    """Refused also where it would not be read."""
    for options in (PLAIN, BOTH):
        old, new = theirs(options), ours(options)
        for call, given in ((from_state, (old, new)), (to_state, (new, old))):
            match = rf"optax.{call.__name__}\(decay=...\)` must lie in \[0, 1\)"
            with pytest.raises(ValueError, match=match):
                call(*given, decay=decay)


def test_the_count_that_is_needed():
    template = rmsprop(optax.constant_schedule(0.1)).init(PARAMS)
    match = r"from_state\(count=.*counts them in optax.ScaleByScheduleState.*got None"
    for like in (template, jax.eval_shape(lambda: template)):
        assert from_state(theirs(PLAIN), like, count=5)[1].count == 5
        with pytest.raises(ValueError, match=match):
            from_state(theirs(PLAIN), like)


def test_the_place_of_the_learning_rate():
    match = r"holds steps \(lr\*u\), that .* directions \(u\).*`lr_in_momentum=True`"
    with pytest.raises(ValueError, match=match):
        from_state(theirs(BUFFERED), ours(DIRECTIONS))
    with pytest.raises(ValueError, match=match):
        to_state(ours(DIRECTIONS), theirs(BUFFERED))
