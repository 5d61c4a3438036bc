"""Write docs/dialects.md and docs/recipes.md from the facts in the package.

python docs/write_pages.py
"""

from pathlib import Path

from rmsprop_jax._text_tables import markdown_table
from rmsprop_jax.dialects import __main__ as dialects_command
from rmsprop_jax.dialects._dialect import DIALECTS, Dialect, written_signature
from rmsprop_jax.recipes import __main__ as recipes_command
from rmsprop_jax.recipes._recipe import RECIPES, Recipe

DIALECTS_PAGE = """\
# Dialects of RMSProp

Frameworks and papers mean different rules by RMSProp. Each function of
`rmsprop_jax.dialects` has the rule of one of them, with its argument names, their order
and their defaults. `python -m rmsprop_jax dialects torch tensorflow1` says how two
dialects differ, shows the difference on a few steps, and prints calls with which they
agree.

`python docs/write_pages.py` writes this page from the facts that the functions use.

{table}

**s** is where the second moment starts. **eps** is its default, under the root,
`sqrt(s + eps)`, or added to it, `sqrt(s) + eps`; "both" is added to it without
momentum, and under it with momentum. The **momentum** buffer accumulates steps,
`b <- mu*b + lr*u` and `p <- p - b`, or directions, `b <- mu*b + u` and `p <- p - lr*b`;
the two are equal while the learning rate is constant. The number is its default, if not
0. Weight decay, **wd**, is coupled, `g <- g + wd*p`, or decoupled, `p <- p - lr*wd*p`.

**Verified** by a run means that a recorded run of the named version is part of the
tests (`tests/golden`): every combination of options over 60 steps of a falling learning
rate, equal to 1e-12 of the distance moved in float64 and to 2e-5 in float32. What was
not run was taken from its source.

## One by one

{sections}
"""

DIALECT_SECTION = """\
### {facts.name}

    {signature}

{facts.framework}: `{facts.original}`. What may surprise: {facts.surprise}.

Source: {facts.source} ({facts.verified}).
"""

RECIPES_PAGE = """\
# Recipes

Each function of `rmsprop_jax.recipes` returns the optimizer of one published setting:
a dialect with its numbers, the learning rate over time, clipping before it, and weight
decay if the loss had an L2 penalty.

`python docs/write_pages.py` writes this page from the numbers that the functions use.
**Code**: the number is in the released code that is named. **Paper**: it is in the text
of the paper. **Reported**: others state it, and the original was not found. **Not
given**: no source states it, so that it is a required argument.

{sections}
"""

RECIPE_SECTION = """\
## {found.title}

    {signature}

Built on `{found.rule}`.{outside}

{table}
"""


def dialects_page() -> str:
    """Return the text of docs/dialects.md."""
    rows = [
        {**row, "verified": DIALECTS[row["dialect"]].verified}
        for row in dialects_command.rows()
    ]
    sections = [_dialect_section(DIALECTS[name]) for name in sorted(DIALECTS)]
    return DIALECTS_PAGE.format(
        table=markdown_table(rows), sections="\n".join(sections).rstrip()
    )


def recipes_page() -> str:
    """Return the text of docs/recipes.md."""
    sections = [_recipe_section(RECIPES[name]) for name in sorted(RECIPES)]
    return RECIPES_PAGE.format(sections="\n".join(sections).rstrip())


def _dialect_section(facts: Dialect) -> str:
    signature = written_signature(f"{facts.call}", facts.function)
    return DIALECT_SECTION.format(facts=facts, signature=signature)


def _recipe_section(found: Recipe) -> str:
    return RECIPE_SECTION.format(
        found=found,
        signature=recipes_command.signature(found),
        outside=f" Outside the optimizer: {found.outside}." * bool(found.outside),
        table=markdown_table(recipes_command.rows(found)),
    )


PAGES = {"dialects.md": dialects_page, "recipes.md": recipes_page}

if __name__ == "__main__":
    for name, page in PAGES.items():
        Path(__file__).with_name(name).write_text(page())
