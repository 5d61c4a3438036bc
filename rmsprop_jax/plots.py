"""Plots of runs: paths, losses, quantiles over time, sweeps, and dialects compared.

Each function draws on the `matplotlib.axes.Axes` that it is given, or on new ones, and
returns them, so titles, limits and the like can be set afterwards. Lines take their
colors from `COLORS`, in that order: the palette of Okabe and Ito, which color-blind
readers can tell apart. The line of a run that becomes NaN or infinite ends at a cross,
and its label says that it diverged.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Bool, Float, Shaped

from ._arguments import Call
from ._palette import COLORS as COLORS
from ._palette import GRAY, line_style

try:
    import matplotlib.pyplot as plt
    from matplotlib.axes import Axes
    from matplotlib.colors import LogNorm, Normalize
    from matplotlib.patches import Rectangle
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"`rmsprop_jax.plots` needs {error.name}. Install it with `pip install "
        "'rmsprop_jax[plots]'` or `pip install matplotlib`.",
        name=error.name,
    ) from error

Numbers = ArrayLike | Sequence[Any]
Bounds = Any  # ((x from, x to), (y from, y to))


def path(
    loss: Callable[[Any, Any], Numbers],
    paths: Mapping[str, Numbers],
    *,
    bounds: Bounds | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the paths of optimizers over the contours of a loss of two parameters.

    Contour k of n encloses about (k/n)**2 of the area shown, so that the contours of a
    quadratic are evenly spaced.

    Args:
      loss: a function from two arrays of one shape to an array of that shape.
      paths: the positions of each optimizer by its name, arrays of shape (steps, 2).
      bounds: the area to show, ((x from, x to), (y from, y to)); None for an area that
        holds all paths.
      ax: the axes to draw on; None for a new figure.

    Returns:
      The axes. A path ends at a circle, or at a cross where it diverged.

    Raises:
      ValueError: for a path whose shape is not (steps, 2), or for paths without a
        finite point where no bounds are given.

    Example:
      >>> import numpy as np
      >>> points = np.array([[-5.0, -2.0], [-2.0, 0.5], [-0.5, 0.0]])
      >>> ax = path(lambda x, y: 0.1 * x**2 + 2 * y**2, {"RMSProp": points})
    """
    call, ax = Call("plots.path"), _axes(ax)
    drawn = {name: _array(call, "paths", name, x, 2) for name, x in paths.items()}
    for name, points in drawn.items():
        if points.shape[1] != 2:
            raise ValueError(
                f"{call.given(paths=...)}: {name!r} must have the shape (steps, 2); "
                f"got {points.shape}."
            )
    (left, right), (low, high) = _bounds(call, drawn) if bounds is None else bounds
    grid = np.meshgrid(np.linspace(left, right, 201), np.linspace(low, high, 201))
    height = np.asarray(loss(*grid), float)
    levels = np.unique(_quantiles(height, np.linspace(0, 1, 13)[1:-1] ** 2))
    if len(levels) > 1:
        ax.contour(*grid, height, levels, colors=GRAY, linewidths=0.8)
    for k, (name, points) in enumerate(drawn.items()):
        ok = np.all(np.isfinite(points), axis=1)
        x, y = np.where(ok, points.T, np.nan)
        style = line_style(k)
        ax.plot(x, y, label=_label(name, ok[None]), marker=".", markersize=4, **style)
        if ok.all():
            ax.plot(x[-1], y[-1], "o", color=style["color"])
        _cross_out(ax, x, y, ok, style["color"])
    ax.set(xlim=(left, right), ylim=(low, high), xlabel="x", ylabel="y")
    return _finish(ax, legend=bool(drawn), grid=False)


def losses(
    curves: Mapping[str, Numbers],
    *,
    steps: Numbers | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw loss curves: the median of the runs, and a band from lowest to highest.

    A run that becomes NaN or infinite counts as infinite from there on: it leaves the
    band, and the median ends when half of the runs have diverged.

    Args:
      curves: the losses of each curve by its name, >= 0, arrays of shape (marks,) or
        (runs, marks).
      steps: the step of each mark; None for 0, 1, ...
      ax: the axes to draw on; None for a new figure.

    Returns:
      The axes, with a logarithmic y axis.

    Raises:
      ValueError: for arrays of another rank or length, or losses below 0.

    Example:
      >>> import numpy as np
      >>> ax = losses({"SGD": np.array([[1.0, 0.5], [1.0, 0.4]])}, steps=[0, 100])
    """
    call, ax = Call("plots.losses"), _axes(ax)
    for k, (name, curve) in enumerate(curves.items()):
        runs = np.atleast_2d(_array(call, "curves", name, curve, 1, 2))
        x = _steps(call, steps, runs.shape[1])
        if (runs < 0).any():
            raise ValueError(
                f"{call.given(curves=...)}: {name!r} must not be negative, because the "
                f"axis is logarithmic; got {np.nanmin(runs):g}. Subtract the lowest "
                "loss that is possible."
            )
        style = line_style(k)
        ok = np.logical_and.accumulate(np.isfinite(runs), axis=1)
        median = np.median(np.where(ok, runs, np.inf), axis=0)
        median[np.isinf(median)] = np.nan
        ax.plot(x, median, label=_label(name, ok), **style)
        if len(runs) > 1:
            low = np.min(runs, axis=0, initial=np.inf, where=ok)
            high = np.max(runs, axis=0, initial=-np.inf, where=ok)
            _fill(ax, x, low, high, style["color"])
        for run, run_ok in zip(runs, ok, strict=True):
            _cross_out(ax, x, run, run_ok, style["color"])
    ax.set(xlabel="step", ylabel="loss", yscale="log")
    return _finish(ax, legend=bool(curves))


def bands(
    steps: Numbers,
    quantiles: Numbers,
    *,
    ax: Axes | None = None,
    label: str | None = None,
) -> Axes:
    """Draw quantiles over time: the middle one as a line, the others as nested bands.

    Args:
      steps: the step of each mark.
      quantiles: the quantiles at each mark in ascending order, an array of shape
        (marks, 2k+1), e.g. those of `diagnostics.effective_learning_rate`.
      ax: the axes to draw on, which may have other bands; None for a new figure.
      label: name of the line in the legend; None for no legend.

    Returns:
      The axes, with a logarithmic y axis.

    Raises:
      ValueError: for an even number of quantiles, or for arrays of another shape.

    Example:
      >>> ax = bands([0, 100], [[1e-4, 1e-3, 1e-2], [1e-3, 1e-2, 1e-1]], label="w")
    """
    call, ax = Call("plots.bands"), _axes(ax)
    values = _array(call, "quantiles", None, quantiles, 2)
    marks, width = values.shape
    if width % 2 == 0:
        raise ValueError(
            f"{call.given(quantiles=...)} must have an odd number of columns, of which "
            f"the middle one is the line; got {width}."
        )
    x = _steps(call, steps, marks)
    # Each call draws one line, so the lines that are there count the calls before.
    style = line_style(len(ax.lines))
    for k in range(width // 2):
        _fill(ax, x, values[:, k], values[:, width - 1 - k], style["color"])
    middle = values[:, width // 2]
    ok = np.isfinite(middle)
    line = np.where(ok, middle, np.nan)
    ax.plot(x, line, label=label and _label(label, ok[None]), **style)
    _cross_out(ax, x, middle, ok, style["color"])
    ax.set(xlabel="step", yscale="log")
    return _finish(ax, legend=label is not None)


def heat_map(
    values: Numbers,
    rows: tuple[str, Sequence[Any]],
    columns: tuple[str, Sequence[Any]],
    *,
    ax: Axes | None = None,
) -> Axes:
    """Draw a sweep over two hyperparameters and frame the lowest value.

    Every cell shows its value; cells that are NaN or infinite are gray. The color scale
    is logarithmic where all finite values are positive.

    Args:
      values: the result of each cell, e.g. a final loss, an array of shape
        (rows, columns).
      rows: name and values of the hyperparameter that changes from row to row.
      columns: name and values of the one that changes from column to column.
      ax: the axes to draw on; None for a new figure.

    Returns:
      The axes.

    Raises:
      ValueError: for values whose shape is not that of rows and columns.

    Example:
      >>> ax = heat_map([[0.3, 0.1]], ("eps", [1e-8]), ("learning rate", [0.1, 0.01]))
    """
    call, ax = Call("plots.heat_map"), _axes(ax)
    cells = _array(call, "values", None, values, 2)
    expected = (len(rows[1]), len(columns[1]))
    if cells.shape != expected:
        raise ValueError(
            f"{call.given(values=...)} must have the shape of rows and columns, "
            f"{expected}; got {cells.shape}."
        )
    ok = np.isfinite(cells)
    norm = LogNorm() if (cells[ok] > 0).all() else Normalize()
    shown = np.ma.masked_array(cells, ~ok)
    image = ax.imshow(shown, norm=norm, cmap="viridis_r", aspect="auto")
    ax.set_facecolor(GRAY)
    for (i, j), value in np.ndenumerate(cells):
        dark = ok[i, j] and norm(value) > 0.5
        color = "white" if dark else "black"
        ax.text(j, i, f"{value:.2g}", ha="center", va="center", color=color)
    if ok.any():
        i, j = np.unravel_index(np.argmin(np.where(ok, cells, np.inf)), cells.shape)
        corner, color = (j - 0.5, i - 0.5), COLORS[1]
        ax.add_patch(Rectangle(corner, 1, 1, fill=False, ec=color, lw=3, zorder=3))
        ax.figure.colorbar(image, ax=ax)
    ax.set_yticks(range(len(rows[1])), [_tick(x) for x in rows[1]])
    ax.set_xticks(range(len(columns[1])), [_tick(x) for x in columns[1]])
    ax.set(ylabel=rows[0], xlabel=columns[0])
    return ax


def divergence(
    runs: Mapping[str, Numbers], *, reference: str, ax: Axes | None = None
) -> Axes:
    """Draw the distance of each run from one of them, step by step.

        distance(t) = |p(t) - p_reference(t)|        Euclidean norm

    Args:
      runs: the parameters of each run by its name, e.g. that of a dialect, arrays of
        shape (steps, n).
      reference: name of the run to measure from.
      ax: the axes to draw on; None for a new figure.

    Returns:
      The axes, with a logarithmic y axis. A distance of 0 is not drawn; the label of a
      run that equals the reference at every step says "(the same)".

    Raises:
      ValueError: for a reference that is not among the runs, or for runs whose shapes
        differ.

    Example:
      >>> import numpy as np
      >>> torch, optax = np.zeros((3, 2)), np.full((3, 2), 0.1)
      >>> ax = divergence({"torch": torch, "optax": optax}, reference="torch")
    """
    call, ax = Call("plots.divergence"), _axes(ax)
    if reference not in runs:
        raise ValueError(
            f"{call.given(reference=...)} must be one of the runs, "
            f"{', '.join(map(repr, runs))}; got {reference!r}."
        )
    start = _array(call, "runs", reference, runs[reference], 2)
    others = [name for name in runs if name != reference]
    for k, name in enumerate(others):
        run = _array(call, "runs", name, runs[name], 2)
        if run.shape != start.shape:
            raise ValueError(
                f"{call.given(runs=...)}: {name!r} must have the shape of the "
                f"reference, {start.shape}; got {run.shape}."
            )
        with np.errstate(invalid="ignore", over="ignore"):
            distance = np.linalg.norm(run - start, axis=1)
        ok, style = np.isfinite(distance), line_style(k)
        same = " (the same)" if not distance.any() else ""
        line = np.where(ok & (distance > 0), distance, np.nan)
        x = np.arange(len(line))
        ax.plot(x, line, label=_label(name, ok[None]) + same, **style)
        _cross_out(ax, x, distance, ok, style["color"])
    ax.set(xlabel="step", ylabel=f"distance from {reference}", yscale="log")
    return _finish(ax, legend=bool(others))


def _axes(ax: Axes | None) -> Axes:
    return plt.subplots(layout="constrained")[1] if ax is None else ax


def _label(name: str, ok: Bool[np.ndarray, "runs marks"]) -> str:
    """Add to a name how many of its runs diverged."""
    diverged = int((~ok.all(axis=1)).sum())
    if not diverged:
        return name
    of = "" if len(ok) == 1 else f"{diverged} of {len(ok)} "
    return f"{name} ({of}diverged)"


def _fill(
    ax: Axes,
    x: Shaped[np.ndarray, " marks"],
    low: Float[np.ndarray, " marks"],
    high: Float[np.ndarray, " marks"],
    color: str,
) -> None:
    """Draw a band where both of its edges are finite."""
    shown = np.isfinite(low) & np.isfinite(high)
    if shown.any():
        ax.fill_between(x, low, high, where=shown, color=color, alpha=0.2, lw=0)


def _cross_out(
    ax: Axes,
    x: Shaped[np.ndarray, " marks"],
    y: Float[np.ndarray, " marks"],
    ok: Bool[np.ndarray, " marks"],
    color: str,
) -> None:
    """Put a cross on each finite point that is followed by one that is not."""
    last = np.flatnonzero(ok[:-1] & ~ok[1:])
    if last.size:  # an empty scatter sets limits around 0, which have no logarithm
        ax.scatter(x[last], y[last], marker="x", s=60, color=color, zorder=3)


def _finish(ax: Axes, *, legend: bool, grid: bool = True) -> Axes:
    ax.spines[["top", "right"]].set_visible(False)
    if grid:
        ax.grid(alpha=0.3)
    if legend:
        ax.legend(frameon=not grid, handlelength=3)
    return ax


def _array(
    call: Call, argument: str, name: str | None, value: Numbers, *ranks: int
) -> Float[np.ndarray, "..."]:
    """Convert to an array of floats of one of the ranks, with at least one element."""
    array = np.asarray(value, float)
    if array.ndim in ranks and array.size:
        return array
    which = "" if name is None else f": {name!r}"
    raise ValueError(
        f"{call.given(**{argument: ...})}{which} must be an array of rank "
        f"{' or '.join(map(str, ranks))} that is not empty; got shape {array.shape}."
    )


def _steps(
    call: Call, steps: Numbers | None, marks: int
) -> Shaped[np.ndarray, " marks"]:
    x = np.arange(marks) if steps is None else np.asarray(steps)
    if x.shape != (marks,):
        raise ValueError(
            f"{call.given(steps=...)} must have one step for each of {marks} marks; "
            f"got shape {x.shape}."
        )
    return x


def _bounds(call: Call, paths: Mapping[str, Float[np.ndarray, "steps 2"]]) -> Bounds:
    """Return an area that holds all finite points, and a tenth more on each side."""
    points = [x[np.isfinite(x).all(axis=1)] for x in paths.values()]
    together = np.concatenate([np.empty((0, 2)), *points])
    if not len(together):
        raise ValueError(
            f"{call.given(paths=...)} must have a finite point, or the area must be "
            "given: `bounds=((x from, x to), (y from, y to))`."
        )
    low, high = together.min(axis=0), together.max(axis=0)
    margin = np.where(high > low, (high - low) / 10, 1.0)
    (left, bottom), (right, top) = low - margin, high + margin
    return (left, right), (bottom, top)


def _quantiles(height: Float[np.ndarray, "..."], shares: Any) -> Any:
    finite = height[np.isfinite(height)]
    return np.quantile(finite, shares) if finite.size else finite


def _tick(value: Any) -> str:
    number = isinstance(value, int | float | np.number)
    return f"{value:g}" if number and not isinstance(value, bool) else str(value)
