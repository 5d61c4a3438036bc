"""Pictures of runs: paths, losses, bands over time, sweeps, dialects compared.

Each function draws on the `matplotlib.axes.Axes` that it is given, or on new ones, and
returns them: what else there is to set is set there. Colors are those of Okabe and Ito,
which the color-blind tell apart, always in one order. A run that becomes NaN or
infinite ends at a cross, and its label says so.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Bool, Float, Shaped

try:
    import matplotlib.pyplot as plt
    from matplotlib.axes import Axes
    from matplotlib.colors import LogNorm, Normalize
    from matplotlib.patches import Rectangle
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"`rmsprop_jax.plots` needs {error.name}: `pip install matplotlib`.",
        name=error.name,
    ) from error

_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_DASHES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1, 1, 1)), (0, (1, 1)))
_GRAY = "#BBBBBB"

Numbers = ArrayLike | Sequence[Any]
Bounds = Any  # ((x from, x to), (y from, y to))


def path(
    loss: Callable[[Any, Any], Numbers],
    paths: Mapping[str, Numbers],
    *,
    bounds: Bounds | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the ways of optimizers over the contours of a loss of two parameters.

    Of the area that is shown, contour k of n encloses about (k/n)**2: those of a
    quadratic are evenly spaced.

    Args:
      loss: a function of two arrays of one shape, to an array of that shape.
      paths: name of an optimizer -> where it was, an array (steps, 2).
      bounds: what to show, ((x from, x to), (y from, y to)); None for all of the paths.
      ax: where to draw; None for a new figure.

    Returns:
      The axes. A circle is where a path ends, a cross where it is lost.

    Raises:
      ValueError: for a path that is not (steps, 2), or no finite point and no bounds.

    Example:
      >>> import numpy as np
      >>> way = np.array([[-5.0, -2.0], [-2.0, 0.5], [-0.5, 0.0]])
      >>> ax = path(lambda x, y: 0.1 * x**2 + 2 * y**2, {"RMSProp": way})
    """
    call, ax = "plots.path", _axes(ax)
    drawn = {name: _array(call, "paths", name, way, 2) for name, way in paths.items()}
    for name, way in drawn.items():
        if way.shape[1] != 2:
            raise ValueError(
                f"`{call}(paths=...)`: {name!r} must be an array (steps, 2); got shape "
                f"{way.shape}."
            )
    (left, right), (low, high) = _bounds(call, drawn) if bounds is None else bounds
    x, y = np.meshgrid(np.linspace(left, right, 201), np.linspace(low, high, 201))
    height = np.asarray(loss(x, y), float)
    levels = np.unique(_quantiles(height, np.linspace(0, 1, 13)[1:-1] ** 2))
    if len(levels) > 1:
        ax.contour(x, y, height, levels, colors=_GRAY, linewidths=0.8)
    for k, (name, way) in enumerate(drawn.items()):
        ok = np.all(np.isfinite(way), axis=1)
        way = np.where(ok[:, None], way, np.nan)
        style = _style(k)
        ax.plot(*way.T, label=_label(name, ok[None]), marker=".", markersize=4, **style)
        if ok.all():
            ax.plot(*way[-1:].T, "o", color=style["color"])
        _cross_out(ax, way[:, 0], way[:, 1], ok, style["color"])
    ax.set(xlim=(left, right), ylim=(low, high), xlabel="x", ylabel="y")
    return _finish(ax, legend=bool(drawn), grid=False)


def losses(
    curves: Mapping[str, Numbers],
    *,
    steps: Numbers | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw loss curves: the median of the runs, and a band from lowest to highest.

    A run that is lost counts as infinite from there on: it leaves the band, and the
    median ends when half of the runs are lost.

    Args:
      curves: name -> losses, >= 0, an array (marks,) or (runs, marks).
      steps: the step of each mark; None for 0, 1, ...
      ax: where to draw; None for a new figure.

    Returns:
      The axes, with a logarithmic loss.

    Raises:
      ValueError: for arrays of another rank or length, or losses below 0.

    Example:
      >>> import numpy as np
      >>> ax = losses({"SGD": np.array([[1.0, 0.5], [1.0, 0.4]])}, steps=[0, 100])
    """
    call, ax = "plots.losses", _axes(ax)
    for k, (name, curve) in enumerate(curves.items()):
        runs = np.atleast_2d(_array(call, "curves", name, curve, 1, 2))
        x = _steps(call, steps, runs.shape[1])
        if (runs < 0).any():
            raise ValueError(
                f"`{call}(curves=...)`: {name!r} must not be negative, for the axis is "
                f"logarithmic; got {np.nanmin(runs):g}. Subtract the least loss there "
                "can be."
            )
        style = _style(k)
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
      quantiles: an array (marks, 2k+1), the quantiles of each mark in ascending order,
        such as `diagnostics.effective_learning_rate` gives.
      ax: where to draw, also beside other bands; None for a new figure.
      label: name of the line in the legend; None for none.

    Returns:
      The axes, with a logarithmic quantity.

    Raises:
      ValueError: for an even number of quantiles, or other shapes.

    Example:
      >>> ax = bands([0, 100], [[1e-4, 1e-3, 1e-2], [1e-3, 1e-2, 1e-1]], label="w")
    """
    call, ax = "plots.bands", _axes(ax)
    values = _array(call, "quantiles", None, quantiles, 2)
    marks, width = values.shape
    if width % 2 == 0:
        raise ValueError(
            f"`{call}(quantiles=...)` must have an odd number of columns, the middle "
            f"one for the line; got {width}."
        )
    x = _steps(call, steps, marks)
    # Every band before this one has left a line, so each gets a color of its own.
    style = _style(len(ax.lines))
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
    """Draw a sweep over two hyperparameters; lower is better, and the best is framed.

    Every cell shows its value; those that are NaN or infinite are gray. Colors are
    logarithmic where all the others are positive.

    Args:
      values: the result of each cell, an array (rows, columns), such as final losses.
      rows: name and values of the hyperparameter that runs down.
      columns: name and values of the one that runs across.
      ax: where to draw; None for a new figure.

    Returns:
      The axes.

    Raises:
      ValueError: for values of another shape than rows and columns.

    Example:
      >>> ax = heat_map([[0.3, 0.1]], ("eps", [1e-8]), ("learning rate", [0.1, 0.01]))
    """
    call, ax = "plots.heat_map", _axes(ax)
    cells = _array(call, "values", None, values, 2)
    expected = (len(rows[1]), len(columns[1]))
    if cells.shape != expected:
        raise ValueError(
            f"`{call}(values=...)` must have the shape of rows and columns, "
            f"{expected}; got {cells.shape}."
        )
    ok = np.isfinite(cells)
    norm = LogNorm() if (cells[ok] > 0).all() else Normalize()
    shown = np.ma.masked_array(cells, ~ok)
    image = ax.imshow(shown, norm=norm, cmap="viridis_r", aspect="auto")
    ax.set_facecolor(_GRAY)
    for (i, j), value in np.ndenumerate(cells):
        dark = ok[i, j] and norm(value) > 0.5
        ax.text(
            *(j, i, f"{value:.2g}"), ha="center", va="center", color="kw"[bool(dark)]
        )
    if ok.any():
        i, j = np.unravel_index(np.argmin(np.where(ok, cells, np.inf)), cells.shape)
        frame = Rectangle(
            (j - 0.5, i - 0.5), 1, 1, fill=False, ec="#D55E00", lw=3, zorder=3
        )
        ax.add_patch(frame)
        ax.figure.colorbar(image, ax=ax)
    ax.set_yticks(range(len(rows[1])), [_tick(x) for x in rows[1]])
    ax.set_xticks(range(len(columns[1])), [_tick(x) for x in columns[1]])
    ax.set(ylabel=rows[0], xlabel=columns[0])
    return ax


def divergence(
    runs: Mapping[str, Numbers], *, reference: str, ax: Axes | None = None
) -> Axes:
    """Draw how far each run is from one of them, step by step.

        distance(t) = |p(t) - p_reference(t)|        Euclidean

    Args:
      runs: name, of a dialect for example -> parameters, an array (steps, n).
      reference: name of the run to measure from.
      ax: where to draw; None for a new figure.

    Returns:
      The axes, with a logarithmic distance. One of 0 is not drawn, and the label
      of a run that never leaves the reference says so.

    Raises:
      ValueError: for a reference that is not among the runs, or runs of other shapes.

    Example:
      >>> import numpy as np
      >>> torch, optax = np.zeros((3, 2)), np.full((3, 2), 0.1)
      >>> ax = divergence({"torch": torch, "optax": optax}, reference="torch")
    """
    call, ax = "plots.divergence", _axes(ax)
    if reference not in runs:
        raise ValueError(
            f"`{call}(reference=...)` must be one of the runs, "
            f"{', '.join(map(repr, runs))}; got {reference!r}."
        )
    start = _array(call, "runs", reference, runs[reference], 2)
    others = [name for name in runs if name != reference]
    for k, name in enumerate(others):
        run = _array(call, "runs", name, runs[name], 2)
        if run.shape != start.shape:
            raise ValueError(
                f"`{call}(runs=...)`: {name!r} must have the shape of the reference, "
                f"{start.shape}; got {run.shape}."
            )
        with np.errstate(invalid="ignore", over="ignore"):
            distance = np.linalg.norm(run - start, axis=1)
        ok, style = np.isfinite(distance), _style(k)
        same = " (the same)" if not distance.any() else ""
        line = np.where(ok & (distance > 0), distance, np.nan)
        x = np.arange(len(line))
        ax.plot(x, line, label=_label(name, ok[None]) + same, **style)
        _cross_out(ax, x, distance, ok, style["color"])
    ax.set(xlabel="step", ylabel=f"distance from {reference}", yscale="log")
    return _finish(ax, legend=bool(others))


def _axes(ax: Axes | None) -> Axes:
    return plt.subplots(layout="constrained")[1] if ax is None else ax


def _style(k: int) -> dict[str, Any]:
    k %= len(_COLORS)
    return {"color": _COLORS[k], "linestyle": _DASHES[k], "linewidth": 1.8}


def _label(name: str, ok: Bool[np.ndarray, "runs marks"]) -> str:
    """Say how many runs were lost."""
    lost = int((~ok.all(axis=1)).sum())
    if not lost:
        return name
    of = "" if len(ok) == 1 else f"{lost} of {len(ok)} "
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
    """Put a cross on each point after which a run is lost."""
    last = np.flatnonzero(ok[:-1] & ~ok[1:])
    if last.size:  # no points would leave limits around 0, which have no logarithm
        ax.scatter(x[last], y[last], marker="x", s=60, color=color, zorder=3)


def _finish(ax: Axes, *, legend: bool, grid: bool = True) -> Axes:
    ax.spines[["top", "right"]].set_visible(False)
    if grid:
        ax.grid(alpha=0.3)
    if legend:
        ax.legend(frameon=not grid, handlelength=3)
    return ax


def _array(
    call: str, argument: str, name: str | None, value: Numbers, *ranks: int
) -> Float[np.ndarray, "..."]:
    """Read an array of floats of one of the ranks, with at least one element."""
    array = np.asarray(value, float)
    if array.ndim in ranks and array.size:
        return array
    which = "" if name is None else f": {name!r}"
    raise ValueError(
        f"`{call}({argument}=...)`{which} must be an array of rank "
        f"{' or '.join(map(str, ranks))} that is not empty; got shape {array.shape}."
    )


def _steps(
    call: str, steps: Numbers | None, marks: int
) -> Shaped[np.ndarray, " marks"]:
    x = np.arange(marks) if steps is None else np.asarray(steps)
    if x.shape != (marks,):
        raise ValueError(
            f"`{call}(steps=...)` must have one step for each of {marks} marks; got "
            f"shape {x.shape}."
        )
    return x


def _bounds(call: str, paths: Mapping[str, Float[np.ndarray, "steps 2"]]) -> Bounds:
    """Give what holds all finite points, and a tenth more on each side."""
    points = [way[np.isfinite(way).all(axis=1)] for way in paths.values()]
    together = np.concatenate([np.empty((0, 2)), *points])
    if not len(together):
        raise ValueError(
            f"`{call}(paths=...)` has no finite point; say what to show with "
            "`bounds=((x from, x to), (y from, y to))`."
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
