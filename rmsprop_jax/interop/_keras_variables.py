"""The variables of a Keras optimizer, found and parsed."""

import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from .._arguments import Call
from ._layout import shown, whole
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
        return {str(key): value for key, value in _flattened(source)}
    try:
        paths = [x.path for x in source]
    except (TypeError, AttributeError):
        raise TypeError(
            f"`{call}`: expected `{{v.path: v.numpy() for v in optimizer.variables}}`; "
            f"got a {type(source).__name__} that does not tell the paths."
        ) from None
    return dict(zip(checked_paths(call, paths), source, strict=True))


def by_path(call: Call, source: Any, paths: Any) -> Arrays:
    """Return the variables of an optimizer by path, also where they come by number."""
    source = getattr(source, "optimizer", None) or source  # of a model
    for key in ("optimizer", "optimizer_weights", "vars"):  # of a file
        source = (
            source[key] if isinstance(source, Mapping) and key in source else source
        )
    variables = arrays_of(call, source)
    if variables and all(key.isdecimal() for key in variables):
        paths = checked_paths(call, paths, variables)
        variables = {path: variables[str(i)] for i, path in enumerate(paths)}
    if [*variables] != sorted(variables):  # sorted names tell nothing
        _check_order(call, variables)
    return variables


def checked_paths(
    call: Call, paths: Any, numbers: Collection[str] | None = None
) -> list[str]:
    """Refuse what does not list the paths of all variables, which may have numbers."""
    written = isinstance(paths, list | tuple) and all(isinstance(x, str) for x in paths)
    complete = written and numbers and {*numbers} == {*map(str, range(len(paths)))}
    if not written or not (numbers is None or complete):
        every = "the" if numbers is None else f"the {len(numbers)}"
        got = (
            len(paths) if written else "none" if paths is None else type(paths).__name__
        )
        raise ValueError(
            f"{call.given(paths=...)} must name {every} variables of the optimizer in "
            f"its order; got {got}. Pass `[v.path for v in optimizer.variables]`, and "
            "the variables by number from 0."
        )
    twice = sorted({path for path in paths if paths.count(path) > 1})
    if twice:
        raise ValueError(
            f"`{call}`: two variables have the path {', '.join(map(repr, twice))}. "
            "Give the layers other names."
        )
    return [*paths]


def _check_order(call: Call, paths: Iterable[str]) -> None:
    """Refuse Adam, which may have any name: RMSprop makes the momentum last."""
    seen = set()
    for path in paths:
        name, _, word = path.rpartition("_")
        if word == "velocity" and f"{name}_momentum" in seen:
            raise ValueError(
                f"`{call}`: the momentum of {last(name)!r} comes before its velocity, "
                "as in Adam; only RMSprop has a place here. Check the order of the "
                "variables."
            )
        seen.add(path)


def _flattened(tree: Mapping[Any, Any]) -> Iterator[tuple[str, Any]]:
    """Yield what is in the groups of a file, by path."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from ((f"{key}/{below}", x) for below, x in _flattened(value))
        else:
            yield str(key), value


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
    config = getattr(config, "optimizer", config)  # of a model
    if hasattr(config, "get_config"):
        check_name(call, type(config).__name__)
        config = config.get_config()
    if isinstance(config, Mapping) and "class_name" in config:
        check_name(call, str(config["class_name"]))
        config = config.get("config")
    if not isinstance(config, Mapping):
        raise TypeError(
            f"`{call}`: expected `optimizer.get_config()`; got a "
            f"{type(config).__name__}."
        )
    name = str(config.get("name", "rmsprop"))
    check_name(call, name)
    foreign = [key for key in config if key not in _CONFIG]
    known = name.lower().startswith(("rmsprop", "rms_prop")) or "epsilon" not in config
    if foreign or "rho" not in config or not (known or "momentum" in config):
        odd = f"has {' and '.join(foreign)}" if foreign else "has no rho or no momentum"
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
    if not isinstance(rate, int | float | np.number):
        raise TypeError(
            f"`{call}`: the learning rate in a config must be a number or the config "
            f"of a schedule; got {rate!r}."
        )
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
        if name not in _KNOWN:
            note = _NOTES.get(name, _EMA if name.endswith(f"_{AVERAGE}") else "")
            problems.append((UNEXPECTED, f"{name!r}{note}"))
        elif name == "iteration":
            iteration = whole(value) or 0
            if whole(value) is None:
                what = f"{name!r}: got {shown(value)}, expected a number of steps"
                problems.append((MISSHAPEN, what))
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
