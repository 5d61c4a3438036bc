"""The tables of the page "What moves and what does not", row by row."""

import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rmsprop_jax import dialects
from rmsprop_jax.interop import keras, torch

PAGE = pathlib.Path(__file__).parents[1] / "docs" / "what-moves.md"


def rows(after):
    """Give key and fate of each row in the first table after a phrase."""
    if not PAGE.exists():
        return []  # installed without its source tree
    _, _, text = PAGE.read_text().partition(after)
    table = re.search(r"(\|.*\n)+", text)[0].splitlines()[2:]
    cells = [[cell.strip(" `") for cell in row.split("|")[1:-1]] for row in table]
    return [(key, fate.split()[0].strip(":;")) for key, _, fate in cells]


PARAMS = {"w": jnp.zeros(3)}
TIMM = dict(momentum=0.9, centered=True)
OTHERWISE = {  # a value unlike that of `group`, by key; for other keys, True
    "param_names": ["other"],
    "params": ["other"],
    "lr": 0.5,
    "alpha": 0.5,
    "eps": 0.5,
    "weight_decay": 0.5,
    "momentum": 0.5,
    "betas": (0.5, 0.0),
    "anything else": object(),
}


def outcome(change=None, state=None):
    """Give options and state that come of one group; or the class of the error."""
    group = {"params": [0], "param_names": ["w"], "lr": 0.1, "alpha": 0.9, "eps": 0.1}
    group |= {"weight_decay": 0.0, "centered": False, "momentum": 0.0, **(change or {})}
    group.setdefault("betas", None)
    group = {key: x for key, x in group.items() if x is not None}
    state = {"step": 3, "square_avg": np.ones(3)} if state is None else state
    saved = {"state": {0: state}, "param_groups": [group]}
    options = torch.options(saved)
    flags = {key: bool(options.get(key)) for key in ("momentum", "centered")}
    tx = dialects.timm(0.1, lr_in_momentum=bool(options.get("lr_in_momentum")), **{
        "momentum": 0.9 if flags["momentum"] else 0.0, "centered": flags["centered"]
    })  # fmt: skip
    mapping, names = {"w": "w"}, group.get("param_names")
    moved = torch.from_state_dict(saved, tx.init(PARAMS), mapping, names=names)
    return options, [np.asarray(x).tolist() for x in jax.tree.leaves(moved)]


@pytest.mark.parametrize(("key", "fate"), rows("Each of the `param_groups` has:"))
def test_keys_of_the_groups_of_torch(key, fate):
    value = OTHERWISE.get(key, True)
    change, moments = {key: value}, {"step": 3, "square_avg": np.ones(3)}
    if key == "params":
        change["param_names"] = None
    if key == "betas":
        moments = {"step": 3, "state1": np.ones(3)}
    if key == "momentum":
        moments["momentum_buffer"] = np.ones(3)
    if key == "centered":
        moments["grad_avg"] = np.ones(3) / 2
    if fate == "Refused" or key in ("params", "param_names"):
        with pytest.raises(
            ValueError, match="other|parameter 0" if fate == "Moved" else key
        ):
            outcome(change, moments)
        return
    options, _ = outcome(change, moments)
    unchanged, _ = outcome()
    assert (options != unchanged) == (fate == "Option")
    if fate == "Ignored":
        assert outcome(change) == outcome()


@pytest.mark.parametrize(("key", "fate"), rows("The `state` of each parameter has:"))
def test_keys_of_the_state_of_torch(key, fate):
    change = {"betas": (0.9, 0.0)} if key in ("state1", "qmap1") else {}
    change |= {"momentum": 0.9} if key == "momentum_buffer" else {}
    change |= {"centered": True} if key == "grad_avg" else {}
    kept = {"step": 3, "state1" if "betas" in change else "square_avg": np.ones(3)}
    value = 7 if key == "step" else np.full(3, 0.7)
    if fate == "Refused":
        with pytest.raises(ValueError, match=key):
            outcome(change, kept | {key: np.float32(value)})
        return
    _, state = outcome(change, kept | {key: np.float32(value)})
    seen = np.concatenate([np.ravel(x) for x in state])
    assert np.any(np.isclose(np.abs(seen), np.ravel(value)[0]))


@pytest.mark.parametrize(("key", "fate"), rows("Each of `optimizer.variables` is"))
def test_variables_of_keras(key, fate):
    made = {"o/iteration": 3, "o/w_velocity": np.ones(3)}
    centered = key == "average_gradient"
    options = {"momentum": 0.9 * (key == "momentum"), "centered": centered}
    scalar = key in ("iteration", "learning_rate", "step_counter", "dynamic_scale")
    made[f"o/{key}" if scalar else f"o/w_{key}"] = 7 if scalar else np.full(3, 0.7)
    template = dialects.keras(0.1, **options).init(PARAMS)
    if key == "gradient_accumulator":
        with pytest.raises(ValueError, match=r"\(gradient_accumulation_steps=...\)"):
            keras.from_variables(made, template, {"w": "w"})
        return  # test_interop_golden moves one
    if fate == "Refused":
        with pytest.raises(ValueError, match=f"unexpected: '(w_)?{key}'"):
            keras.from_variables(made, template, {"w": "w"})
        return
    state = keras.from_variables(made, template, {"w": "w"})
    seen = np.concatenate([np.ravel(x) for x in jax.tree.leaves(state)])
    value = 7 if scalar else 0.7
    assert np.any(np.isclose(np.abs(seen), value)) == (fate == "Moved")


VALUES = {"name": "another", "learning_rate": 0.5, "decay": 0.5, "clipnorm": 0.5}
VALUES |= {"rho": 0.5, "momentum": 0.5, "epsilon": 0.5, "weight_decay": 0.5}


@pytest.mark.parametrize(("key", "fate"), rows("A config has:"))
def test_keys_of_a_config_of_keras(key, fate):
    config = {"learning_rate": 0.1, "rho": 0.9, "momentum": 0.0, "epsilon": 0.1}
    unchanged = keras.options(config)
    config |= {key: VALUES.get(key, True)}
    if fate == "Refused":
        with pytest.raises(ValueError, match=key):
            keras.options(config)
        return
    assert (keras.options(config) != unchanged) == (fate == "Option")


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_the_tables_have_every_key_of_today():
    """Of what is installed: a new key of a framework needs a row."""
    found = pytest.importorskip("torch")
    weight = found.nn.Parameter(found.ones(3))
    optimizer = found.optim.RMSprop([("w", weight)], momentum=0.9, centered=True)
    weight.sum().backward()
    optimizer.step()
    saved = optimizer.state_dict()
    in_groups = dict(rows("Each of the `param_groups` has:"))
    in_states = dict(rows("The `state` of each parameter has:"))
    assert {*saved["param_groups"][0]} <= {*in_groups}
    assert {*saved["state"][0]} <= {*in_states}
    found = pytest.importorskip("keras")
    config = found.optimizers.RMSprop(0.1).get_config()
    assert {*config} <= {*dict(rows("A config has:"))}


@pytest.mark.peers
def test_the_tables_have_every_key_of_timm():
    found, timm = pytest.importorskip("torch"), pytest.importorskip("timm.optim")
    optimizer = timm.RMSpropTF([found.nn.Parameter(found.ones(3))])
    group = optimizer.state_dict()["param_groups"][0]
    assert {*group} <= {*dict(rows("Each of the `param_groups` has:"))}
