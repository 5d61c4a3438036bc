"""The look of the lines in every picture.

The colors are those of Okabe and Ito, which color-blind readers can tell apart. Each
has a dash pattern of its own, so that a print in gray is readable too.
"""

from typing import Any

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1, 1, 1)), (0, (1, 1)))
GRAY = "#BBBBBB"  # of what lies behind the data


def line_style(k: int) -> dict[str, Any]:
    """Return the arguments of `Axes.plot` for line number `k`, counted from 0."""
    k %= len(COLORS)
    return {"color": COLORS[k], "linestyle": DASHES[k], "linewidth": 1.8}
