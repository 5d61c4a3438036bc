"""Draw docs/architecture.svg: the modules of the package, and who imports whom.

The arrows are read from the import statements; only the places are set here. A module
that reaches another through a third has no arrow of its own.

python docs/architecture.py
"""

import ast
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "rmsprop_jax"
WIDTH, HEIGHT, BOX, TALL = 760, 440, 118, 44
# Module: center of its box, what it is, helpers that are drawn as part of it.
BOXES = {
    "recipes": (300, 40, "published settings", ["_recipe_facts", "_recipes_cli"]),
    "dialects": (
        300,
        130,
        "16 frameworks",
        [
            "_clipping",
            "_complex",
            "_dialect_facts",
            "_dialect_compare",
            "_dialects_cli",
        ],
    ),
    "diagnostics": (
        90,
        130,
        "numbers of a state",
        ["_moments", "_quantiles", "_summary"],
    ),
    "_alias": (240, 220, "rmsprop", []),
    "sparse": (75, 310, "large tables", []),
    "_transform": (205, 310, "scale_by_rmsprop", []),
    "_momentum": (340, 310, "the buffer", []),
    "_master_weights": (475, 310, "16-bit parameters", ["_split"]),
    "interop": (610, 310, "checkpoints", []),
    "_rule": (205, 400, "the algebra", []),
    "_storage": (410, 400, "4, 2 or 1 byte", []),
    "sharding": (670, 130, "places of a state", []),
    "plots": (480, 40, "pictures", []),
    "testing": (480, 130, "the laws", []),
    "bench": (670, 40, "measurements", []),
}
# Without arrows: the tools of all, and programs, which nothing imports.
TOOLS = {"_cached", "_checks", "_dither", "_leaves", "_mesh", "_tables"}
PROGRAMS = {"bench", "testing", "plots"}


def imports():
    """Give the arrows: pairs of boxes, of which the first imports the second."""
    owner = {name: name for name in BOXES}
    owner |= {helper: box for box, (*_, own) in BOXES.items() for helper in own}
    arrows = set()
    for path in PACKAGE.rglob("*.py"):
        top, *inside = path.relative_to(PACKAGE).with_suffix("").parts
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.ImportFrom) or node.level != len(inside) + 1:
                continue
            names = [node.module] if node.module else [x.name for x in node.names]
            ends = {owner.get(name.split(".")[0]) for name in names}
            arrows |= {(owner.get(top), end) for end in ends}
    return {(a, b) for a, b in arrows if a and b and a != b and a not in PROGRAMS}


def reduced(arrows):
    """Leave out an arrow where there is a longer way."""

    def reach(a):
        below = {b for x, b in arrows if x == a}
        return below.union(*map(reach, below))

    return {
        (a, b)
        for a, b in arrows
        if not any(b in reach(c) for x, c in arrows if x == a and c != b)
    }


def arrow(a, b):
    x1, y1, x2, y2 = *BOXES[a][:2], *BOXES[b][:2]
    x1 += max(-30, min(30, (x2 - x1) / 4))
    x2 += max(-45, min(45, (x1 - x2) / 8))
    ends = f'x1="{x1:g}" y1="{y1 + TALL / 2:g}" x2="{x2:g}" y2="{y2 - TALL / 2 - 2:g}"'
    return f'<line {ends} stroke="#888" stroke-width="1.5" marker-end="url(#head)"/>'


def box(name):
    x, y, text, _ = BOXES[name]
    fill = {True: "#eee", False: "#dceaf7"}[name in PROGRAMS]
    return (
        f'<rect x="{x - BOX / 2:g}" y="{y - TALL / 2:g}" width="{BOX}" '
        f'height="{TALL}" rx="5" fill="{fill}" stroke="#888"/>'
        f'<text x="{x}" y="{y - 3}" font-weight="bold">{name}</text>'
        f'<text x="{x}" y="{y + 13}" font-size="11">{text}</text>'
    )


def draw():
    """Give the picture."""
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="13" text-anchor="middle" fill="#111">'
        '<defs><marker id="head" markerWidth="8" markerHeight="8" refX="7" refY="3" '
        'orient="auto"><path d="M0,0 L7,3 L0,6 z" fill="#888"/></marker></defs>'
    )
    arrows = [arrow(*pair) for pair in sorted(reduced(imports()))]
    return "\n".join([head, *arrows, *map(box, BOXES), "</svg>"]) + "\n"


if __name__ == "__main__":
    Path(__file__).with_suffix(".svg").write_text(draw())
