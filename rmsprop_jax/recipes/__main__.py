"""`python -m rmsprop_jax recipes`: every number of the recipes and its source."""

import argparse
import dataclasses
import inspect
import json

from .. import recipes
from .._text_tables import Rows, markdown_table, plain_table
from ._recipe import RECIPES, Recipe

PAGE = """\
# Recipes

Each function of `rmsprop_jax.recipes` returns the optimizer of one published setting:
a dialect with its numbers, the learning rate over time, clipping before it, and weight
decay where that was in the loss.

This page is written by `python -m rmsprop_jax recipes --markdown`, from the numbers
that the functions themselves use. **Code**: read in the released code that is named.
**Paper**: read in the text of the paper. **Reported**: said by others, the original was
not found. **Not given**: in no source; such a number is a required argument.

{sections}
"""

SECTION = """\
## {title}

    {signature}

Built on `{dialect}`.{outside}

{table}
"""


def main(argv: list[str]) -> int:
    """Print every recipe, or one."""
    parser = argparse.ArgumentParser(
        prog="python -m rmsprop_jax recipes",
        description="Print the numbers of the published settings, with their sources.",
    )
    parser.add_argument("name", nargs="?", metavar="RECIPE", help="one of them")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--markdown", action="store_true", help="print docs/recipes.md")
    arguments = parser.parse_args(argv)
    if arguments.name is not None and arguments.name not in RECIPES:
        parser.error(f"no recipe {arguments.name!r}; there are {', '.join(RECIPES)}.")
    names = [arguments.name] if arguments.name else list(RECIPES)
    if arguments.markdown:
        print(page(), end="")
    elif arguments.json:
        chosen = {name: dataclasses.asdict(RECIPES[name]) for name in names}
        print(json.dumps(chosen, indent=2))
    else:
        print("\n\n".join(map(text, names)))
    return 0


def page() -> str:
    """Write `docs/recipes.md`."""
    sections = [
        SECTION.format(
            title=facts.title,
            signature=_signature(name),
            dialect=_dialect(facts),
            outside=f" Outside the optimizer: {facts.outside}." * bool(facts.outside),
            table=markdown_table(_rows(facts)),
        )
        for name, facts in RECIPES.items()
    ]
    return PAGE.format(sections="\n".join(sections).rstrip())


def text(name: str) -> str:
    """Lay one recipe out for a terminal."""
    facts = RECIPES[name]
    lines = [f"{facts.title}: {_signature(name)} on {_dialect(facts)}"]
    lines += [plain_table(_rows(facts))]
    return "\n".join(lines + ([f"Outside: {facts.outside}."] if facts.outside else []))


def _rows(facts: Recipe) -> Rows:
    return [
        {
            "number": number.name,
            "value": "argument" if number.value is None else f"{number.value:g}",
            "status": number.status,
            "source": number.source,
            "note": number.note,
        }
        for number in facts.numbers
    ]


def _dialect(facts: Recipe) -> str:
    return "rmsprop" if facts.dialect == "rmsprop" else f"dialects.{facts.dialect}"


def _signature(name: str) -> str:
    signature = inspect.signature(getattr(recipes, name)).parameters.values()
    words = [
        x.name if x.default is x.empty else f"{x.name}={x.default!r}"
        for x in signature
        if x.kind is not x.VAR_KEYWORD
    ]
    return f"recipes.{name}({', '.join(words)})"
