"""How two dialects differ, in words, and the calls with which they agree."""

import dataclasses
from typing import Any

import jax.numpy as jnp
import optax

from ._dialect import Dialect

GRADIENTS = (1.0, 0.5, -0.2, 0.0, 0.1, 0.3, 0.02, 1.0)
RATES = (0.1,) * 4 + (0.01,) * 4


@dataclasses.dataclass(frozen=True)
class Agreement:
    """Arguments, in each dialect's words, with which two dialects take equal steps.

    Attributes:
      where: the momentum for which they do.
      constant_rate: whether they do so only while the learning rate is constant.
      first, second: the arguments without the learning rate.
    """

    where: str
    constant_rate: bool
    first: dict[str, Any]
    second: dict[str, Any]


def written(facts: Dialect, arguments: dict[str, Any]) -> str:
    """Write a call of a dialect."""
    given = [facts.call.word("learning_rate")]
    given += [f"{key}={value!r}" for key, value in arguments.items()]
    return f"{facts.call}({', '.join(given)})"


def simulate(
    facts: Dialect, arguments: dict[str, Any], constant_rate: bool = False
) -> list[float]:
    """Return a parameter that starts at 0, after each of `GRADIENTS`."""
    rates = jnp.array([RATES[0]] * len(RATES) if constant_rate else RATES)
    rate = {facts.call.word("learning_rate"): lambda count: rates[count]}
    tx = facts.function(**rate, **arguments)

    p = jnp.zeros(())
    state, path = tx.init(p), []
    for g in GRADIENTS:
        updates, state = tx.update(jnp.asarray(g), state, p)
        p = optax.apply_updates(p, updates)
        path.append(float(p))  # pyright: ignore
    return path


def differences(a: Dialect, b: Dialect) -> list[str]:
    """Say in sentences how the rules and the defaults of two dialects differ."""
    sentences = []
    for say in (_start, _eps_place, _momentum, _centered, _weight_decay, _complex):
        first, second = say(a), say(b)
        if first != second:
            sentences.append(f"{a.name} {first}; {b.name} {second}.")
    return sentences + _defaults(a, b)


def agreements(a: Dialect, b: Dialect) -> list[Agreement]:
    """Return the settings with which two dialects take the same steps."""
    found = [_agree(a, b, has_momentum) for has_momentum in (False, True)]
    without, with_ = found
    if without and with_ and not with_.constant_rate and _same_eps(without, with_):
        return [dataclasses.replace(with_, where="with any momentum")]
    return [agreement for agreement in found if agreement]


def obstacle(a: Dialect, b: Dialect) -> str:
    """Say why two dialects have no setting in common."""
    if a.initial_scale != b.initial_scale:
        return "the start of `s` loses its weight only as decay**t"
    if None not in (a.centered, b.centered) and a.centered != b.centered:
        return "one is always centered, and the other never"
    zero = next(
        f"an eps of 0 means {facts.eps_of_zero:g} in {facts.name}"
        for facts in (a, b)
        if facts.eps_of_zero
    )
    return f"eps has another place, and {zero}"


def _start(facts: Dialect) -> str:
    return f"starts `s` at {facts.initial_scale:g}"


def _eps_place(facts: Dialect) -> str:
    if "eps" not in facts.defaults:
        return "has no eps"
    if facts.eps_in_sqrt is None:
        return "adds eps to the root without momentum and under it with momentum"
    return f"adds eps {'under' if facts.eps_in_sqrt else 'to'} the root"


def _momentum(facts: Dialect) -> str:
    says = {
        None: "has no momentum",
        True: "accumulates steps (b <- momentum*b + lr*u)",
        False: "accumulates directions (b <- momentum*b + u)",
    }
    return says[facts.lr_in_momentum]


def _centered(facts: Dialect) -> str:
    says = {None: "can be", True: "is always", False: "is never"}
    return f"{says[facts.centered]} centered"


def _weight_decay(facts: Dialect) -> str:
    says = {"none": "no", "either": "coupled or decoupled"}
    return f"has {says.get(facts.weight_decay, facts.weight_decay)} weight decay"


def _complex(facts: Dialect) -> str:
    if facts.complex_as_parts:
        return "treats the two parts of a complex parameter as two parameters"
    return "averages |g|**2 for a complex parameter"


def _defaults(a: Dialect, b: Dialect) -> list[str]:
    sentences = []
    for ours in ("decay", "eps", "momentum"):
        values = a.defaults.get(ours) or 0, b.defaults.get(ours) or 0
        if ours in a.defaults and ours in b.defaults and values[0] != values[1]:
            sentences.append(
                f"The default is {a.call.word(ours)}={values[0]:g} in {a.name} and "
                f"{b.call.word(ours)}={values[1]:g} in {b.name}."
            )
    return sentences


def _agree(a: Dialect, b: Dialect, has_momentum: bool) -> Agreement | None:
    eps = _common_eps(a, b, has_momentum)
    fixed = {a.centered, b.centered} - {None}
    if a.initial_scale != b.initial_scale or eps is None or len(fixed) == 2:
        return None
    if has_momentum and not all("momentum" in x.defaults for x in (a, b)):
        return None
    wanted = {
        "decay": b.defaults["decay"],
        "eps": eps,
        "momentum": 0.9 if has_momentum else 0.0,
        "centered": True in fixed,
    }
    settings = _set(a, wanted), _set(b, wanted)
    same_order = _match_order(a, b, settings) if has_momentum else True
    where = "with momentum" if has_momentum else "without momentum"
    return Agreement(where, not same_order, *settings)


def _set(facts: Dialect, wanted: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments that give a dialect the values that are wanted."""
    return {
        facts.call.word(ours): value
        for ours, value in wanted.items()
        if ours in facts.defaults and (facts.defaults[ours] or 0) != value
    }


def _match_order(a: Dialect, b: Dialect, settings: tuple[dict[str, Any], ...]) -> bool:
    """Give both the same order of momentum if possible; tell whether they have it."""
    orders = [a.lr_in_momentum, b.lr_in_momentum]
    for k, facts in enumerate((a, b)):
        if orders[0] != orders[1] and "lr_in_momentum" in facts.defaults:
            settings[k]["lr_in_momentum"] = orders[k] = orders[1 - k]
    return orders[0] == orders[1]


def _common_eps(a: Dialect, b: Dialect, has_momentum: bool) -> float | None:
    """Find an eps that means the same in both: 0 where its places differ."""
    places = [
        has_momentum if facts.eps_in_sqrt is None else facts.eps_in_sqrt
        for facts in (a, b)
    ]
    if places[0] == places[1] and "eps" in a.defaults and "eps" in b.defaults:
        return b.defaults["eps"]
    return None if a.eps_of_zero or b.eps_of_zero else 0.0


def _same_eps(without: Agreement, with_: Agreement) -> bool:
    def fixed(setting: dict[str, Any]) -> dict[str, Any]:
        return {key: x for key, x in setting.items() if key != "momentum"}

    pairs = (without.first, with_.first), (without.second, with_.second)
    return all(fixed(x) == fixed(y) for x, y in pairs)
