"""What stands around RMSProp in a state of optax moves with it, or is refused."""

import chex
import jax
import jax.numpy as jnp
import optax
import pytest

from rmsprop_jax import dialects, rmsprop, scale_by_rmsprop, trace
from rmsprop_jax.interop.optax import from_state, to_state

PARAMS = {"w": jnp.arange(1.0, 4.0), "b": jnp.ones(2)}
SCHEDULE = optax.linear_schedule(0.1, 0.0, 20)
LABELS = {"w": "a", "b": "b"}
OLD = not hasattr(optax, "snapshot")


@pytest.fixture(autouse=True)
def as_optax_computes():
    """optax adds numbers of other dtypes and ranks."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def injected_by_hand(make):
    return optax.inject_hyperparams(make)(0.1, momentum=0.9)


def lower(state):
    """What a person does in the middle of a run."""
    state.hyperparams["learning_rate"] = jnp.float32(1e-3)
    return state


def noisy(make):
    key = jax.random.key(7)
    return optax.chain(optax.add_noise(0.01, 0.9, key=key), make(0.1))


def twice(make):
    """A label for each of two RMSProps, with other rates and counts."""
    some = optax.apply_if_finite(make(SCHEDULE), 5)
    return optax.partition({"a": some, "b": make(SCHEDULE, momentum=0.9)}, LABELS)


# Each wrapper of optax that has a state.
WRAPPERS = {
    "schedule": lambda make: make(SCHEDULE, momentum=0.9),
    "injected": injected_by_hand,
    "injected schedule": lambda make: optax.inject_hyperparams(make)(
        SCHEDULE, decay=optax.linear_schedule(0.5, 0.9, 9)
    ),
    "plateau": lambda make: optax.chain(
        make(0.1), optax.contrib.reduce_on_plateau(0.5, patience=1)
    ),
    "half full": lambda make: optax.MultiSteps(make(SCHEDULE), 4),
    "skipping": lambda make: optax.MultiSteps(
        make(0.1), 2, should_skip_update_fn=optax.skip_not_finite
    ),
    "averages": lambda make: optax.chain(
        optax.ema(0.9), make(0.1), optax.ema(0.5), optax.ema(0.7, debias=False)
    ),
    "buffers around": lambda make: optax.chain(
        optax.trace(0.9), make(0.1, momentum=0.5), optax.trace(0.7)
    ),
    "beside Adam": lambda make: optax.partition(
        {"a": make(SCHEDULE), "b": optax.adam(SCHEDULE)}, LABELS
    ),
    "beside SGD": lambda make: optax.partition(
        {"a": make(0.1, momentum=0.9), "b": optax.sgd(0.1, momentum=0.9)}, LABELS
    ),
    "beside optax's": lambda make: optax.partition(
        {"a": make(0.1), "b": optax.rmsprop(SCHEDULE, momentum=0.9)}, LABELS
    ),
    "two": twice,
    "masked": lambda make: optax.chain(
        optax.masked(optax.ema(0.9), {"w": False, "b": True}),
        optax.masked(make(SCHEDULE), {"w": True, "b": False}),
    ),
    "finite": lambda make: optax.apply_if_finite(make(SCHEDULE), 5),
    "named": lambda make: optax.named_chain(
        ("x", make(SCHEDULE)), ("y", optax.ema(0.9))
    ),
    "noise": noisy,
    "every": lambda make: optax.chain(make(0.1), optax.apply_every(3)),
    "decay": lambda make: optax.chain(
        optax.add_decayed_weights(1e-3 if OLD else SCHEDULE),
        optax.zero_nans(),
        make(SCHEDULE),
    ),
    "conditional": lambda make: optax.conditionally_transform(
        make(SCHEDULE), lambda step: step % 2 == 0
    ),
    "masked in time": lambda make: optax.transforms.conditionally_mask(
        make(SCHEDULE), lambda step: step % 2 == 0
    ),
    "snapshot": lambda make: optax.chain(
        make(0.1), optax.snapshot("norm", optax.tree.norm)
    ),
    "nonnegative": lambda make: optax.chain(
        make(SCHEDULE), optax.keep_params_nonnegative()
    ),
    "real and imaginary": lambda make: optax.contrib.split_real_and_imaginary(
        make(SCHEDULE, momentum=0.9)
    ),
    "flat": lambda make: optax.flatten(make(0.1, momentum=0.9)),
    "schedule free": lambda make: optax.contrib.schedule_free(make(0.1), 0.1),
    "mechanized": lambda make: optax.contrib.mechanize(make(0.1)),
    "sharpness": lambda make: optax.contrib.sam(
        make(SCHEDULE), optax.sgd(0.05, momentum=0.9), 2, reset_state=False
    ),
    "deep": lambda make: optax.chain(
        optax.clip(1.0),
        optax.MultiSteps(
            optax.inject_hyperparams(
                lambda rate: optax.chain(make(rate), optax.ema(0.9))
            )(SCHEDULE),
            3,
        ).gradient_transformation(),
    ),
}
BY_HAND = {"injected": lower}


def train(tx, state, steps, **extra):
    """Return the updates of some steps, and the state after them."""
    update, seen = jax.jit(tx.update), []
    for step in range(steps):
        g = jax.tree.map(lambda p, step=step: jnp.sin(p + step), PARAMS)
        updates, state = update(g, state, PARAMS, **extra)
        seen.append(updates)
    return seen, state


if OLD:
    del WRAPPERS["snapshot"]


@pytest.mark.parametrize("name", WRAPPERS)
def test_a_run_goes_on_with_all_that_it_had(name):
    """To the step: in the middle of an accumulation, of a plateau, of an average."""
    theirs, ours = (WRAPPERS[name](make) for make in (optax.rmsprop, rmsprop))
    extra = {"value": jnp.float32(1.0)} if name == "plateau" else {}
    _, state = train(theirs, theirs.init(PARAMS), 6, **extra)
    state = BY_HAND.get(name, lambda state: state)(state)
    moved = from_state(state, ours.init(PARAMS))
    chex.assert_trees_all_equal_shapes_and_dtypes(moved, ours.init(PARAMS))
    want, after = train(theirs, state, 5, **extra)
    got, ours_after = train(ours, moved, 5, **extra)
    chex.assert_trees_all_close(got, want, rtol=1e-5, atol=1e-7)
    assert_same(to_state(moved, empty(state)), state)
    back = to_state(ours_after, empty(after))
    chex.assert_trees_all_close(words(back), words(after), rtol=1e-5, atol=1e-7)


def empty(state):
    """Return a state of the same structure that has forgotten all but its keys."""
    return jax.tree.map(lambda x: x if is_key(x) else jnp.zeros_like(x), state)


def is_key(x):
    return jnp.issubdtype(jnp.result_type(x), jax.dtypes.prng_key)


def words(tree):
    """Return keys as what they are made of, for comparison."""
    return jax.tree.map(lambda x: jax.random.key_data(x) if is_key(x) else x, tree)


def assert_same(got, want):
    chex.assert_trees_all_equal_shapes_and_dtypes(words(got), words(want))
    chex.assert_trees_all_equal(words(got), words(want))


def alone(make):
    return make(0.1)


def with_buffer(make):
    return make(0.1, momentum=0.9)


def first_alone(make):
    return optax.masked(make(0.1), {"w": True, "b": False})


# By wrapper: the same without it, and how the error names what has no place there.
LOST = {
    "schedule": (with_buffer, "'optax.ScaleByScheduleState', with its count"),
    "injected": (
        with_buffer,
        "'optax.Inject.*', with its count, hyperparams/decay, hyper.*/learning_rate",
    ),
    "plateau": (alone, "'optax.ReduceLROnPlateauState', with its scale, best_value"),
    "half full": (alone, "'optax.MultiStepsState', with its mini_step, gradient_st"),
    "averages": (alone, r"'optax.EmaState\[2\]', with its count, ema/b, ema/w"),
    "buffers around": (with_buffer, r"'Momentum\[2\]', with its trace/b, trace/w"),
    "beside Adam": (first_alone, "inner_states/b/optax.ScaleByAdamState', with its"),
    "finite": (alone, "'optax.ApplyIfFiniteState', with its notfinite_count, last"),
    "noise": (alone, "'optax.AddNoiseState', with its count, rng_key"),
    "schedule free": (alone, "'optax.ScheduleFreeState', with its b1, weight_sum"),
    "mechanized": (alone, "'optax.MechanicState', with its count, r, m, v, s, x0/b"),
}


@pytest.mark.parametrize("name", LOST)
def test_what_the_target_has_no_place_for_is_named(name):
    """Both ways; nothing that a run had is left out without a word."""
    bare, what = LOST[name]
    theirs, ours = (WRAPPERS[name](make) for make in (optax.rmsprop, rmsprop))
    for move, state, make in (
        (from_state, theirs.init(PARAMS), rmsprop),
        (to_state, ours.init(PARAMS), optax.rmsprop),
    ):
        match = (
            rf"`interop.optax.{move.__name__}`: does not fit.(.|\n)*  unexpected: .*"
        )
        with pytest.raises(ValueError, match=f"{match}{what}.* does not keep"):
            move(state, bare(make).init(PARAMS))


def test_what_only_the_target_has_stays_as_it_is():
    """A schedule, an average and an accumulation that begin with the move."""
    tx = optax.MultiSteps(optax.chain(rmsprop(SCHEDULE), optax.ema(0.9)), 4)
    _, state = train(optax.rmsprop(0.1), optax.rmsprop(0.1).init(PARAMS), 3)
    moved = from_state(state, tx.init(PARAMS), count=3)
    (rule, rate), average = moved.inner_opt_state
    assert (moved.gradient_step, rule.step, rate.count) == (3, 3, 3)
    assert (moved.mini_step, average.count) == (0, 0)
    with pytest.raises(
        ValueError, match=r"from_state\(count=...\)` must lie in \[0, inf"
    ):
        from_state(state, tx.init(PARAMS), count=-1)


def test_an_average_of_other_parameters():
    def make(rule, mask):
        return optax.chain(rule(0.1), optax.masked(optax.ema(0.9), mask))

    state = make(optax.rmsprop, {"w": True, "b": False}).init(PARAMS)
    template = make(rmsprop, {"w": False, "b": True}).init(PARAMS)
    match = (
        r"missing: 'optax.EmaState/ema/b', which the target keeps\n.*'optax.EmaState', "
    )
    with pytest.raises(ValueError, match=match + "with its ema/w, which the target"):
        from_state(state, template)


def test_what_differs_in_shape_or_kind():
    state = optax.inject_hyperparams(optax.rmsprop)(0.1).init(PARAMS)
    template = optax.inject_hyperparams(rmsprop)(0.1).init(PARAMS)
    state.hyperparams["eps"] = jnp.ones(2)
    state.hyperparams["decay"] = jnp.int32(0)
    match = (
        r"hyperparams/decay': got int32\(\), expected float32\(\)\n.*"
        r"hyperparams/eps': got float32\(2,\), expected float32\(\)"
    )
    with pytest.raises(ValueError, match=match):
        from_state(state, template)


def test_injected_numbers_have_the_words_of_the_dialect():
    """`rho` is `decay`; a start that is past, a seed and a 0 have nothing to carry."""
    theirs = optax.inject_hyperparams(optax.rmsprop)(0.1, 0.9, momentum=0.9)
    ours = optax.inject_hyperparams(dialects.keras)(0.3, 0.5, momentum=0.4)
    _, state = train(theirs, theirs.init(PARAMS), 4)
    state.hyperparams["learning_rate"] = 1e-3  # a number of Python
    moved = from_state(state, ours.init(PARAMS))
    got = {key: float(x) for key, x in moved.hyperparams.items()}
    want = {"learning_rate": 1e-3, "rho": 0.9, "momentum": 0.9, "epsilon": 1e-8}
    assert got == pytest.approx(want | {"seed": 0})
    back = to_state(moved, theirs.init(PARAMS))
    chex.assert_trees_all_close(back.hyperparams, state.hyperparams)
    ours = optax.inject_hyperparams(dialects.keras)(0.3, momentum=0.4, weight_decay=0.1)
    match = "unexpected: 'optax.Inject.*', with its hyperparams/weight_decay, which"
    with pytest.raises(ValueError, match=match):
        to_state(ours.init(PARAMS), theirs.init(PARAMS))


def test_each_half_of_a_partition_has_its_own_correction():
    """Half of the gradients of "a" were not finite, so the counts differ."""

    def make(rule):
        centered = dict(centered=True, bias_correction=True)
        some = optax.apply_if_finite(rule(0.1, 0.9, **centered), 9)
        return optax.partition({"a": some, "b": rule(0.1, 0.9, **centered)}, LABELS)

    theirs, ours = make(optax.rmsprop), make(rmsprop)
    state, update = theirs.init(PARAMS), jax.jit(theirs.update)
    for step in range(1, 7):
        w = jnp.full(3, 1.0 * step if step % 2 else jnp.nan)
        _, state = update({"w": w, "b": jnp.full(2, 1.0 * step)}, state)
    moved = from_state(state, ours.init(PARAMS), decay=0.9)
    for _ in range(2):
        want, state = update(PARAMS, state)
        got, moved = jax.jit(ours.update)(PARAMS, moved)
        chex.assert_trees_all_close(got, want, rtol=1e-5)


def test_buffers_whose_order_is_known_only_from_chains_of_chains():
    inner = optax.chain(optax.scale_by_rms(), optax.scale(-0.1))
    theirs = optax.chain(inner, optax.trace(0.9))
    ours = optax.chain(scale_by_rmsprop(), trace(0.9), optax.scale(-0.1))
    match = r"buffers of 'b' differ in kind: theirs holds steps.*`lr_in_momentum=True`"
    with pytest.raises(ValueError, match=match):
        from_state(theirs.init(PARAMS), ours.init(PARAMS))


@pytest.mark.skipif(OLD, reason="this optax has no monitor")
def test_a_monitor_measures_again():
    def make(rule):
        kept = optax.measure_with_ema(optax.tree.norm, 0.9)
        return optax.chain(rule(0.1), optax.monitor({"norm": kept}))

    theirs, ours = make(optax.rmsprop), make(rmsprop)
    _, state = train(theirs, theirs.init(PARAMS), 3)
    moved = from_state(state, ours.init(PARAMS))
    chex.assert_trees_all_equal(moved[1].measure_states, state[1].measure_states)


def test_a_train_state_moves_whole():
    """Also the parameters and the step, which Flax keeps around the optimizer."""
    train_state = pytest.importorskip("flax.training.train_state")

    def make(tx, params):
        return train_state.TrainState.create(apply_fn=None, params=params, tx=tx)

    state = make(optax.rmsprop(0.1), PARAMS).apply_gradients(grads=PARAMS)
    moved = from_state(state, make(rmsprop(0.1), jax.tree.map(jnp.zeros_like, PARAMS)))
    chex.assert_trees_all_equal(moved.params, state.params)
    assert int(moved.step) == 1
    chex.assert_trees_all_equal(moved.opt_state[0].s, state.opt_state[0].nu)


def test_an_nnx_optimizer_and_a_plain_state():
    """Flax wraps each array in a variable; the places are the same."""
    nnx = pytest.importorskip("flax.nnx")
    inject = optax.inject_hyperparams
    theirs, ours = (inject(make)(SCHEDULE) for make in (optax.rmsprop, rmsprop))
    model = nnx.Module()
    for name, p in PARAMS.items():
        setattr(model, name, nnx.Param(p))
    optimizer = nnx.Optimizer(model, ours, wrt=nnx.Param)
    _, state = train(theirs, theirs.init(PARAMS), 3)
    moved = from_state(state, optimizer.opt_state)
    assert jax.tree.structure(moved) == jax.tree.structure(optimizer.opt_state)
    assert int(moved.hyperparams_states["learning_rate"].count[...]) == 3
    assert_same(to_state(moved, theirs.init(PARAMS)), state)


def test_a_state_that_was_restored_as_dicts():
    plain = {"0": {"nu": PARAMS}, "1": {}, "2": {}}
    match = r"no state of .*restore a checkpoint into the structure of `init\(params\)`"
    with pytest.raises(ValueError, match=match):
        from_state(plain, rmsprop(0.1).init(PARAMS))
