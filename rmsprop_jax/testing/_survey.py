"""Measure which laws the optimizers of optax break."""

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import optax

from ._examine import examine
from .laws import LAWS


class Member(NamedTuple):
    """An optimizer of optax, and the extra arguments that its `update` needs."""

    factory: Callable[..., Any]
    extra_args: dict[str, Any] = {}


VALUE = {"value": 1.0}
# Left out are wrappers of another optimizer; `dpsgd`, whose gradients are per example;
# and `sophia`, which compiles again in every update that is not jitted.
CONTRIB = (
    "acprop",
    "ademamix",
    "adopt",
    "cocob",
    "dadapt_adamw",
    "dog",
    "dowg",
    "galore",
    "madgrad",
    "momo",
    "momo_adam",
    "muon",
    "prodigy",
    "schedule_free_adamw",
    "schedule_free_sgd",
    "simplified_ademamix",
)
GIVEN = {"momo": VALUE, "momo_adam": VALUE}

MEMBERS: dict[str, Member] = {
    "rmsprop": Member(optax.rmsprop),
    "rmsprop(eps_in_sqrt=False)": Member(
        functools.partial(optax.rmsprop, eps_in_sqrt=False)
    ),
    "adam": Member(optax.adam),
    "sgd": Member(optax.sgd),
    **{
        f"contrib.{name}": Member(getattr(optax.contrib, name), GIVEN.get(name, {}))
        for name in CONTRIB
        if hasattr(optax.contrib, name)
    },
}


def table() -> str:
    """Return the laws as a Markdown table."""
    rows = (f"| {x.number} | `{x.name}` | {x.statement} | {x.source} |" for x in LAWS)
    return "\n".join(["| | name | law | source |", "|---|---|---|---|", *rows])


def survey(names: Iterable[str]) -> Iterator[str]:
    """Return the lines of a Markdown table of broken laws, and of those not checked."""
    yield "| optimizer | breaks | not checked |"
    yield "|---|---|---|"
    yield from map(row, names)


def row(name: str) -> str:
    """Measure one optimizer; return its row of the table."""
    report = examine(MEMBERS[name].factory, extra_args=MEMBERS[name].extra_args)
    broken = ", ".join(str(law.number) for law in report.broken)
    skipped = ", ".join(str(_number(name)) for name, _ in report.skipped)
    return f"| `{name}` | {broken or 'none'} | {skipped or 'none'} |"


def _number(name: str) -> int:
    return next(law.number for law in LAWS if law.name == name)
