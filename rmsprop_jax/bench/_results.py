"""The rows as tables, as JSON, and as a plot."""

import json
import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

from .._palette import COLORS
from .._text_tables import markdown_table
from ._measure import Row

PACKAGES = (
    *("rmsprop_jax", "jax", "jaxlib", "optax"),
    *("torch", "bitsandbytes", "keras", "flashoptim-jax"),
)
COLUMNS = (
    ("contender", "contender", "{}"),
    ("ms", "milliseconds", "{:.2f}"),
    ("ratio", "ratio", "{:.2f}"),
    ("GB/s", "gigabytes_per_second", "{:.1f}"),
    ("ns per leaf", "nanoseconds_per_leaf", "{:.0f}"),
    ("compile s", "compile_seconds", "{:.1f}"),
    ("state B", "state_bytes", "{:.2f}"),
    ("temporary B", "temporary_bytes", "{:,}"),
)


def machine() -> dict[str, Any]:
    """Describe the machine and the versions of the packages."""
    device = jax.devices()[0]
    return {
        "device": device.device_kind,
        "cores": os.cpu_count(),
        "platform": platform.platform(),
        "backend": device.platform,
        "processor": _processor(),
        "python": platform.python_version(),
        **{name: version for name in PACKAGES if (version := _version(name))},
    }


def _processor() -> str:
    """Return the model name of the processor, as exactly as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [x.split(": ", 1)[1] for x in lines if x.startswith("model name")]
    return names[0] if names else platform.processor()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def table(tree: str, rows: list[Row], bandwidths: dict[str, float]) -> Any:
    """Build the table of one tree, with the share of each bandwidth of the machine."""
    from rich.table import Table

    made = Table(title=tree, title_justify="left")
    found = [_cells(row, bandwidths) for row in rows]
    for head in found[0] if found else ():
        made.add_column(head, justify="left" if head == "contender" else "right")
    for cells in found:
        made.add_row(*cells.values())
    return made


def markdown(rows: list[Row], bandwidths: dict[str, float]) -> str:
    """Write the tables of all trees for a page, with the machine they are from."""
    about = ", ".join(f"{k} {v}" for k, v in machine().items())
    speeds = ", ".join(f"{k} {v:.1f} GB/s" for k, v in bandwidths.items())
    lines = [f"Bandwidths: {speeds}. Machine: {about}."]
    for tree in dict.fromkeys(row.tree for row in rows):
        found = [_cells(row, bandwidths) for row in rows if row.tree == tree]
        numbers = [head for head in found[0] if head != "contender"]
        lines += ["", f"**{tree}**", "", markdown_table(found, right=numbers)]
    return "\n".join(lines) + "\n"


def _cells(row: Row, bandwidths: dict[str, float]) -> dict[str, str]:
    """Write one row under its headings; a number that was not measured is empty."""
    cells = {}
    for head, field, form in COLUMNS:
        value = getattr(row, field)
        cells[head] = "" if value != value or value == -1 else form.format(value)
        if head == "ratio":
            cells["95%"] = f"{row.low:.2f}-{row.high:.2f}"
        if head == "GB/s":
            for name, speed in bandwidths.items():
                share = value / speed
                cells[f"of {name}"] = "" if share != share else f"{100 * share:.0f}%"
    return cells


def write_json(path: Path, results: dict[str, Any]) -> None:
    """Write results and machine as JSON; a number that was not measured is null."""
    found = jax.tree.map(
        lambda x: None if x != x else x, {"machine": machine(), **results}
    )
    path.write_text(json.dumps(found, indent=1, allow_nan=False) + "\n")


def plot(path: Path, rows: list[Row]) -> None:
    """Draw the ratios, with one panel per tree."""
    from matplotlib.figure import Figure

    trees = list(dict.fromkeys(row.tree for row in rows))
    most = max(sum(row.tree == tree for row in rows) for tree in trees)
    figure = Figure(figsize=(7, (0.6 + 0.24 * most) * len(trees)), layout="constrained")
    panels = figure.subplots(len(trees), squeeze=False, sharex=True)[:, 0]
    for axes, tree in zip(panels, trees, strict=True):
        shown = [row for row in rows if row.tree == tree][::-1]
        middle = [row.ratio for row in shown]
        reach = [[r.ratio - r.low for r in shown], [r.high - r.ratio for r in shown]]
        names = [row.contender for row in shown]
        axes.errorbar(middle, names, xerr=reach, fmt="o", color=COLORS[0], capsize=3)
        axes.axvline(1, color="0.6", linewidth=1)
        axes.set_title(tree, loc="left", fontsize=10)
        axes.tick_params(labelsize=8)
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter("{x:g}")
    panels[-1].set_xlabel("step time over that of optax.rmsprop (median, 95% interval)")
    figure.savefig(path, dpi=110)
