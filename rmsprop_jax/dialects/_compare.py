"""How two dialects differ, in words, and the calls with which they do not."""

import dataclasses
import inspect
from typing import Any

import jax.numpy as jnp

from .. import dialects
from ._dialect import DIALECTS, OURS, Dialect

GRADIENTS = (1.0, 0.5, -0.2, 0.0, 0.1, 0.3, 0.02, 1.0)
RATES = (0.1,) * 4 + (0.01,) * 4


@dataclasses.dataclass(frozen=True)
class Agreement:
    """Arguments, in each dialect's words, with which two dialects take equal steps.

    Attributes:
      where: to which momentum it applies.
      constant_rate: whether it takes a constant learning rate.
      first, second: the arguments, the learning rate aside.
    """

    where: str
    constant_rate: bool
    first: dict[str, Any]
    second: dict[str, Any]


def parameters(name: str) -> dict[str, Any]:
    """Give the defaults of a dialect under our names; required ones are absent."""
    signature = inspect.signature(getattr(dialects, name)).parameters
    return {
        OURS.get(word, word): parameter.default
        for word, parameter in signature.items()
        if parameter.default is not parameter.empty
    }


def word(name: str, ours: str) -> str:
    """Give a dialect's word for an argument of ours."""
    signature = inspect.signature(getattr(dialects, name)).parameters
    return next(theirs for theirs in signature if OURS.get(theirs, theirs) == ours)


def call(name: str, arguments: dict[str, Any]) -> str:
    """Write a call of a dialect."""
    given = [word(name, "learning_rate")]
    given += [f"{key}={value!r}" for key, value in arguments.items()]
    return f"dialects.{name}({', '.join(given)})"


def simulate(
    name: str, arguments: dict[str, Any], constant_rate: bool = False
) -> list[float]:
    """Give the parameter, from 0, after each of `GRADIENTS`."""
    rates = jnp.array([RATES[0]] * len(RATES) if constant_rate else RATES)
    rate = {word(name, "learning_rate"): lambda count: rates[count]}
    tx = getattr(dialects, name)(**rate, **arguments)

    p = jnp.zeros(())
    state, path = tx.init(p), []
    for g in GRADIENTS:
        updates, state = tx.update(jnp.asarray(g), state, p)
        p = p + updates
        path.append(float(p))
    return path


def differences(a: str, b: str) -> list[str]:
    """Say in sentences how the rules and the defaults of two dialects differ."""
    sentences = []
    for say in (_start, _eps_place, _momentum, _centered, _weight_decay):
        first, second = say(a), say(b)
        if first != second:
            sentences.append(f"{a} {first}; {b} {second}.")
    if "torch" in (a, b) and a != b:
        other = b if a == "torch" else a
        sentences.append(
            "torch takes the parts of a complex parameter for two parameters; "
            f"{other} divides by the root of |g|**2."
        )
    return sentences + _defaults(a, b)


def agreements(a: str, b: str) -> list[Agreement]:
    """Give the settings with which two dialects take the same steps."""
    found = [_agree(a, b, has_momentum) for has_momentum in (False, True)]
    without, with_ = found
    if without and with_ and not with_.constant_rate and _same_eps(without, with_):
        return [dataclasses.replace(with_, where="with any momentum")]
    return [agreement for agreement in found if agreement]


def obstacle(a: str, b: str) -> str:
    """Say why two dialects have no setting in common."""
    one, two = DIALECTS[a], DIALECTS[b]
    if one.initial_scale != two.initial_scale:
        return "what `s` starts at is only forgotten, as decay**t"
    if None not in (one.centered, two.centered) and one.centered != two.centered:
        return "one is always centered, the other never"
    return "eps has another place, and an epsilon of 0 means 1e-7 in tf-keras"


def _start(name: str) -> str:
    return f"starts `s` at {DIALECTS[name].initial_scale:g}"


def _eps_place(name: str) -> str:
    in_sqrt = DIALECTS[name].eps_in_sqrt
    if "eps" not in parameters(name):
        return "has no eps"
    if in_sqrt is None:
        return "adds eps to the root without momentum and under it with momentum"
    return f"adds eps {'under' if in_sqrt else 'to'} the root"


def _momentum(name: str) -> str:
    says = {
        None: "has no momentum",
        True: "accumulates steps (b <- momentum*b + lr*u)",
        False: "accumulates directions (b <- momentum*b + u)",
    }
    return says[DIALECTS[name].lr_in_momentum]


def _centered(name: str) -> str:
    says = {None: "can be", True: "is always", False: "is never"}
    return f"{says[DIALECTS[name].centered]} centered"


def _weight_decay(name: str) -> str:
    kind = DIALECTS[name].weight_decay
    says = {"none": "no", "either": "coupled or decoupled"}
    return f"has {says.get(kind, kind)} weight decay"


def _defaults(a: str, b: str) -> list[str]:
    first, second = parameters(a), parameters(b)
    sentences = []
    for ours in ("decay", "eps", "momentum"):
        values = first.get(ours) or 0, second.get(ours) or 0
        if ours in first and ours in second and values[0] != values[1]:
            sentences.append(
                f"The default is {word(a, ours)}={values[0]:g} in {a} and "
                f"{word(b, ours)}={values[1]:g} in {b}."
            )
    return sentences


def _agree(a: str, b: str, has_momentum: bool) -> Agreement | None:
    one, two = DIALECTS[a], DIALECTS[b]
    settings: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
    eps = _common_eps(a, b, has_momentum)
    fixed = {one.centered, two.centered} - {None}
    if one.initial_scale != two.initial_scale or eps is None or len(fixed) == 2:
        return None
    momentum_is = {"momentum": 0.9 if has_momentum else 0.0}
    wanted = {"decay": parameters(b)["decay"], "eps": eps, **momentum_is}
    wanted["centered"] = True in fixed
    for name, setting in zip((a, b), settings, strict=True):
        defaults = parameters(name)
        if has_momentum and "momentum" not in defaults:
            return None
        for ours, value in wanted.items():
            if ours in defaults and (defaults[ours] or 0) != value:
                setting[word(name, ours)] = value
    orders = _match_order(a, b, settings) if has_momentum else True
    where = "with momentum" if has_momentum else "without momentum"
    return Agreement(where, not orders, *settings)


def _match_order(a: str, b: str, settings: tuple[dict[str, Any], ...]) -> bool:
    """Give both one order of momentum, if a switch can; tell whether they have it."""
    orders = [DIALECTS[name].lr_in_momentum for name in (a, b)]
    for k, name in enumerate((a, b)):
        if orders[0] != orders[1] and "lr_in_momentum" in parameters(name):
            settings[k]["lr_in_momentum"] = orders[k] = orders[1 - k]
    return orders[0] == orders[1]


def _common_eps(a: str, b: str, has_momentum: bool) -> float | None:
    """Find an eps that means the same in both; where its place differs only 0 does."""
    given = [parameters(name).get("eps") for name in (a, b)]
    places = [_inside(DIALECTS[name], has_momentum) for name in (a, b)]
    if places[0] == places[1] and None not in given:
        return given[1]
    # tf-keras takes an epsilon of 0 for 1e-7.
    return None if "keras_legacy" in (a, b) else 0.0


def _inside(facts: Dialect, has_momentum: bool) -> bool:
    return has_momentum if facts.eps_in_sqrt is None else facts.eps_in_sqrt


def _same_eps(without: Agreement, with_: Agreement) -> bool:
    def fixed(setting: dict[str, Any]) -> dict[str, Any]:
        return {key: x for key, x in setting.items() if key != "momentum"}

    pairs = (without.first, with_.first), (without.second, with_.second)
    return all(fixed(x) == fixed(y) for x, y in pairs)
