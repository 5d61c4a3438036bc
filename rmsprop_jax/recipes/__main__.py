"""`python -m rmsprop_jax recipes`: every number of the recipes and its source."""

import argparse
import sys

from .._text_tables import Rows, plain_table
from ..dialects._dialect import written_signature
from ._recipe import RECIPES, Recipe


def main(argv: list[str] | None = None) -> int:
    """Print every recipe, or one."""
    parser = argparse.ArgumentParser(
        prog="python -m rmsprop_jax recipes",
        description="Print the numbers of the published settings, with their sources.",
    )
    parser.add_argument("name", nargs="?", metavar="RECIPE", help="one of them")
    name, there = parser.parse_args(argv).name, sorted(RECIPES)
    if name is not None and name not in RECIPES:
        parser.error(f"no recipe {name!r}; there are {', '.join(there)}.")
    print("\n\n".join(text(RECIPES[x]) for x in ([name] if name else there)))
    return 0


def text(found: Recipe) -> str:
    """Write one recipe for a terminal."""
    lines = [f"{found.title}: {signature(found)} on {found.rule}"]
    lines += [plain_table(rows(found))]
    return "\n".join(lines + ([f"Outside: {found.outside}."] if found.outside else []))


def rows(found: Recipe) -> Rows:
    """Return the rows of the table of a recipe's numbers."""
    return [
        {
            "number": number.name,
            "value": "argument" if number.value is None else f"{number.value:g}",
            "status": number.status,
            "source": number.source,
            "note": number.note,
        }
        for number in found.numbers
    ]


def signature(found: Recipe) -> str:
    """Write the call of a recipe."""
    return written_signature(f"recipes.{found.function.__name__}", found.function)


if __name__ == "__main__":
    sys.exit(main())
