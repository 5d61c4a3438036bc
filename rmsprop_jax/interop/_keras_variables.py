"""The variables of a Keras optimizer, found and parsed."""

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

from .._arguments import Call
from ._layout import to_numpy
from ._mapping import (
    MISSHAPEN,
    MISSING,
    UNEXPECTED,
    Arrays,
    Places,
    Problem,
    parse_mapping,
)
from ._moments import Picture
from ._slots import integer

_WORDS = ("velocity", "average_gradient", "momentum")
ACCUMULATOR, AVERAGE = "gradient_accumulator", "average"
_KNOWN = ("iteration", "learning_rate")
_OPTIONS = ("rho", "momentum", "epsilon", "centered", "weight_decay")
_CLIPPING = ("clipnorm", "clipvalue", "global_clipnorm")
_UNKNOWN = ("use_ema", "loss_scale_factor", "gradient_accumulation_steps")
_INERT = ("name", "ema_momentum", "ema_overwrite_frequency", "jit_compile")
_CONFIG = {*_OPTIONS, *_CLIPPING, *_UNKNOWN, *_INERT, "is_legacy_optimizer"}
_CONFIG |= {"learning_rate", "lr", "decay"}
_OTHERS = frozenset(
    "adadelta adafactor adagrad adam adamax adamw ftrl lamb lion muon nadam "
    "schedulefreeadamw sgd lossscaleoptimizer multioptimizer".split()
)
_SIGNS = ("_velocity", "_momentum")
_SCALING = " (of a LossScaleOptimizer: pass its `inner_optimizer`)"
_NOTES: dict[str, str] = {"step_counter": _SCALING, "dynamic_scale": _SCALING}
_EMA = " (of `use_ema`: leave it out here, and see `interop.keras.averages`)"
_ADVICE = (
    "Compare the optimizer's `momentum` and `centered` with those of the "
    "transformation, and the mapping with the paths of the weights. Nothing was "
    "changed."
)


def arrays_of(call: Call, source: Any) -> Arrays:
    """Return arrays by path or number: of an object of Keras, a list or a dict."""
    if isinstance(source, str | os.PathLike):
        raise TypeError(
            f"`{call}`: open {os.fspath(source)!r} yourself. "
            "`h5py.File(path)['optimizer']['vars']` of a `.weights.h5` file holds the "
            "variables of the optimizer by number; pass `paths` with it."
        )
    if hasattr(source, "variables"):
        check_name(call, type(source).__name__)
        source = source.variables
    if isinstance(source, Mapping):
        return {str(key): value for key, value in source.items()}
    if not all(hasattr(x, "path") for x in source):
        raise TypeError(
            f"`{call}`: expected `{{v.path: v.numpy() for v in optimizer.variables}}`; "
            f"got a {type(source).__name__} of arrays without paths."
        )
    return _named(call, list(source), [x.path for x in source])


def by_path(call: Call, source: Any, paths: Sequence[str] | None) -> Arrays:
    """Return the variables of an optimizer by path, also where they come by number."""
    variables = arrays_of(call, source)
    if not variables or not all(key.isdecimal() for key in variables):
        return variables
    by_number = {int(key): value for key, value in variables.items()}
    if paths is None or sorted(by_number) != list(range(len(paths))):
        got = "none" if paths is None else f"{len(paths)}"
        raise ValueError(
            f"{call.given(paths=...)} must name the {len(variables)} variables of the "
            f"optimizer in its order; got {got}. Pass `[v.path for v in "
            "optimizer.variables]`, and the variables by number from 0."
        )
    return _named(call, [by_number[i] for i in range(len(paths))], paths)


def _named(call: Call, arrays: Sequence[Any], paths: Sequence[str]) -> Arrays:
    """Name variables that come in the order of Keras."""
    twice = {path for path in paths if list(paths).count(path) > 1}
    if twice:
        raise ValueError(
            f"`{call}`: two variables have the path "
            f"{', '.join(map(repr, sorted(twice)))}. Give the layers other names."
        )
    moments = [path.endswith("_momentum") for path in paths if path.endswith(_SIGNS)]
    if moments != sorted(moments):
        raise ValueError(
            f"`{call}`: the momentum of a weight comes before a velocity, as in Adam; "
            "only RMSprop has a place here. Check the order of the variables."
        )
    return dict(zip(paths, map(to_numpy, arrays), strict=True))


def parse(
    call: Call,
    variables: Arrays,
    mapping: Mapping[str, Any],
    steps: int | None,
    accumulates: bool,
) -> Picture:
    """Parse the variables of an optimizer, by path.

    `steps` is its `gradient_accumulation_steps`, and `accumulates` whether the state of
    ours has a place for gradients.
    """
    places, words = parse_mapping(call, mapping), (*_WORDS, ACCUMULATOR)
    for path in variables:
        check_name(call, last(path.rpartition("/")[0]))
    found, others = _sorted(call, variables, places, words)
    iteration, problems = _scalars(others)
    step, mini_step = iteration, None
    if found[ACCUMULATOR] or steps is not None:
        step, mini_step = divmod(iteration, _checked_steps(call, steps, found))
        # Keras keeps the sum of the gradients, and `optax.MultiSteps` their mean.
        found[ACCUMULATOR] = {
            name: None if x is None else to_numpy(x) / max(mini_step, 1)
            for name, x in found[ACCUMULATOR].items()
        }
    return Picture(
        call,
        words if mini_step or (accumulates and found[ACCUMULATOR]) else _WORDS,
        places,
        found,
        found,
        step,
        _ADVICE,
        tuple(problems),
        others=others,
        mini_step=mini_step,
        # Keras subtracts a buffer of lr*u; ours, of -lr*u, is added.
        rate_inside={place.to: True for place in places.values() if place},
        sign=-1.0,
    )


def averages_by_name(
    call: Call, variables: Arrays, mapping: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the averages of the weights, by the names of the weights."""
    places = parse_mapping(call, mapping)
    found, _ = _sorted(call, variables, places, (AVERAGE,))
    return found[AVERAGE]


def config_options(call: Call, config: Any) -> dict[str, Any]:
    """Return the hyperparameters in a config."""
    config = config.get_config() if hasattr(config, "get_config") else config
    if "class_name" in config:
        check_name(call, config["class_name"])
        config = config["config"]
    check_name(call, str(config.get("name", "")))
    foreign = [key for key in config if key not in _CONFIG]
    if foreign or "rho" not in config:
        odd = f"has {' and '.join(foreign)}" if foreign else "has no rho"
        raise ValueError(f"`{call}`: a config that {odd} is not that of RMSprop.")
    unknown = [key for key in _UNKNOWN if config.get(key)]
    if unknown:
        raise ValueError(
            f"`{call}`: no dialect has {' or '.join(unknown)}, which this config uses. "
            "Take it out of the config, and replace it by a transformation of your "
            "own; `optax.MultiSteps` accumulates gradients."
        )
    kept = {key: config[key] for key in (*_OPTIONS, *_CLIPPING) if key in config}
    kept |= {"decay": config["decay"]} if config.get("decay") else {}
    rate = config.get("learning_rate", config.get("lr"))
    if rate is None or isinstance(rate, Mapping):  # a schedule
        return kept
    return {"learning_rate": float(rate), **kept}


def check_name(call: Call, name: str) -> None:
    """Refuse an optimizer that has the name of another class of Keras."""
    if re.sub(r"(_\d+)?$|_", "", name.lower()) in _OTHERS:
        raise ValueError(
            f"`{call}`: the optimizer is {name!r}; only RMSprop has a place here. Of a "
            "LossScaleOptimizer pass its `inner_optimizer`."
        )


def variable(name: str, word: str) -> str:
    """Name the variable of a weight's moment as Keras does."""
    return f"{name.replace('/', '_')}_{word}"


def last(path: str) -> str:
    """Return the last part of a path."""
    return path.rpartition("/")[2]


def _sorted(
    call: Call, variables: Arrays, places: Places, words: tuple[str, ...]
) -> tuple[dict[str, Arrays], Arrays]:
    """Sort variables by moment and weight; return what is left by its last name too."""
    known: dict[str, str] = {}
    for name in places:
        for word in words:
            other = known.setdefault(variable(name, word), name)
            if other != name and {*map(last, variables)} & {variable(name, word)}:
                raise ValueError(
                    f"`{call}`: {variable(name, word)!r} may belong to {other!r} or to "
                    f"{name!r}. Give the layers other names."
                )
    found, others = {word: {} for word in words}, {}
    for path, value in variables.items():
        word = next((x for x in words if path.endswith(f"_{x}")), None)
        if word is None:
            others[last(path)] = value
        else:
            name = known.get(last(path), last(path).removesuffix(f"_{word}"))
            found[word][name] = value
    return found, others


def _scalars(others: Arrays) -> tuple[int, list[Problem]]:
    """Return the iteration, and what is no variable of RMSprop."""
    problems, iteration = [], 0
    for name, value in others.items():
        scalar = value is None or to_numpy(value).size == 1
        if name not in _KNOWN:
            note = _NOTES.get(name, _EMA if name.endswith(f"_{AVERAGE}") else "")
            problems.append((UNEXPECTED, f"{name!r}{note}"))
        elif not scalar:
            problems.append((MISSHAPEN, f"{name!r}: got {to_numpy(value).shape}"))
        elif name == "iteration" and value is not None:
            iteration = integer(to_numpy(value))
    problems += [(MISSING, "'iteration'")] if "iteration" not in others else []
    return iteration, problems


def _checked_steps(call: Call, steps: Any, found: Mapping[str, Arrays]) -> int:
    number = isinstance(steps, int) and steps > 1
    if number and found[ACCUMULATOR]:
        return steps
    what = "the optimizer's, at least 2, because it has accumulators of gradients"
    if number:
        what = "None, because there are no accumulators of gradients"
    raise ValueError(
        f"{call.given(gradient_accumulation_steps=...)} must be {what}; got {steps!r}."
    )
