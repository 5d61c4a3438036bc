"""Parameter groups, missing state and whole checkpoints of torch, without torch."""

import io

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rmsprop_jax import dialects, rmsprop
from rmsprop_jax.interop import keras, torch
from rmsprop_jax.interop import optax as of_optax

PARAMS = {"head": jnp.zeros(3), "body": jnp.zeros(3)}
MAPPING = {"head": "head", "body": "body"}
# The head comes first in the optimizer, and the body first in the model.
IN_ORDER = [["head"], ["body"]]


def group(*keys, **changes):
    numbers = {"lr": 0.1, "alpha": 0.9, "eps": 1e-8, "momentum": 0.0}
    return {"params": list(keys), "centered": False, **numbers, **changes}


def saved(*groups, state=None):
    moments = {
        key: {"step": 5, "square_avg": np.full(3, 1.0 + key)}
        for own in groups
        for key in own["params"]
    }
    return {"state": moments if state is None else state, "param_groups": list(groups)}


def imported(source, **options):
    template = dialects.torch(0.1).init(PARAMS)
    return torch.from_state_dict(source, template, MAPPING, **options)[0]


def test_names_of_several_groups_are_given_by_group():
    state = imported(saved(group(0), group(1)), names=IN_ORDER)
    np.testing.assert_array_equal(state.s["head"], np.full(3, 1.0))
    np.testing.assert_array_equal(state.s["body"], np.full(3, 2.0))


@pytest.mark.parametrize("names", (["body", "head"], ["head", "body"], None))
def test_one_list_for_several_groups_is_refused(names):
    """The order of the model would put the moments of one layer on another."""
    match = r"names=.*1 and 1 parameters of the groups, in one list per group"
    with pytest.raises(ValueError, match=match):
        imported(saved(group(0), group(1)), names=names)


def test_names_in_the_groups_are_enough_and_others_are_refused():
    source = saved(group(0, param_names=["head"]), group(1, param_names=["body"]))
    np.testing.assert_array_equal(imported(source).s["body"], np.full(3, 2.0))
    with pytest.raises(ValueError, match="names of their own.*Leave `names` out"):
        imported(source, names=[["body"], ["head"]])


def test_options_of_groups_that_differ_are_refused_and_each_is_given():
    source = saved(group(0), group(1, lr=0.01))
    with pytest.raises(ValueError, match=r"groups differ in lr .*optax.partition"):
        torch.options(source)
    assert [torch.options(source, k)["lr"] for k in (0, 1)] == [0.1, 0.01]
    with pytest.raises(ValueError, match=r"group=.*must be one of 0, 1; got 9"):
        torch.options(source, 9)
    assert torch.options(saved(group(0), group(1)))["lr"] == 0.1


def test_a_partition_by_group_goes_on_with_the_state():
    source = saved(group(0), group(1, lr=0.01))
    labels = torch.group_labels(source, PARAMS, MAPPING, names=IN_ORDER)
    assert labels == {"head": "0", "body": "1"}
    each = {str(k): dialects.torch(**torch.options(source, k)) for k in range(2)}
    tx = optax.partition(each, labels)
    template = tx.init(PARAMS)
    state = torch.from_state_dict(source, template, MAPPING, names=IN_ORDER)
    u, _ = tx.update(jax.tree.map(jnp.ones_like, PARAMS), state, PARAMS)
    for name, rate, s in (("head", 0.1, 1.0), ("body", 0.01, 2.0)):
        want = -rate / (np.sqrt(0.9 * s + 0.1) + 1e-8)
        np.testing.assert_allclose(u[name], want, rtol=1e-6)


def test_a_parameter_without_state_keeps_that_of_the_template_and_goes_back():
    """Torch makes it with the first gradient: of frozen parameters never."""
    kept = {0: {"step": 5, "square_avg": np.ones(3)}}
    source = saved(group(0, 1), state=kept)
    state = torch.from_state_dict(
        source, dialects.torch(0.1).init(PARAMS), MAPPING, names=["head", "body"]
    )
    np.testing.assert_array_equal(state[0].s["body"], 0)
    back = torch.to_state_dict(state, source, MAPPING, names=["head", "body"])
    assert [*back["state"]] == [0]


CHECKPOINTS = {
    "whole": lambda source: {"model": {"w": np.ones(3)}, "optimizer": source},
    "lightning": lambda source: {"optimizer_states": [source], "epoch": 3},
    "nested": lambda source: {"a": {"b": source}},
}


@pytest.mark.parametrize("make", CHECKPOINTS)
def test_a_checkpoint_with_one_optimizer(make):
    source = CHECKPOINTS[make](saved(group(0), group(1)))
    np.testing.assert_array_equal(
        imported(source, names=IN_ORDER).s["body"], np.full(3, 2.0)
    )


def test_an_optimizer_object():
    class Optimizer:
        param_groups = (group(0), group(1))

        def state_dict(self):
            return saved(*self.param_groups)

    state = imported(Optimizer(), names=IN_ORDER)
    np.testing.assert_array_equal(state.s["body"], np.full(3, 2.0))


@pytest.mark.parametrize(
    ("source", "match"),
    [
        ({"lr": 0.1}, "no state of an optimizer; got a dict with 'lr'.*state_dict"),
        ({}, "no state of an optimizer; got a dict with nothing"),
        (3, "no state of an optimizer; got int"),
        (
            {"a": saved(group(0)), "b": saved(group(0))},
            r"holds 2 optimizers, `checkpoint\['a'\]`, `checkpoint\['b'\]`. Pass one",
        ),
    ],
)
def test_what_is_no_state_dict_is_refused(source, match):
    with pytest.raises(ValueError, match=match):
        torch.options(source)


def test_a_file_that_is_broken(tmp_path):
    path = tmp_path / "run.safetensors"
    path.write_bytes(b"no such thing")
    for source in (path, io.BytesIO(b"no such thing")):
        with pytest.raises((ValueError, ImportError), match="`interop.torch.options`"):
            torch.options(source)


def test_options_of_other_optimizers_are_refused():
    adam = {"learning_rate": 0.1, "beta_1": 0.9, "beta_2": 0.99, "name": "adam"}
    with pytest.raises(ValueError, match="`interop.keras.options`"):
        keras.options(adam)
    with pytest.raises(ValueError, match="no dialect of RMSProp has amsgrad"):
        torch.options(saved(group(0, amsgrad=False)))


AROUND = {
    "injected": lambda make: optax.inject_hyperparams(make)(0.1, momentum=0.9),
    "schedule": lambda make: make(optax.linear_schedule(0.1, 0.0, 9), momentum=0.9),
    "plateau": lambda make: optax.chain(
        make(0.1), optax.contrib.reduce_on_plateau(patience=1, cooldown=1)
    ),
    "MultiSteps": lambda make: optax.MultiSteps(make(0.1), 4).gradient_transformation(),
    "finite": lambda make: optax.apply_if_finite(make(0.1), 3),
    "average": lambda make: optax.chain(make(0.1), optax.ema(0.9)),
    "noise": lambda make: optax.chain(optax.add_noise(0.1, 0.5, 0), make(0.1)),
    "partition": lambda make: optax.partition(
        {"a": make(0.1), "b": optax.adam(0.1)}, {"head": "a", "body": "b"}
    ),
}


@pytest.mark.parametrize("name", AROUND)
@pytest.mark.parametrize("way", ("in", "out"))
def test_what_stands_around_rmsprop_moves_with_it(name, way):
    """After three steps, the fourth is that of the state that moved."""
    before, after = optax.rmsprop, rmsprop
    move = of_optax.from_state
    if way == "out":
        before, after, move = after, before, of_optax.to_state
    old, new = AROUND[name](before), AROUND[name](after)
    g = {"head": jnp.array([1.0, -2.0, 0.5]), "body": jnp.array([0.1, 3.0, -1.0])}
    extra = {"value": jnp.asarray(1.0)} if name == "plateau" else {}
    state = old.init(PARAMS)
    with jax.numpy_dtype_promotion("standard"):
        for _ in range(3):
            _, state = old.update(g, state, PARAMS, **extra)
        if name == "injected":  # a rate that was lowered by hand
            state.hyperparams["learning_rate"] = jnp.float32(1e-3)
        moved = move(state, new.init(PARAMS))
        want, _ = old.update(g, state, PARAMS, **extra)
        got, _ = new.update(g, moved, PARAMS, **extra)
    for key in g:
        np.testing.assert_allclose(got[key], want[key], rtol=1e-5, atol=1e-9)


def test_what_has_no_counterpart_is_named():
    theirs = optax.chain(optax.rmsprop(0.1), optax.ema(0.9)).init(PARAMS)
    match = "EmaState.*which the target does not keep"
    with pytest.raises(ValueError, match=match):
        of_optax.from_state(theirs, rmsprop(0.1).init(PARAMS))
