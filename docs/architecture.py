"""Draw docs/architecture.svg: the modules of the package, and who imports whom.

The arrows are read from the import statements; only the places are set here. A module
that reaches another through a third has no arrow of its own.

python docs/architecture.py
"""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "tests"))
import structure  # noqa: E402

PACKAGE = ROOT / "rmsprop_jax"
WIDTH, HEIGHT, BOX, TALL = 760, 510, 144, 44
# Room: center of its box, and what it is. The programs are gray and have no arrows.
BOXES = {
    "bench": (95, 35, "measurements"),
    "testing": (285, 35, "the laws"),
    "plots": (475, 35, "pictures"),
    "demo": (665, 35, "the main job"),
    "recipes": (380, 120, "published settings"),
    "diagnostics": (95, 205, "numbers of a state"),
    "dialects": (380, 205, "one per framework"),
    "interop": (555, 120, "runs in and out"),
    "sharding": (665, 205, "where state is"),
    "_rmsprop": (300, 290, "one chain"),
    "_scale_by_rmsprop": (235, 375, "tree x rule x storage"),
    "_momentum": (395, 375, "the buffer"),
    "_master_weights": (555, 375, "16-bit parameters"),
    "sparse": (77, 375, "large tables"),
    "_rule": (215, 470, "the algebra"),
    "_storage": (440, 470, "4, 2 or 1 byte"),
}
TOOLS = {
    "_arguments",
    "_boundary",
    "_dither",
    "_number_lines",
    "_palette",
    "_placement",
    "_precision",
    "_text_tables",
    "_trees",
    "__main__",
}


def imports():
    """Return the arrows: pairs of boxes, of which the first imports the second."""
    found = structure.rooms(structure.imports(PACKAGE))
    pairs = {(a, b) for a, others in found.items() for b in others}
    drawn = set(BOXES) - set(structure.ENDS)
    return {(a, b) for a, b in pairs if {a, b} <= drawn}


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
    x, y, text = BOXES[name]
    fill = {True: "#eee", False: "#dceaf7"}[name in structure.ENDS]
    return (
        f'<rect x="{x - BOX / 2:g}" y="{y - TALL / 2:g}" width="{BOX}" '
        f'height="{TALL}" rx="5" fill="{fill}" stroke="#888"/>'
        f'<text x="{x}" y="{y - 3}" font-weight="bold">{name}</text>'
        f'<text x="{x}" y="{y + 13}" font-size="11">{text}</text>'
    )


def draw():
    """Return the picture."""
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
