"""What people pass that is no state of RMSProp, or not whole: accepted where its
meaning is clear, refused in the words of the call where it is not."""

import copy
import io
import json
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from rmsprop_jax import dialects, rmsprop
from rmsprop_jax.interop import keras, orbax, torch
from rmsprop_jax.interop import optax as of_optax

PARAMS = {"w": jnp.zeros((2, 3)), "b": jnp.zeros(3)}
MAPPING = {"w": ("w", "o i -> i o"), "b": "b"}
KEYS = {"w": ("square_avg", np.ones((3, 2))), "b": ("square_avg", np.full(3, 2.0))}


def saved():
    """Give a new state dict of two parameters in one group."""
    state = {
        k: {"step": 3, word: x.copy()} for k, (word, x) in enumerate(KEYS.values())
    }
    group = {"lr": 0.1, "alpha": 0.9, "momentum": 0.0, "params": [0, 1]}
    return {"state": state, "param_groups": [group | {"param_names": ["w", "b"]}]}


def imported(source, mapping=MAPPING, **options):
    template = dialects.torch(0.1).init(PARAMS)
    return torch.from_state_dict(source, template, mapping, **options)[0]


def changed(where, key, value):
    """Give a state dict with a change in its group, or in one parameter's state."""
    source = saved()
    inside = source["param_groups"][0] if where == "group" else source["state"][where]
    inside[key] = value
    return source


@pytest.mark.parametrize("step", [3, np.float32(3), np.array([3.0]), np.int64(3)])
def test_a_step_may_be_any_array_with_one_element(step):
    assert imported(changed(0, "step", step)).step == 3


@pytest.mark.parametrize("step", [2.5, -1, np.nan, np.inf, None, "x", np.ones(2)])
def test_a_step_that_counts_nothing(step):
    match = "step of 'w': got .*, expected a number of steps"
    with pytest.raises(ValueError, match=match):
        imported(changed(0, "step", step))


@pytest.mark.parametrize("x", [None, "x", [[1.0], [1.0, 2.0]], {"a": 1.0}, object()])
def test_a_moment_that_is_no_array(x):
    match = f"square_avg of 'w': got a {type(x).__name__} that is no array of numbers"
    with pytest.raises(ValueError, match=match):
        imported(changed(0, "square_avg", x))


def test_a_part_of_an_array():
    class ShardedTensor:
        def local_shards(self):
            return []

    with pytest.raises(ValueError, match="square_avg of 'w': got a ShardedTensor, of"):
        imported(changed(0, "square_avg", ShardedTensor()))


def test_a_second_moment_below_zero_is_that_of_something_else():
    match = "square_avg for 'b': got numbers below zero"
    with pytest.raises(ValueError, match=match):
        imported(changed(1, "square_avg", np.array([1.0, -1.0, 0.0])))


@pytest.mark.parametrize("value", [None, "fast", np.ones(2), [1, 2]])
def test_a_number_of_a_group_that_is_none(value):
    for key in ("lr", "momentum"):
        match = f"`interop.torch.options`: '{key}' of each parameter group must be a n"
        with pytest.raises(ValueError, match=match):
            torch.options(changed("group", key, value))
    with pytest.raises(ValueError, match="'momentum' of each parameter group must be"):
        imported(changed("group", "momentum", value))


@pytest.mark.parametrize("lr", [np.array(0.5), np.array([0.5]), np.float64(0.5)])
def test_a_learning_rate_may_be_a_tensor(lr):
    assert torch.options(changed("group", "lr", lr))["lr"] == 0.5


def test_a_state_dict_that_went_through_json():
    source = json.loads(json.dumps(saved(), default=np.ndarray.tolist))
    np.testing.assert_array_equal(imported(source).s["b"], 2.0)


@pytest.mark.parametrize("params", [None, 3, [0, 0], {0: 1}])
def test_groups_whose_parameters_are_not_listed_once(params):
    match = "a list in which each parameter stands once. Pass `optimizer.state_dict"
    with pytest.raises(ValueError, match=match):
        imported(changed("group", "params", params))


def test_a_state_that_is_no_dict():
    source = saved() | {"state": {0: [1.0]}}
    with pytest.raises(ValueError, match="the state of 'w': got a list"):
        imported(source)
    with pytest.raises(ValueError, match="the 'state' of a state dict must be a dict"):
        imported(saved() | {"state": [1.0]})


@pytest.mark.parametrize("names", [5, [0, 1], [("w", 1), ("b", 2)], "wb", ["w"], []])
def test_names_that_are_none(names):
    source = changed("group", "param_names", None)
    with pytest.raises(ValueError, match=r"from_state_dict\(names=...\)` must name th"):
        imported(source, names=names)


def test_names_in_a_group_that_are_too_few():
    source = changed("group", "param_names", ["w"])
    assert imported(source, names=iter(["w", "b"])).step == 3
    with pytest.raises(ValueError, match=r"two parameters have the name 'w'"):
        imported(source, names=["w", "module.w"])


@pytest.mark.parametrize("mapping", [None, [("w", "w")], "w"])
def test_a_mapping_that_is_no_dict(mapping):
    with pytest.raises(TypeError, match="must be a dict from names to paths; got a"):
        imported(saved(), mapping)


SIZED = "(a b) -> a b"
ENTRIES = {
    "name": {0: "w"},
    "path": {"w": (5, "o i -> i o")},
    "layout": {"w": ("w", 5)},
    "sizes": {"w": ("w", SIZED, 5)},
    "no length": {"w": ("w", SIZED, {"a": "x"})},
    "length 0": {"w": ("w", SIZED, {"a": 0})},
}


@pytest.mark.parametrize("which", ENTRIES)
def test_an_entry_of_a_mapping_that_is_none(which):
    match = r"the mapping must give .* a path, \(path, layout\), \(path, layout, sizes"
    with pytest.raises(TypeError, match=match):
        imported(saved(), ENTRIES[which])


FOREIGN = {
    "Adam": {"betas": (0.9, 0.99), "foreach": None},
    "SparseAdam": {"betas": (0.9, 0.99), "maximize": False},
    "LBFGS": {"max_iter": 20, "history_size": 100},
    "Muon": {"ns_steps": 5},
}


@pytest.mark.parametrize("which", FOREIGN)
def test_groups_of_other_optimizers(which):
    key = next(iter(FOREIGN[which]))
    group = {"params": [0], "lr": 0.1, "eps": 1e-8} | FOREIGN[which]
    with pytest.raises(ValueError, match=f"no dialect of RMSProp has .*{key}"):
        torch.options({"state": {}, "param_groups": [group]})


def test_states_of_other_optimizers():
    """bitsandbytes writes the same groups for all, and the state tells."""
    group = {"params": [0], "param_names": ["b"], "lr": 0.1, "betas": (0.9, 0.99)}
    kept = {"step": 3, "state1": np.ones(3), "state2": np.ones(3)}
    source = {"state": {0: kept}, "param_groups": [group]}
    with pytest.raises(ValueError, match="another optimizer than RMSprop; .*'state2'"):
        torch.options(source)
    template = rmsprop(0.1, centered=True).init({"b": jnp.zeros(3)})
    with pytest.raises(ValueError, match="unexpected: state2 of 'b'"):
        torch.from_state_dict(source, template, {"b": "b"})


def test_flattened_checkpoints_of_one_optimizer_and_of_two():
    def flat(prefix):
        one = {"param_groups.b.lr": 0.1, "state.b.step": 3, "state.b.square_avg": x}
        return {f"{prefix}{key}": value for key, value in one.items()}

    x, template = np.full(3, 2.0), dialects.torch(0.1).init({"b": jnp.zeros(3)})
    for source in (flat(""), flat("optim."), flat("optim.") | {"model.b": x}):
        state = torch.from_state_dict(source, template, {"b": "b"})
        np.testing.assert_array_equal(state[0].s["b"], x)
    for two in (flat("a.") | flat("b."), flat("") | flat("b.")):
        with pytest.raises(ValueError, match="holds 2 optimizers, .*'b.'.*Pass one"):
            torch.from_state_dict(two, template, {"b": "b"})


@pytest.mark.parametrize(
    "mapping", [MAPPING, MAPPING | {"b": None}, {"w": MAPPING["w"]}]
)
def test_a_frozen_parameter_goes_in_and_out(mapping):
    """It may have a path, none, or no place in the mapping."""
    source = saved()
    del source["state"][1]
    tx = optax.masked(dialects.torch(0.1), {"w": True, "b": False})
    state = torch.from_state_dict(source, tx.init(PARAMS), mapping)
    for like in (source, source | {"state": {}}):
        back = torch.to_state_dict(state, like, mapping)
        assert [*back["state"]] == [0]
        np.testing.assert_array_equal(back["state"][0]["square_avg"], KEYS["w"][1])


def test_a_state_without_its_step():
    source = saved()
    del source["state"][0]["step"]
    with pytest.raises(ValueError, match="missing: step of 'w'"):
        imported(source)


def test_a_template_of_shapes_has_no_state_to_keep():
    source = saved() | {"state": {1: saved()["state"][1]}}
    template = jax.eval_shape(dialects.torch(0.1).init, PARAMS)
    with pytest.raises(ValueError, match=r"of 'w', which has no state; fill `tx.init"):
        torch.from_state_dict(source, template, MAPPING)


def test_labels_of_parameters_without_a_path():
    for mapping in ({"w": "w"}, {"w": "w", "b": "elsewhere"}):
        with pytest.raises(ValueError, match="'b', for which there is no path"):
            torch.group_labels(saved(), PARAMS, mapping)
    assert torch.group_labels(saved(), PARAMS, {"w": "w", "b": None})["b"] == "frozen"


def test_weights_in_a_checkpoint():
    weights = {"w": np.ones((3, 2)), "b": np.ones(3)}
    whole = {"epoch": 3, "nets": {"model": weights}, "optimizer": saved()}
    assert torch.from_weights(whole, PARAMS, MAPPING)["b"][0] == 1
    with pytest.raises(ValueError, match=r"2 models, `checkpoint\['a'\]`, .*Pass one"):
        torch.from_weights({"a": weights, "b": weights}, PARAMS, MAPPING)
    with pytest.raises(TypeError, match="expected `model.state_dict.*; got list"):
        torch.from_weights([weights], PARAMS, MAPPING)


def test_where_there_is_no_file_to_read(tmp_path):
    with pytest.raises(FileNotFoundError, match="`interop.torch.options`: there is no"):
        torch.options(tmp_path / "run.pt")
    (tmp_path / "optimizer.bin").write_bytes(b"")
    with pytest.raises(IsADirectoryError, match="is a folder, with 'optimizer.bin' in"):
        torch.options(tmp_path)
    file = io.StringIO("text")
    with pytest.raises(TypeError, match="with mode 'rb', not as text"):
        torch.options(file)


@pytest.mark.parametrize(
    ("error", "match"),
    [
        (
            "GLOBAL a.B was not an allowed global",
            "more than arrays and numbers: a.B. If",
        ),
        (
            "invalid load key",
            "neither a whole file of `torch.save` nor one in safetens",
        ),
    ],
)
def test_what_torch_cannot_load(error, match, monkeypatch):
    def load(file, **_):
        raise RuntimeError(error)

    fake = types.SimpleNamespace(load=load, serialization=None)
    monkeypatch.setitem(sys.modules, "torch", fake)
    file = io.BytesIO(b"something else")
    with pytest.raises(
        ValueError, match=f"`interop.torch.options`: the file .*{match}"
    ):
        torch.options(file)
    assert file.tell() == 0  # as it was given


def test_layouts_and_shapes_that_do_not_fit():
    mapping = {"w": ("w", "(a b) -> a b", {"b": 2})}
    for shape, params in (((3,), jnp.ones((2, 2))), ((4,), jnp.ones((2, 3)))):
        with pytest.raises(ValueError, match=r"'w': got \(\d,\), expected .* for 'w'"):
            torch.from_weights({"w": np.ones(shape)}, {"w": params}, mapping)
    mapping = {"w": ("w", "(a b) -> (a b)", {"b": 2})}
    with pytest.raises(ValueError, match="expected another layout for 'w'"):
        torch.from_weights({"w": np.ones(3)}, {"w": jnp.ones(3)}, mapping)


def test_square_kernels_of_convolutions():
    """Either kind has this shape, unless the module or linen's name tells."""
    kernel = {"kernel": jnp.ones((3, 3, 4, 4))}
    assert not torch.flax_mapping({"up": kernel})
    assert "Conv_0.weight" in torch.flax_mapping({"Conv_0": kernel})
    assert torch.flax_mapping({"up": kernel}, transposed=["up"]) == {
        "up.weight": ("up/kernel", "i o h w -> -h -w i o")
    }
    with pytest.raises(ValueError, match=r"\(transposed=...\)`: no parameter of a Fla"):
        torch.flax_mapping({"up": kernel}, transposed=["down"])

    class Model(nnx.Module):
        def __init__(self, rngs):
            size = dict(kernel_size=(3, 3), rngs=rngs)
            layers = [nnx.Conv(4, 4, **size), nnx.ConvTranspose(4, 4, **size)]
            self.layers = getattr(nnx, "List", list)(layers)

    if hasattr(nnx, "List"):
        mapping = keras.flax_mapping(nnx.eval_shape(lambda: Model(nnx.Rngs(0))))
        assert mapping["layers/0/kernel"] == "layers/0/kernel"
        assert mapping["layers/1/kernel"][1] == "h w o i -> -h -w i o"


def test_orbax_that_is_not_installed(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "orbax.checkpoint", None)
    with pytest.raises(ImportError, match="`interop.orbax.restore` needs Orbax"):
        orbax.restore(tmp_path, PARAMS)


def test_what_cannot_be_saved(tmp_path):
    with pytest.raises(
        TypeError, match="expected what `to_state_dict` or `to_weights`"
    ):
        torch.save(3, tmp_path / "run.safetensors")


MEANS = np.array([1.0, 2.0, 3.0], np.float32)
VARIABLES = {
    "rmsprop/iteration": 7,
    "rmsprop/b_velocity": np.ones(3),
    "rmsprop/b_momentum": np.full(3, -1.0),
}


def variables_in(source, **options):
    template = dialects.keras(0.1, momentum=0.9).init({"b": jnp.zeros(3)})
    return keras.from_variables(source, template, {"b": "b"}, **options)[0]


@pytest.mark.parametrize("step", [2.5, -1, np.nan, None, "x", np.ones(2)])
def test_an_iteration_that_counts_nothing(step):
    match = "'iteration': got .*, expected a number of steps"
    with pytest.raises(ValueError, match=match):
        variables_in(VARIABLES | {"rmsprop/iteration": step})


@pytest.mark.parametrize("sort", [False, True])
def test_variables_of_adam_under_the_name_of_rmsprop(sort):
    """Sorted names tell nothing of the order in which Keras made the variables."""
    names = ["iteration", "a_momentum", "a_velocity", "b_momentum", "b_velocity"]
    made = {f"rmsprop/{x}": VARIABLES.get(f"rmsprop/{x}", np.ones(3)) for x in names}
    mapping, params = {"a": "a", "b": "b"}, {"a": jnp.zeros(3), "b": jnp.zeros(3)}
    template = dialects.keras(0.1, momentum=0.9).init(params)
    if sort:
        made = dict(sorted(made.items()))
        assert keras.from_variables(made, template, mapping)[0].step == 7
        return
    with pytest.raises(
        ValueError, match="momentum of 'a' comes before its velocity, a"
    ):
        keras.from_variables(made, template, mapping)


class Inside:
    """An optimizer in a model that was compiled with it."""

    def __init__(self, **inside):
        vars(self).update(inside)


class Variable:
    def __init__(self, path, value):
        self.path, self.value = path, value

    def numpy(self):
        return np.asarray(self.value)


OBJECTS = [Variable(path, value) for path, value in VARIABLES.items()]
BY_NUMBER = {str(i): x for i, x in enumerate(VARIABLES.values())}
SOURCES = {
    "optimizer": Inside(variables=OBJECTS),
    "model": Inside(optimizer=Inside(variables=OBJECTS), variables=[]),
    "file": {"layers": {}, "optimizer": {"vars": BY_NUMBER}},
    "old file": {
        "model_weights": {},
        "optimizer_weights": {
            "rmsprop": {
                path.removeprefix("rmsprop/"): x for path, x in VARIABLES.items()
            }
        },
    },
    "reversed": dict(reversed(BY_NUMBER.items())),
}


@pytest.mark.parametrize("which", SOURCES)
def test_where_the_variables_of_keras_may_be(which):
    paths = [*VARIABLES] if which in ("file", "reversed") else None
    state = variables_in(SOURCES[which], paths=paths)
    assert state.step == 7
    np.testing.assert_array_equal(state.s["b"], 1)


@pytest.mark.parametrize("source", [None, 3, [np.ones(3)]])
def test_what_are_no_variables(source):
    match = "got a .* that does not tell the paths"
    with pytest.raises(TypeError, match=match):
        variables_in(source)


@pytest.mark.parametrize("paths", [5, "abc", ["iteration"], [1, 2, 3]])
def test_paths_that_do_not_fit(paths):
    with pytest.raises(ValueError, match=r"paths=...\)` must name the 3 variables"):
        variables_in(BY_NUMBER, paths=paths)
    with pytest.raises(ValueError, match="the variables by number from 0"):
        variables_in({"1": 7, "2": np.ones(3)}, paths=["iteration", "b_velocity"])


def test_variables_in_the_order_of_their_names():
    """Of eleven, "10" comes before "2": each gets what is not its own."""
    weights = [f"w{i}" for i in range(10)]
    paths = ["iteration", *(f"{name}_velocity" for name in weights)]
    right = [7, *(np.full(1 + i % 2, 1.0 + i) for i in range(10))]
    order = sorted(range(11), key=str)
    params = {name: jnp.zeros(1 + i % 2) for i, name in enumerate(weights)}
    template = dialects.keras(0.1).init(params)
    wrong = {str(i): right[k] for i, k in enumerate(order)}
    with pytest.raises(ValueError, match="wrong shape or dtype: velocity of 'w2'"):
        keras.from_variables(wrong, template, {x: x for x in weights}, paths=paths)
    with pytest.raises(
        ValueError, match=r"'iteration': got shape \(2,\), expected a n"
    ):
        wrong = wrong | {"0": right[2], "2": 7}
        keras.from_variables(wrong, template, {x: x for x in weights}, paths=paths)


def test_what_to_variables_refuses():
    state = dialects.keras(0.1).init({"b": jnp.zeros(3)})
    for paths in (None, 3, OBJECTS):
        with pytest.raises(
            ValueError, match=r"to_variables\(paths=...\)` must name th"
        ):
            keras.to_variables(state, {"b": "b"}, paths)
    with pytest.raises(
        TypeError, match=r"to_variables\(learning_rate=...\)` must be a"
    ):
        keras.to_variables(state, {"b": "b"}, [*VARIABLES], learning_rate="fast")


def test_files_of_keras_are_for_the_caller_to_open():
    with pytest.raises(TypeError, match="open 'run.weights.h5' yourself"):
        variables_in("run.weights.h5")


def test_variables_whose_weight_is_not_known():
    twice = [*OBJECTS, Variable("rmsprop/b_velocity", np.ones(3))]
    with pytest.raises(ValueError, match="two variables have the path 'rmsprop/b_velo"):
        variables_in(twice)
    params = {"x": jnp.zeros(3), "y": jnp.zeros(3)}
    template = dialects.keras(0.1).init(params)
    made = {"iteration": 7, "a_b_velocity": np.ones(3)}
    with pytest.raises(
        ValueError, match="'a_b_velocity' may belong to 'a/b' or to 'a_"
    ):
        keras.from_variables(made, template, {"a/b": "x", "a_b": "y"})


def test_averages_and_accumulators():
    made = {"iteration": 7, "b_velocity": np.ones(3), "b_gradient_accumulator": MEANS}
    params, template = (
        {"b": jnp.zeros(3)},
        dialects.keras(0.1).init({"b": jnp.zeros(3)}),
    )
    steps = optax.MultiSteps(dialects.keras(0.1), 3).init(params)
    state = keras.from_variables(made, steps, {"b": "b"}, gradient_accumulation_steps=3)
    assert (state.gradient_step, state.mini_step) == (2, 1)
    np.testing.assert_array_equal(state.acc_grads["b"], MEANS)
    for number in (None, 1):
        with pytest.raises(
            ValueError, match="steps=.*must be the optimizer's, at least 2"
        ):
            keras.from_variables(
                made, steps, {"b": "b"}, gradient_accumulation_steps=number
            )
    with pytest.raises(ValueError, match="must be None, because there are no accumula"):
        variables_in(VARIABLES, gradient_accumulation_steps=3)
    back = keras.to_variables(
        template, {"b": "b"}, [*made], gradient_accumulation_steps=3
    )
    np.testing.assert_array_equal(back["2"], 0)  # of a state that accumulates nothing
    kept = VARIABLES | {"rmsprop/b_average": MEANS}
    average = keras.averages(kept, {"b": jnp.zeros(3)}, {"b": "b"})
    np.testing.assert_array_equal(average["b"], MEANS)


@pytest.mark.parametrize("config", [None, 3, [], "x", {"class_name": "RMSprop"}])
def test_what_is_no_config(config):
    with pytest.raises(TypeError, match=r"expected `optimizer.get_config\(\)`; got a"):
        keras.options(config)


def test_configs_of_others_and_of_models():
    full = {"learning_rate": 0.1, "rho": 0.95, "epsilon": 1e-7, "name": "mine"}
    with pytest.raises(ValueError, match="has no rho or no momentum is not that of R"):
        keras.options(full)  # of Adadelta

    class Adadelta(Inside):
        def get_config(self):
            return full | {"name": "rmsprop"}

    with pytest.raises(ValueError, match="the optimizer is 'Adadelta'; only RMSprop"):
        keras.options(Adadelta())
    whole = full | {"momentum": 0.0}
    model = Inside(optimizer=Inside(get_config=lambda: whole))
    assert keras.options(model)["rho"] == 0.95
    with pytest.raises(TypeError, match="learning rate in a config must be .*'fast'"):
        keras.options(whole | {"learning_rate": "fast"})


MIXED = {"w": jnp.arange(1.0, 4.0), "i": jnp.arange(3), "k": jnp.array([True])}


@pytest.mark.parametrize("momentum", [None, 0.9])
@pytest.mark.parametrize("centered", [False, True])
def test_integers_beside_floats_have_moments_in_optax_alone(centered, momentum):
    options = dict(centered=centered, momentum=momentum)
    theirs = optax.rmsprop(0.1, **options).init(MIXED)
    theirs = optax.tree.set(theirs, nu={**theirs[0].nu, "w": jnp.full(3, 4.0)})
    ours = rmsprop(0.1, **options).init(MIXED)
    state = of_optax.from_state(theirs, ours)
    np.testing.assert_array_equal(state[0].s["w"], 4.0)
    back = of_optax.to_state(state, optax.rmsprop(0.1, **options).init(MIXED))
    np.testing.assert_array_equal(back[0].nu["w"], 4.0)
    np.testing.assert_array_equal(back[0].nu["i"], 0)


def test_what_optax_never_has():
    theirs, ours = optax.rmsprop(0.1).init(MIXED), rmsprop(0.1).init(MIXED)
    with pytest.raises(ValueError, match=r"\(count=...\)` must be a whole number; got"):
        of_optax.from_state(theirs, ours, count=2.5)
    inject = optax.inject_hyperparams
    theirs = inject(optax.rmsprop)(0.1).init(PARAMS)
    before = copy.copy(theirs.hyperparams)
    theirs.hyperparams["learning_rate"] = "fast"
    with pytest.raises(ValueError, match="learning_rate': got 'fast', expected float"):
        of_optax.from_state(theirs, inject(rmsprop)(0.1).init(PARAMS))
    theirs.hyperparams.update(before)
    of_optax.from_state(theirs, inject(rmsprop)(0.1).init(PARAMS))
