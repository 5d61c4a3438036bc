"""Every message that a user can meet, read word by word."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rmsprop_jax import dialects, rmsprop, scale_by_rmsprop

AT_CONSTRUCTION = [
    (dict(decay=1.5), ValueError, r"decay=.*\[0, 1\); got 1.5.*optax.scale_by_rss"),
    (dict(decay=1.0), ValueError, r"decay=.*\[0, 1\); got 1.0"),
    (dict(decay=-0.1), ValueError, r"decay=.*\[0, 1\); got -0.1"),
    (dict(decay=float("nan")), ValueError, r"decay=.*got nan"),
    (dict(eps=-1e-8), ValueError, r"eps=.*\[0, inf\); got -1e-08"),
    (dict(initial_scale=-1.0), ValueError, r"initial_scale=.*\[0, inf\); got -1.0"),
    (dict(storage="float8"), ValueError, r"storage=.*'float32'.*got 'float8'"),
    (dict(nonfinite="skip"), ValueError, r"nonfinite=.*'propagate', 'hold'.*'skip'"),
    (
        dict(initial_scale=1.0, bias_correction=True),
        ValueError,
        r"initial_scale=1.0, bias_correction=True.*Drop one",
    ),
    (dict(decay=jnp.ones(3)), TypeError, r"decay=.*scalar"),
]
OF_RMSPROP = [
    pytest.param(
        *(dict(centered="False"), TypeError, "centered=.*True or False; got 'False'"),
        marks=pytest.mark.kinds,
    ),
    pytest.param(
        *(dict(momentum=0.9, nesterov=1), TypeError, "nesterov=.*True or False; got 1"),
        marks=pytest.mark.kinds,
    ),
    (dict(nesterov=True), ValueError, "nesterov=True.*no effect without `momentum`"),
    (dict(lr_in_momentum=False), ValueError, "no effect without `momentum`"),
    (dict(decoupled_weight_decay=True), ValueError, "effect without `weight_decay`"),
    (dict(weight_decay_mask={"w": True}), ValueError, "effect without `weight_decay`"),
    (dict(momentum=1.0), ValueError, r"momentum=.*\[0, 1\); got 1.0"),
    (dict(weight_decay=-0.1), ValueError, r"weight_decay=.*\[0, inf\); got -0.1"),
]


@pytest.mark.parametrize(("options", "error", "match"), AT_CONSTRUCTION)
def test_scale_by_rmsprop_names_itself(options, error, match):
    with pytest.raises(error, match=f"`scale_by_rmsprop.*{match}"):
        scale_by_rmsprop(**options)


@pytest.mark.parametrize(("options", "error", "match"), AT_CONSTRUCTION + OF_RMSPROP)
def test_rmsprop_names_itself(options, error, match):
    with pytest.raises(error, match=rf"`rmsprop\(.*{match}"):
        rmsprop(0.1, **options)


def test_a_schedule_for_a_number_names_the_way():
    """In a process of its own: here the annotations are enforced and speak first."""
    code = "import rmsprop_jax; rmsprop_jax.rmsprop(0.1, decay=lambda count: 0.9)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "TypeError: `rmsprop(decay=...)` must be a number; got a function" in (
        done.stderr
    )
    assert "`optax.inject_hyperparams(rmsprop)(..., decay=...)`" in done.stderr


def test_an_injected_start_is_checked_at_init():
    tx = optax.inject_hyperparams(rmsprop)(0.1, initial_scale=1.0, bias_correction=True)
    with pytest.raises(ValueError, match="Drop one"):
        tx.init(jnp.ones(2))
    tx = optax.inject_hyperparams(rmsprop)(0.1, bias_correction=True)
    tx.init(jnp.ones(2))


def test_a_number_injected_out_of_range_is_checked_at_init():
    tx = optax.inject_hyperparams(rmsprop)(0.1, decay=lambda _: 1.5)
    with pytest.raises(ValueError, match=r"decay=.*\[0, 1\); got 1.5"):
        tx.init(jnp.ones(2))
    tx = optax.inject_hyperparams(rmsprop)(0.1, momentum=0.9999)
    with pytest.raises(ValueError, match=r"momentum=.*hyperparam_dtype=jnp.float32"):
        tx.init(jnp.ones(2, jnp.bfloat16))


@pytest.mark.parametrize("name", ("eps", "initial_scale", "weight_decay"))
def test_a_negative_number_injected_is_checked_at_init(name):
    tx = optax.inject_hyperparams(rmsprop)(0.1, **{name: -1.0})
    with pytest.raises(ValueError, match=rf"{name}=.*\[0, inf\); got -1.0"):
        tx.init(jnp.ones(2))


def test_an_eps_that_vanishes_in_float16_is_refused():
    """The default one too: it is injected with the others."""
    half = jnp.full(2, 1e-6, jnp.float16)
    with pytest.raises(ValueError, match=r"eps=.* is 0.0 in float16.*hyperparam_dtype"):
        optax.inject_hyperparams(rmsprop)(0.1, decay=0.5).init(half)
    with pytest.raises(ValueError, match=r"epsilon=.* is 0.0 in float16"):
        optax.inject_hyperparams(dialects.keras)(0.1, rho=0.5, epsilon=1e-9).init(half)
    with pytest.raises(ValueError, match=r"eps=.* is a traced float16.*1e-08"):
        jax.jit(lambda eps: scale_by_rmsprop(eps=eps).init(half))(jnp.float16(1e-3))
    wide = optax.inject_hyperparams(rmsprop, hyperparam_dtype=jnp.float32)(0.1)
    u, _ = wide.update(half, wide.init(half))
    np.testing.assert_allclose(u, rmsprop(0.1).update(half, rmsprop(0.1).init(half))[0])
    optax.inject_hyperparams(rmsprop)(0.1, decay=0.5).init(half.astype(jnp.bfloat16))


def test_a_state_of_other_options_is_refused():
    """Kind by kind: what was centered, and what is no such state."""
    g = jnp.ones(2)
    for centered in (True, False):
        tx, other = (scale_by_rmsprop(centered=x) for x in (centered, not centered))
        with pytest.raises(
            ValueError, match=f"state is that of centered={not centered}"
        ):
            tx.update(g, other.init(g))
    one = rmsprop(0.1, momentum=0.9)
    other = rmsprop(0.1, momentum=0.9, lr_in_momentum=False)
    with pytest.raises(TypeError, match="MomentumState"):
        one.update(g, other.init(g))


PARAMETERS = [
    ({"a": {"b": object()}}, r"'a/b' must be an array; got object.*nnx.state"),
    ([jnp.ones(1), "relu"], "'1' must be an array; got str.*equinox.is_array"),
    (object(), "the root must be an array; got object"),
]


@pytest.mark.parametrize(("params", "match"), PARAMETERS)
@pytest.mark.parametrize("make", (scale_by_rmsprop, lambda: rmsprop(0.1, momentum=0.9)))
def test_init_names_the_leaf(params, match, make):
    with pytest.raises(TypeError, match=match):
        make().init(params)


PARAMS = {"w": jnp.ones((2, 3)), "b": {"c": jnp.ones(3)}}
GRADIENTS = [
    ({"w": jnp.ones((2, 3))}, ValueError, r"no gradient for .*'b/c'"),
    (
        {**PARAMS, "x": jnp.ones(1)},
        ValueError,
        r"no state for the gradient at 'x'.*optax.masked",
    ),
    (
        {"w": jnp.ones((2, 3)), "b": [jnp.ones(3)]},
        ValueError,
        r"'b/0'.*'b/c'",
    ),
    (
        {"w": jnp.ones((3, 2)), "b": {"c": jnp.ones(3)}},
        ValueError,
        r"'w' must have the shape.*\(2, 3\); got \(3, 2\)",
    ),
    (
        {"w": jnp.ones((2, 3)), "b": {"c": jnp.ones(3, jnp.int32)}},
        TypeError,
        r"'b/c' must be a floating point.*got int32",
    ),
    (
        {"w": jnp.ones((2, 3)), "b": {"c": "nothing"}},
        TypeError,
        r"'b/c' must be a floating point.*got str",
    ),
    (
        {"w": jnp.ones((2, 3)), "b": {"c": jnp.ones(3, jnp.complex64)}},
        TypeError,
        r"'b/c' is complex64.*float32",
    ),
]


@pytest.mark.parametrize(("gradients", "error", "match"), GRADIENTS)
@pytest.mark.parametrize(
    "options", ({}, dict(momentum=0.9), dict(weight_decay=0.1), dict(centered=True))
)
def test_update_names_the_leaf_and_leaves_the_state(gradients, error, match, options):
    tx = rmsprop(0.1, **options)
    state = tx.init(PARAMS)
    before = jax.tree.map(jnp.copy, state)
    with pytest.raises(error, match=match):
        tx.update(gradients, state, PARAMS)
    same = jax.tree.map(lambda a, b: bool((a == b).all()), state, before)
    assert all(jax.tree.leaves(same))


def test_complex_gradients_are_told_from_the_state_alone():
    tx = scale_by_rmsprop(centered=True)
    with pytest.raises(TypeError, match=r"the root is complex64.*float32"):
        tx.update(jnp.ones(2, jnp.complex64), tx.init(jnp.ones(2)))


@pytest.mark.parametrize(
    ("made_with", "used_with"),
    [(dict(momentum=0.9), {}), ({}, dict(momentum=0.9)), ({}, dict(weight_decay=0.1))],
)
def test_a_state_of_another_chain_is_refused(made_with, used_with):
    p = jnp.ones(2)
    state = rmsprop(0.1, **made_with).init(p)
    with pytest.raises(ValueError, match="`rmsprop.update`.*tuple of . links.*options"):
        rmsprop(0.1, **used_with).update(p, state, p)


def test_a_schedule_refuses_the_state_of_a_constant_rate():
    p = jnp.ones(2)
    state, tx = rmsprop(0.1).init(p), rmsprop(optax.constant_schedule(0.1))
    with pytest.raises(
        TypeError, match="`rmsprop.update`.*ScaleBySchedule.*EmptyState"
    ):
        tx.update(p, state, p)


def test_a_state_that_is_none_is_refused():
    p = jnp.ones(2)
    with pytest.raises(ValueError, match="`rmsprop.update`.*got .*NoneType"):
        rmsprop(0.1).update(p, None, p)
    with pytest.raises(TypeError, match="`scale_by_rmsprop.update`.*got NoneType"):
        scale_by_rmsprop().update(p, None)


@pytest.mark.parametrize("mask", ({"v": True}, lambda params: [True]))
def test_a_mask_of_another_tree_is_refused(mask):
    tx = rmsprop(0.1, weight_decay=0.1, weight_decay_mask=mask)
    with pytest.raises(ValueError, match="`rmsprop.weight_decay_mask=.*tree like the"):
        tx.init({"w": jnp.ones(2)})


def test_a_parameter_that_was_none():
    tx = scale_by_rmsprop()
    with pytest.raises(
        ValueError, match=r"'a' has no state.*None or an integer at `init`"
    ):
        tx.update({"a": jnp.ones(2)}, tx.init({"a": None}))


def test_a_tree_of_the_same_names_and_another_type():
    tx = scale_by_rmsprop()
    with pytest.raises(ValueError, match="expected PyTreeDef.*got PyTreeDef"):
        tx.update((jnp.ones(2),), tx.init([jnp.ones(2)]))


@pytest.mark.parametrize("decoupled", (False, True))
def test_weight_decay_needs_parameters(decoupled):
    tx = rmsprop(0.1, weight_decay=0.1, decoupled_weight_decay=decoupled)
    with pytest.raises(
        ValueError, match=r"`rmsprop.update`.*weight decay.*update\(updates, state, p"
    ):
        tx.update(PARAMS, tx.init(PARAMS))


def test_without_weight_decay_no_parameters_are_needed():
    tx = rmsprop(0.1, momentum=0.9)
    tx.update(PARAMS, tx.init(PARAMS))
