"""`python -m rmsprop_jax dialects`: the dialects side by side."""

import argparse
import dataclasses
import inspect
import json
from typing import Any

from .. import dialects
from .._text_tables import Rows, markdown_table, plain_table
from ._compare import (
    GRADIENTS,
    RATES,
    Agreement,
    agreements,
    call,
    differences,
    obstacle,
    parameters,
    simulate,
)
from ._dialect import DIALECTS, Dialect

LEGEND = """\
eps: under the root, sqrt(s + eps), or added to it, sqrt(s) + eps; and its default.
momentum: the buffer accumulates steps, b <- mu*b + lr*u; p <- p - b (TensorFlow), or
  directions, b <- mu*b + u; p <- p - lr*b (PyTorch); and its default. The two are the
  same while the learning rate is constant.
weight decay: coupled, g <- g + wd*p, or decoupled, p <- p - lr*wd*p.
"""

PAGE = """\
# Dialects of RMSProp

Two frameworks rarely mean the same by RMSProp. Each function of `rmsprop_jax.dialects`
is one framework's, with its own argument names, order and defaults.
`python -m rmsprop_jax dialects torch tensorflow1` tells how two of them differ, shows
it on a few steps, and prints calls with which they agree.

This page is written by `python -m rmsprop_jax dialects --markdown`, from the data that
the functions themselves use.

{table}

**eps** is under the root, `sqrt(s + eps)`, or added to it, `sqrt(s) + eps`; the number
is its default. The **momentum** buffer accumulates steps, `b <- mu*b + lr*u` and
`p <- p - b`, or directions, `b <- mu*b + u` and `p <- p - lr*b`; the two are the same
while the learning rate is constant. **Weight decay** is coupled, `g <- g + wd*p`, or
decoupled, `p <- p - lr*wd*p`.

"Run" means that a recorded run of the named version, every option combination over 60
steps of a decaying learning rate, is part of the tests: equal to 1e-12 of the distance
moved in float64 and to 2e-5 in float32 (`tests/golden`).

## One by one

{sections}
"""

SECTION = """\
### {name}

    {signature}

{framework}: `{original}`. Its surprise: {surprise}.

Source: {source} ({verified}).
"""


def main(argv: list[str]) -> int:
    """Print the table, or what separates two dialects."""
    parser = argparse.ArgumentParser(
        prog="python -m rmsprop_jax dialects",
        description="Print the dialects of RMSProp, or how two of them differ.",
    )
    parser.add_argument("names", nargs="*", metavar="DIALECT", help="none, or two")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--markdown", action="store_true", help="print docs/dialects.md"
    )
    arguments = parser.parse_args(argv)
    unknown = [name for name in arguments.names if name not in DIALECTS]
    if unknown:
        parser.error(f"no dialect {unknown[0]!r}; there are {', '.join(DIALECTS)}.")
    if len(arguments.names) not in (0, 2) or len(set(arguments.names)) == 1:
        got = " ".join(arguments.names)
        parser.error(f"name two different dialects, or none; got {got}.")
    if arguments.names:
        show = _json_comparison if arguments.json else comparison
        print(show(*arguments.names))
    elif arguments.markdown:
        print(page(), end="")
    else:
        print(json.dumps(_facts(), indent=2) if arguments.json else table())
    return 0


def rows() -> Rows:
    """Give the comparison table, a row for each dialect."""
    return [_row(name, facts) for name, facts in DIALECTS.items()]


def table() -> str:
    """Lay the comparison out for a terminal, with the sources below."""
    sources = [{"dialect": n, "source": f.source} for n, f in DIALECTS.items()]
    return "\n".join([plain_table(rows()), "", LEGEND, plain_table(sources)])


def page() -> str:
    """Write `docs/dialects.md`."""
    sections = [
        SECTION.format(
            name=name, signature=_signature(name), **dataclasses.asdict(facts)
        )
        for name, facts in DIALECTS.items()
    ]
    return PAGE.format(
        table=markdown_table(rows()), sections="\n".join(sections).rstrip()
    )


def comparison(a: str, b: str) -> str:
    """Say how two dialects differ, show it, and say when they do not."""
    found = agreements(a, b)
    blocks = [
        f"{_signature(a)}\n{_signature(b)}",
        "\n".join(f"- {sentence}" for sentence in differences(a, b)),
        _example(a, b),
        *(_agreed(a, b, agreement) for agreement in found),
    ]
    if not found:
        blocks.append(f"No setting makes them agree: {obstacle(a, b)}.")
    return "\n\n".join(block for block in blocks if block)


def _row(name: str, facts: Dialect) -> dict[str, str]:
    defaults = parameters(name)
    place = {None: "to root; under with momentum", True: "under root", False: "to root"}
    order = {None: "none", True: "steps", False: "directions"}
    centered = {None: "can be", True: "always", False: "never"}
    eps = "none"
    if "eps" in defaults:
        eps = f"{defaults['eps']:g}, {place[facts.eps_in_sqrt]}"
    momentum = order[facts.lr_in_momentum]
    if facts.lr_in_momentum is not None:
        momentum += f", {defaults['momentum'] or 0:g}"
    return {
        "dialect": name,
        "s starts at": f"{facts.initial_scale:g}",
        "eps": eps,
        "decay": f"{defaults['decay']:g}",
        "momentum": momentum,
        "centered": centered[facts.centered],
        "weight decay": facts.weight_decay,
        "verified": facts.verified,
    }


def _facts() -> list[dict[str, Any]]:
    return [
        {"dialect": name, **dataclasses.asdict(facts), "defaults": parameters(name)}
        for name, facts in DIALECTS.items()
    ]


def _signature(name: str) -> str:
    """Write a dialect's own arguments, without those that all dialects take."""
    signature = inspect.signature(getattr(dialects, name)).parameters
    words, starred = [], False
    for key, parameter in signature.items():
        if key in ("storage", "nonfinite", "seed"):
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and not starred:
            words, starred = [*words, "*"], True
        required = parameter.default is parameter.empty
        words.append(key if required else f"{key}={parameter.default!r}")
    return f"dialects.{name}({', '.join(words)})"


def _example_arguments(a: str, b: str) -> dict[str, float]:
    """Give both a momentum where both can have one: it shows the order."""
    both = "momentum" in parameters(a) and "momentum" in parameters(b)
    return {"momentum": 0.9} if both else {}


def _example(a: str, b: str) -> str:
    arguments = _example_arguments(a, b)
    calls = f"{call(a, arguments)} and {call(b, arguments)}"
    paths = simulate(a, arguments), simulate(b, arguments)
    steps = [
        {
            "step": f"{k}",
            "gradient": f"{g:g}",
            "rate": f"{rate:g}",
            a: f"{p: .6f}",
            b: f"{q: .6f}",
        }
        for k, (g, rate, p, q) in enumerate(
            zip(GRADIENTS, RATES, *paths, strict=True), 1
        )
    ]
    return f"A parameter from 0, under {calls}:\n\n{plain_table(steps)}"


def _agreed(a: str, b: str, agreement: Agreement) -> str:
    rate = ", while the learning rate is constant" if agreement.constant_rate else ""
    first = simulate(a, agreement.first, agreement.constant_rate)
    second = simulate(b, agreement.second, agreement.constant_rate)
    apart = max(abs(p - q) for p, q in zip(first, second, strict=True))
    return (
        f"They agree {agreement.where}{rate}:\n\n"
        f"  {call(a, agreement.first)}\n  {call(b, agreement.second)}\n\n"
        f"Largest difference over the same gradients: {apart:.1e}."
    )


def _json_comparison(a: str, b: str) -> str:
    arguments = _example_arguments(a, b)
    return json.dumps(
        {
            "dialects": [a, b],
            "differences": differences(a, b),
            "example": {
                "gradients": GRADIENTS,
                "learning_rates": RATES,
                "arguments": arguments,
                "parameters": {name: simulate(name, arguments) for name in (a, b)},
            },
            "agreements": [dataclasses.asdict(found) for found in agreements(a, b)],
        },
        indent=2,
    )
