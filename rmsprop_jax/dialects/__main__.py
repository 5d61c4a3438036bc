"""`python -m rmsprop_jax dialects`: the dialects side by side."""

import argparse
import sys
import textwrap

from .._text_tables import Rows, plain_table
from ._compare import (
    GRADIENTS,
    RATES,
    Agreement,
    agreements,
    differences,
    obstacle,
    simulate,
    written,
)
from ._dialect import DIALECTS, Dialect, written_signature

LEGEND = """\
s: its start.
eps: its default; under the root, sqrt(s + eps), or added to it, sqrt(s) + eps;
  "both" is added to it without momentum, and under it with momentum.
momentum: the buffer accumulates steps, b <- mu*b + lr*u; p <- p - b, or
  directions, b <- mu*b + u; p <- p - lr*b; and its default, if not 0. The two
  are equal while the learning rate is constant.
wd: weight decay; coupled, g <- g + wd*p, or decoupled, p <- p - lr*wd*p.
"""


def main(argv: list[str] | None = None) -> int:
    """Print the table, or how two dialects differ."""
    parser = argparse.ArgumentParser(
        prog="python -m rmsprop_jax dialects",
        description="Print the dialects of RMSProp, or how two of them differ.",
    )
    parser.add_argument("names", nargs="*", metavar="DIALECT", help="none, or two")
    names = parser.parse_args(argv).names
    unknown = [name for name in names if name not in DIALECTS]
    if unknown:
        there = ", ".join(sorted(DIALECTS))
        parser.error(f"no dialect {unknown[0]!r}; there are {there}.")
    if len(names) not in (0, 2) or len(set(names)) == 1:
        parser.error(f"name two different dialects, or none; got {' '.join(names)}.")
    print(comparison(*(DIALECTS[name] for name in names)) if names else table())
    return 0


def rows() -> Rows:
    """Return the rows of the table of all dialects, in the order of their names."""
    return [_row(DIALECTS[name]) for name in sorted(DIALECTS)]


def table() -> str:
    """Write the table of all dialects and their sources, at most 80 columns wide."""
    sources = [
        f"{name}: {DIALECTS[name].source} ({DIALECTS[name].verified})"
        for name in sorted(DIALECTS)
    ]
    return "\n".join([plain_table(rows()), "", LEGEND, *map(_wrapped, sources)])


def comparison(a: Dialect, b: Dialect) -> str:
    """Say how two dialects differ, show it, and say with which calls they agree."""
    found = agreements(a, b)
    signatures = [written_signature(f"{x.call}", x.function) for x in (a, b)]
    blocks = [
        "\n".join(map(_wrapped, signatures)),
        "\n".join(_wrapped(f"- {sentence}") for sentence in differences(a, b)),
        _example(a, b),
        *(_agreed(a, b, agreement) for agreement in found),
    ]
    if not found:
        blocks.append(_wrapped(f"No setting makes them agree: {obstacle(a, b)}."))
    return "\n\n".join(block for block in blocks if block)


def _wrapped(line: str) -> str:
    return textwrap.fill(
        line, 80, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    )


def _row(facts: Dialect) -> dict[str, str]:
    place = {None: "both", True: "under", False: "added"}[facts.eps_in_sqrt]
    order = {None: "none", True: "steps", False: "directions"}[facts.lr_in_momentum]
    centered = {None: "option", True: "always", False: "never"}[facts.centered]
    eps, momentum = facts.defaults.get("eps"), facts.defaults.get("momentum")
    return {
        "dialect": facts.name,
        "s": f"{facts.initial_scale:g}",
        "eps": "none" if eps is None else f"{eps:g} {place}",
        "decay": f"{facts.defaults['decay']:g}",
        "momentum": f"{order} {momentum:g}" if momentum else order,
        "centered": centered,
        "wd": facts.weight_decay,
    }


def _example(a: Dialect, b: Dialect) -> str:
    """Show a few steps of both, with momentum where both can have it."""
    both = "momentum" in a.defaults and "momentum" in b.defaults
    arguments = {"momentum": 0.9} if both else {}
    paths = simulate(a, arguments), simulate(b, arguments)
    steps = [
        {
            "step": f"{k}",
            "gradient": f"{g:g}",
            "rate": f"{rate:g}",
            a.name: f"{p: .6f}",
            b.name: f"{q: .6f}",
        }
        for k, (g, rate, p, q) in enumerate(
            zip(GRADIENTS, RATES, *paths, strict=True), 1
        )
    ]
    calls = f"{written(a, arguments)} and {written(b, arguments)}"
    shown = _wrapped(f"A parameter that starts at 0, with {calls}:")
    return f"{shown}\n\n{plain_table(steps)}"


def _agreed(a: Dialect, b: Dialect, agreement: Agreement) -> str:
    rate = ", while the learning rate is constant" if agreement.constant_rate else ""
    first = simulate(a, agreement.first, agreement.constant_rate)
    second = simulate(b, agreement.second, agreement.constant_rate)
    apart = max(abs(p - q) for p, q in zip(first, second, strict=True))
    return (
        f"They agree {agreement.where}{rate}:\n\n"
        f"  {written(a, agreement.first)}\n  {written(b, agreement.second)}\n\n"
        f"The largest difference for the same gradients is {apart:.1e}."
    )


if __name__ == "__main__":
    sys.exit(main())
