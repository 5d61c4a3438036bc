"""Write the results of `storage_training.py` as a page and as a figure."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from storage_formats import FORMATS, REFERENCE

from rmsprop_jax._palette import COLORS
from rmsprop_jax._text_tables import markdown_table

OTHERS = [name for name in FORMATS if name != REFERENCE]
LOSSES = {"train": "Training loss", "evaluation": "Evaluation loss"}
LOOKS = {
    "bfloat16": (COLORS[0], "s"),
    "uint8": (COLORS[1], "D"),
    "bfloat16 nearest": (COLORS[5], "v"),
    "uint8 nearest": (COLORS[4], "P"),
    "dynamic block 256": (COLORS[2], "^"),
    "sqrt block 32": (COLORS[3], "X"),
}
Results = dict[str, Any]


class Shift(NamedTuple):
    """Mean of a loss minus that of float32, in standard deviations of float32.

    Attributes:
      value: the difference.
      error: its standard error, from the differences per seed.
    """

    value: float
    error: float


class Line(NamedTuple):
    """One setting of one task: the loss of float32 and the shifts of the others."""

    task: str
    decay: float
    eps: float
    mean: float
    deviation: float
    shifts: dict[str, Shift]


def lines(results: Results, loss: str) -> Iterator[Line]:
    """Compare the formats in every setting."""
    rows = results["training"]
    for row in rows:
        if row["format"] != REFERENCE:
            continue
        setting = {k: row[k] for k in ("task", "decay", "eps")}
        reference = np.array(row[loss])
        deviation = float(reference.std(ddof=1))
        shifts = {}
        for other in rows:
            if setting.items() <= other.items() and other["format"] != REFERENCE:
                difference = (np.array(other[loss]) - reference) / deviation
                error = difference.std(ddof=1) / np.sqrt(len(difference))
                shifts[other["format"]] = Shift(float(difference.mean()), float(error))
        yield Line(**setting, mean=reference.mean(), deviation=deviation, shifts=shifts)


def page(results: Results, picture: str) -> str:
    """Write the page."""
    parts = [
        "# Training with stored second moments",
        "Written by `python benchmarks/storage_training.py`.",
        _about(results),
        f"**Finding.** {_finding(results)}",
        f"![Shifts of the loss, and lengths of steps]({picture})",
    ]
    for loss, title in LOSSES.items():
        parts += [f"## {title}", _loss_note(loss), _loss_table(results, loss)]
    parts += ["## Length of a step", _STEP_NOTE, _step_table(results)]
    return "\n\n".join(parts) + "\n"


_STEP_NOTE = (
    "The 99.9th percentile of |u| / |u exact| over 32,768 coordinates and the last 100 "
    "of 500 steps, and the maximum in brackets. Gradients are normal with a median "
    "size of 1e-4; *spread* is the standard deviation, within a block, of the base-10 "
    "logarithm of their size."
)


def _loss_note(loss: str) -> str:
    over = {
        "train": "Mean over the last tenth of the steps",
        "evaluation": "On held-out data after the last step",
    }[loss]
    return (
        f"{over}, in nats. float32: mean and standard deviation over seeds. Other "
        "formats: mean minus float32's mean, in units of that deviation, and the "
        "standard error of the paired difference."
    )


def _about(results: Results) -> str:
    tasks = "\n".join(
        f"- {name}: {task['about']}. {task['parameters']:,} parameters, "
        f"{task['seeds']} seeds, {task['steps']:,} steps; learning rate "
        + " and ".join(f"{rate:g} at decay {d}" for d, rate in task["rates"].items())
        + ", cosine to 0."
        for name, task in results["tasks"].items()
    )
    machine = results["machine"]
    return (
        "Every format starts from the same parameters and sees the same batches.\n\n"
        f"{tasks}\n\n"
        "The blockwise formats are simulations of those of bitsandbytes (unsigned "
        "dynamic map, tensors under 4,096 elements in float32) and FlashOptim (root, "
        "float16 scale), rounded to nearest as those are. *uint8 nearest* is a "
        "control: our uint8 without stochastic rounding. "
        f"JAX {machine['jax']}, Python {machine['python']}, {machine['device']}; "
        f"{machine['cpu_minutes']:.0f} minutes of one core."
    )


def _finding(results: Results) -> str:
    shifts = {
        name: max(
            (line.shifts[name].value for k in LOSSES for line in lines(results, k)),
            key=abs,
        )
        for name in OTHERS
    }
    lengths = {
        name: max(
            row["99.9"]
            for row in results["step_length"]
            if row["format"] == name and row["decay"] == 0.99
        )
        for name in OTHERS
    }
    beyond = [
        f"eps {row['eps']:.0e} with spread {row['spread']:g} ({row['99.9']:.2f})"
        for row in results["step_length"]
        if (row["format"], row["decay"]) == ("uint8", 0.99) and row["99.9"] >= 2
    ]
    return (
        "Largest deviation of a mean loss from float32's, in standard deviations: "
        + ", ".join(f"{name} {value:+.2f}" for name, value in shifts.items())
        + ". Largest 99.9th percentile of |u| / |u exact| at decay 0.99: "
        + ", ".join(f"{name} {value:.3g}" for name, value in lengths.items())
        + ". The aim was less than 2 for uint8, which is reached"
        + (f" except at {', '.join(beyond)}." if beyond else ".")
    )


def _loss_table(results: Results, loss: str) -> str:
    return markdown_table(
        [
            {
                "task": line.task,
                "decay": f"{line.decay:g}",
                "eps": f"{line.eps:.0e}",
                REFERENCE: f"{line.mean:.4f} ± {line.deviation:.4f}",
                **{
                    k: f"{v.value:+.2f} ± {v.error:.2f}" for k, v in line.shifts.items()
                },
            }
            for line in lines(results, loss)
        ]
    )


def _step_table(results: Results) -> str:
    table: dict[tuple[float, ...], dict[str, str]] = {}
    for row in results["step_length"]:
        if row["format"] == REFERENCE:
            continue
        key = row["decay"], row["eps"], row["spread"]
        names = {"decay": f"{key[0]:g}", "eps": f"{key[1]:.0e}", "spread": f"{key[2]}"}
        cell = f"{row['99.9']:.3f} ({row['max']:.2f})"
        table.setdefault(key, names)[row["format"]] = cell
    return markdown_table(list(table.values()))


def draw_figure(results: Results, path: Path) -> None:
    """Draw shifts of both losses and lengths of steps."""
    figure = Figure(figsize=(12, 5.2), layout="constrained")
    left, middle, right = figure.subplots(1, 3, width_ratios=[1, 1, 0.8])
    left.sharex(middle)
    for axes, (loss, title) in zip((left, middle), LOSSES.items(), strict=True):
        _draw_shifts(axes, list(lines(results, loss)))
        axes.set_title(title)
    left.set_ylabel("task, decay, eps")
    middle.tick_params(labelleft=False)
    _draw_lengths(right, results)
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=6, frameon=False)
    figure.savefig(path, dpi=110)


def _draw_shifts(axes: Any, settings: list[Line]) -> None:
    rows = np.arange(len(settings))[::-1]
    axes.axvspan(-1, 1, color="0.92")
    axes.axvline(0, color="0.5", linewidth=1)
    for k, name in enumerate(OTHERS):
        color, marker = LOOKS[name]
        shifts = [line.shifts[name] for line in settings]
        axes.errorbar(
            [shift.value for shift in shifts],
            rows + 0.12 * (2.5 - k),
            xerr=[shift.error for shift in shifts],
            color=color,
            marker=marker,
            markersize=4.5,
            linewidth=1,
            linestyle="none",
            label=name,
        )
    names = [f"{x.task}  {x.decay:g}  {x.eps:.0e}" for x in settings]
    axes.set_yticks(rows, names, family="monospace", fontsize=8)
    axes.set_xlabel("mean minus float32's,\nin standard deviations of float32")
    axes.grid(axis="x", color="0.85", linewidth=0.5)


def _draw_lengths(axes: Any, results: Results) -> None:
    decay, eps = 0.99, 1e-14
    spreads = sorted({row["spread"] for row in results["step_length"]})
    for name in OTHERS:
        color, marker = LOOKS[name]
        values = [
            row["99.9"]
            for row in results["step_length"]
            if (row["format"], row["decay"], row["eps"]) == (name, decay, eps)
        ]
        axes.plot(range(len(spreads)), values, color=color, marker=marker)
    axes.axhline(2, color="0.5", linestyle=":", linewidth=1)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_xticks(range(len(spreads)), [f"{spread:g}" for spread in spreads])
    axes.set_xlabel("spread inside a block (decades)")
    axes.set_ylabel("99.9th percentile of |u| / |u exact|")
    axes.set_title(f"Steps, decay {decay:g}, eps {eps:.0e}")
    axes.grid(axis="y", color="0.85", linewidth=0.5)
