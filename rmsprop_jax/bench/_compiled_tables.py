"""Rows of compiled programs as tables of 80 columns, as Markdown, and as a plot."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .._palette import COLORS
from .._text_tables import markdown_table
from ._compiled_steps import CompiledRow
from ._targets import TARGETS, Gpu

Columns = dict[str, Callable[[CompiledRow], str]]


def _number(form: str, value: float) -> str:
    return "" if math.isnan(value) else form.format(value)


def _bytes(count: int | float) -> str:
    """Write a number of bytes in four places."""
    power = min(max(int(math.log10(max(count, 1))) // 3, 0), 3)
    count /= 1000**power
    return f"{count:.{int(0 < power and count < 10)}f}{' kMG'[power]}".strip()


SHARED: Columns = {
    "contender": lambda row: row.contender,
    "bytes": lambda row: f"{row.bytes_moved:.1f}",
    "limit": lambda row: f"{row.limit:g}",
    "kernels": lambda row: str(row.kernels),
    "temp": lambda row: _bytes(row.temporary_bytes),
}
ON_GPU: Columns = {
    **SHARED,
    "PTX": lambda row: _number("{:.1f}", row.ptx),
    "code": lambda row: _number("{:.1f}", row.machine),
    "regs": lambda row: f"{row.registers}{'!' if row.spills else ''}",
    "compile": lambda row: f"{row.compile_seconds:.1f} s",
}
ON_TPU: Columns = {
    **SHARED,
    "compile": lambda row: f"{row.compile_seconds:.1f} s",
}
_ROOFLINE: Columns = {
    "contender": lambda row: row.contender,
    "by bytes": lambda row: f"{row.bounds.by_bytes:.4g}",
    "by instructions": lambda row: _number("{:.4g}", row.bounds.by_instructions),
    "higher": lambda row: row.bounds.higher,
    "share": lambda row: f"{100 * row.bounds.share:.0f}%",
}


def roofline_title(target: str) -> str:
    """Say what the numbers of a roofline are, and what they are not."""
    gpu = isinstance(TARGETS[target].device, Gpu)
    unit = "picoseconds" if gpu else "estimated cycles"
    return f"Bounds from the compiled program, not times: {unit} per parameter"


def _bounds(target: str) -> Columns:
    """Return the columns of a roofline; the compiler for TPU estimates all at once."""
    if isinstance(TARGETS[target].device, Gpu):
        return _ROOFLINE
    names = {"by instructions": "estimate"}
    kept = {k: v for k, v in _ROOFLINE.items() if k != "higher"}
    return {names.get(name, name): write for name, write in kept.items()}


def columns(target: str) -> Columns:
    """Return the columns of what the programs for a target have."""
    return ON_GPU if isinstance(TARGETS[target].device, Gpu) else ON_TPU


def cells(rows: list[CompiledRow], of: Columns) -> list[dict[str, str]]:
    return [{head: write(row) for head, write in of.items()} for row in rows]


def collectives(rows: list[CompiledRow]) -> list[dict[str, str]]:
    """Return a line for each kind of collective of each contender."""
    return [
        {
            "contender": row.contender,
            "collective": kind,
            "number": str(count),
            "bytes": _bytes(total),
            "per parameter": f"{total / devices / row.parameters:.2f}",
        }
        for row in rows
        for devices in [TARGETS[row.target].count]
        for kind, (count, total) in sorted(row.collectives.items())
    ]


def text_table(found: list[dict[str, str]]) -> str:
    """Align the first column to the left, and numbers to the right."""
    lines = [list(found[0]), *(list(row.values()) for row in found)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        " ".join([first.ljust(widths[0]), *map(str.rjust, rest, widths[1:])]).rstrip()
        for first, *rest in lines
    )


def tables(rows: list[CompiledRow]) -> list[tuple[str, list[dict[str, str]]]]:
    """Return titles and tables: the programs of each tree, bounds and collectives."""
    found = []
    for target, tree in dict.fromkeys((row.target, row.tree) for row in rows):
        chosen = [row for row in rows if (row.target, row.tree) == (target, tree)]
        name = TARGETS[target].device.name
        found.append((f"{tree}, {name}", cells(chosen, columns(target))))
        if TARGETS[target].count == 1:
            found.append((roofline_title(target), cells(chosen, _bounds(target))))
        elif sent := collectives(chosen):
            found.append(("Collectives: bytes of the whole arrays", sent))
        else:
            found[-1] = found[-1][0] + ": no collectives", found[-1][1]
    return found


def text(rows: list[CompiledRow]) -> str:
    """Write all tables for a terminal of 80 columns."""
    return "\n\n".join(f"{title}\n{text_table(found)}" for title, found in tables(rows))


def markdown(rows: list[CompiledRow]) -> str:
    """Write all tables for a page."""
    parts = []
    for title, found in tables(rows):
        numbers = [head for head in found[0] if head not in ("contender", "collective")]
        parts.append(f"**{title}**\n\n{markdown_table(found, right=numbers)}\n")
    return "\n".join(parts)


def plot(path: Path, rows: list[CompiledRow]) -> None:
    """Draw the two bounds of each contender, with one panel per tree and target."""
    from matplotlib.figure import Figure

    panels = list(dict.fromkeys((row.target, row.tree) for row in rows))
    most = max(sum((row.target, row.tree) == x for row in rows) for x in panels)
    size = (7, (0.9 + 0.24 * most) * len(panels))
    figure = Figure(figsize=size, layout="constrained")
    for axes, panel in zip(
        figure.subplots(len(panels), squeeze=False)[:, 0], panels, strict=True
    ):
        _draw(axes, [row for row in rows if (row.target, row.tree) == panel][::-1])
    figure.savefig(path, dpi=110)


def _draw(axes: Any, shown: list[CompiledRow]) -> None:
    names, target = [row.contender for row in shown], shown[0].target
    gpu = isinstance(TARGETS[target].device, Gpu)
    name = "by instructions" if gpu else "estimate of the compiler"
    series = {
        "limit of the bytes": [
            x.limit / x.bytes_moved * x.bounds.by_bytes for x in shown
        ],
        "by bytes": [x.bounds.by_bytes for x in shown],
        name: [x.bounds.by_instructions for x in shown],
    }
    marks = zip(series.items(), ("|", "o", "D"), ("0.3", *COLORS), strict=False)
    for (label, values), mark, color in marks:
        axes.plot(
            values, names, mark, color=color, label=label, ms=11 if mark == "|" else 5
        )
    axes.set_xlim(left=0)
    axes.set_title(
        f"{shown[0].tree}, {TARGETS[target].device.name}", loc="left", size=10
    )
    axes.set_xlabel(roofline_title(target), size=8)
    axes.tick_params(labelsize=8)
    axes.legend(fontsize=8)
