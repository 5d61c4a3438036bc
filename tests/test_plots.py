"""What the plots draw: lines, labels, ends of diverged runs; and errors."""

import matplotlib

matplotlib.use("Agg")

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.collections import PathCollection
from matplotlib.colors import LogNorm, Normalize

from rmsprop_jax import diagnostics, plots, rmsprop

STEPS = np.arange(0, 50, 10)
NAN, INF = np.nan, np.inf


@pytest.fixture(autouse=True)
def no_other_figures():
    plt.close("all")  # those of the tests before, in other files
    yield
    plt.close("all")


def bowl(x, y):
    return 0.1 * x**2 + 2 * y**2


def way(last=(0.0, 0.0)):
    return np.array([[-5.0, -2.0], [-3.0, 1.0], [-1.0, -0.5], last])


CALLS = {
    "path": lambda ax=None: plots.path(bowl, {"a": way(), "b": way() / 2}, ax=ax),
    "losses": lambda ax=None: plots.losses(
        {"a": np.ones((3, 5)), "b": np.ones(5)}, steps=STEPS, ax=ax
    ),
    "bands": lambda ax=None: plots.bands(STEPS, np.ones((5, 5)), label="a", ax=ax),
    "heat_map": lambda ax=None: plots.heat_map(
        np.ones((2, 3)), ("eps", [1e-8, 1e-3]), ("rate", [1, 2, 3]), ax=ax
    ),
    "divergence": lambda ax=None: plots.divergence(
        {"r": np.zeros((4, 2)), "a": np.ones((4, 2))}, reference="r", ax=ax
    ),
}


def labels(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def crosses(ax):
    """Return the points that are crossed out."""
    scattered = [c for c in ax.collections if isinstance(c, PathCollection)]
    return np.concatenate([c.get_offsets() for c in scattered])


@pytest.mark.parametrize("name", CALLS)
def test_drawn_where_asked_or_on_new_axes(name):
    before = dict(plt.rcParams)
    _, (left, right) = plt.subplots(1, 2)
    assert CALLS[name](right) is right
    assert not left.has_data() and right.has_data()
    new = CALLS[name]()
    assert new is not right and len(plt.get_fignums()) == 2
    new.figure.canvas.draw()
    assert dict(plt.rcParams) == before


@pytest.mark.parametrize("name, count", [("path", 2), ("losses", 2), ("bands", 1)])
def test_a_line_and_a_label_for_each(name, count):
    ax = CALLS[name]()
    styles = {(line.get_color(), line.get_linestyle()) for line in ax.lines}
    assert labels(ax) == ["a", "b"][:count]
    assert len({s for s in styles if s[1] != "None"}) == count


def test_seven_runs_are_told_apart():
    ax = plots.losses({str(k): np.ones(3) for k in range(7)})
    styles = {(line.get_color(), line.get_linestyle()) for line in ax.lines}
    assert len(styles) == 7
    assert [line.get_color() for line in ax.lines] == list(plots.COLORS)


def test_path_shows_all_paths_or_the_given_area():
    ax = plots.path(bowl, {"a": way()})
    assert ax.get_xlim() == (-5.5, 0.5) and ax.get_ylim() == (-2.3, 1.3)
    ax = plots.path(bowl, {"a": way((1e30, NAN))}, bounds=((-6, 1), (-3, 3)))
    assert ax.get_xlim() == (-6, 1) and ax.get_ylim() == (-3, 3)
    assert labels(ax) == ["a (diverged)"]
    assert [-1.0, -0.5] in crosses(ax).tolist()


@pytest.mark.parametrize("loss", [lambda x, y: 0 * x, lambda x, y: x / 0.0])
def test_path_without_contours(loss):
    with np.errstate(all="ignore"):
        ax = plots.path(loss, {"a": way()[:1]})
    ax.figure.canvas.draw()
    np.testing.assert_array_equal(ax.lines[0].get_xydata(), way()[:1])


def test_losses_are_the_median_and_the_range():
    runs = np.array([[4.0, 3.0], [2.0, 1.0], [8.0, 2.0]])
    ax = plots.losses({"a": jnp.asarray(runs, jnp.bfloat16)}, steps=[0, 10])
    assert ax.get_yscale() == "log"
    np.testing.assert_array_equal(ax.lines[0].get_xydata(), [[0, 4], [10, 2]])
    corners = ax.collections[0].get_paths()[0].vertices.tolist()
    assert [0, 2] in corners and [0, 8] in corners and [10, 1] in corners


def test_diverged_runs_end_at_a_cross():
    runs = np.array([[1, 2, NAN, NAN], [1, 3, 4, INF], [1, 1, 1, 1.0]])
    ax = plots.losses({"a": runs, "all": np.full(4, NAN), "one": [1, INF, 2, 3]})
    assert labels(ax) == ["a (2 of 3 diverged)", "all (diverged)", "one (diverged)"]
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), [1, 2, 4, NAN])
    assert {(1, 2), (2, 4), (0, 1)} <= set(map(tuple, crosses(ax)))
    ax.figure.canvas.draw()


def test_a_diverged_run_does_not_come_back():
    """It returns neither into the median nor into the band."""
    ax = plots.losses({"a": [[1, NAN, 0.5], [3, 2, 1], [4, 3, 2]]})
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), [3, 3, 2])
    corners = ax.collections[0].get_paths()[0].vertices.tolist()
    assert [2, 1] in corners and [2, 2] in corners and [2, 0.5] not in corners
    assert crosses(ax).tolist() == [[0, 1]]
    (line,) = plots.losses({"a": [2, INF, 1, NAN]}).lines
    np.testing.assert_array_equal(line.get_ydata(), [2, NAN, NAN, NAN])
    assert crosses(line.axes).tolist() == [[0, 2]]


def test_a_loss_of_zero_is_drawn():
    plots.losses({"a": np.array([[1.0, 0.0], [1.0, 0.0]])}).figure.canvas.draw()
    plots.losses({"a": np.zeros((2, 3)), "b": np.ones(3)}).figure.canvas.draw()


STILL = np.zeros((3, 2))
NOTHING = {
    "the same": lambda: plots.divergence({"a": STILL, "b": STILL}, reference="a"),
    "from a diverged run": lambda: plots.divergence(
        {"a": STILL * NAN, "b": STILL}, reference="a"
    ),
    "diverged at once": lambda: plots.losses({"a": [NAN, NAN]}),
    "all diverged at once": lambda: plots.losses({"a": [[NAN, NAN], [INF, NAN]]}),
    "no band": lambda: plots.bands([0, 1], np.full((2, 3), NAN), label="a"),
}


@pytest.mark.parametrize("name", NOTHING)
def test_nothing_that_a_logarithm_shows(name):
    ax = NOTHING[name]()
    assert ax.get_yscale() == "log" and len(labels(ax)) == 1
    ax.figure.canvas.draw()


def test_bands_are_nested_and_of_several_colors():
    quantiles = np.array([[1, 2, 3, 4, 5.0]] * 4 + [[NAN] * 5])
    ax = plots.bands(STEPS, quantiles, label="a")
    assert plots.bands(STEPS, quantiles * 2, ax=ax, label="b") is ax
    assert labels(ax) == ["a (diverged)", "b (diverged)"]
    first, second = ax.lines
    assert first.get_color() != second.get_color()
    np.testing.assert_array_equal(first.get_ydata(), [3, 3, 3, 3, NAN])
    heights = [c.get_paths()[0].vertices[:, 1] for c in ax.collections[:2]]
    assert [(h.min(), h.max()) for h in heights] == [(1, 5), (2, 4)]
    assert plots.bands(STEPS, quantiles).get_legend() is None


def test_bands_take_diagnostics():
    state = rmsprop(0.1).init(jnp.ones(3))
    rate = diagnostics.effective_learning_rate(state, 0.1)
    ax = plots.bands([0, 1], jnp.stack([rate, rate]))
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), [rate[2]] * 2)


def test_heat_map_frames_the_best_and_grays_the_diverged():
    values = [[3.0, NAN, 0.5], [2.0, INF, 0.25]]
    ax = plots.heat_map(values, ("eps", [1e-8, 1e-3]), ("momentum", [None, 0.5, "x"]))
    texts = [text.get_text() for text in ax.texts]
    assert texts == ["3", "nan", "0.5", "2", "inf", "0.25"]
    assert ax.patches[0].get_xy() == (1.5, 0.5)
    image = ax.images[0]
    assert np.ma.getmaskarray(image.get_array()).sum() == 2
    assert isinstance(image.norm, LogNorm)
    assert [t.get_text() for t in ax.get_xticklabels()] == ["None", "0.5", "x"]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["1e-08", "0.001"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("momentum", "eps")
    ax.figure.canvas.draw()


def test_heat_map_without_a_best_or_a_logarithm():
    ax = plots.heat_map([[NAN, INF]], ("a", [1]), ("b", [1, 2]))
    assert not ax.patches
    ax.figure.canvas.draw()
    ax = plots.heat_map([[-1.0, 1.0]], ("a", [1]), ("b", [1, 2]))
    assert type(ax.images[0].norm) is Normalize
    assert ax.patches[0].get_xy() == (-0.5, -0.5)


def test_divergence_is_the_distance():
    start = np.zeros((3, 2))
    runs = {
        "same": start,
        "far": np.array([[0, 0], [3, 4], [6, 8.0]]),
        "reference": start,
        "lost": np.array([[1, 0], [0, 2], [NAN, 0]]),
    }
    ax = plots.divergence(runs, reference="reference")
    assert labels(ax) == ["same (the same)", "far", "lost (diverged)"]
    np.testing.assert_array_equal(ax.lines[1].get_ydata(), [NAN, 5, 10])
    assert (1, 2) in set(map(tuple, crosses(ax)))
    ax.figure.canvas.draw()


ERRORS = [
    (
        lambda: plots.path(bowl, {"a": np.ones((4, 3))}),
        r"'a' must have the shape \(steps, 2\)",
    ),
    (lambda: plots.path(bowl, {"a": np.ones(4)}), r"paths=...\)`: 'a' .* rank 2"),
    (lambda: plots.path(bowl, {"a": [[NAN, 1]]}), "must have a finite point.*bounds="),
    (lambda: plots.losses({"a": [1.0, -1.0]}), "'a' must not be negative.*got -1"),
    (lambda: plots.losses({"a": []}), r"that is not empty; got shape \(0,\)"),
    (lambda: plots.losses({"a": [1]}, steps=[1, 2]), r"steps=...\)` must .* 1 marks"),
    (lambda: plots.bands([0], [[1, 2]]), "odd number of columns.*got 2"),
    (lambda: plots.bands([0, 1], [[1, 2, 3]]), r"bands\(steps=...\)` must have one"),
    (
        lambda: plots.heat_map([[1, 2]], ("a", [1, 2]), ("b", [1])),
        r"shape of rows and columns, \(2, 1\); got \(1, 2\)",
    ),
    (
        lambda: plots.divergence({"a": way()}, reference="b"),
        "must be one of the runs, 'a'; got 'b'",
    ),
    (
        lambda: plots.divergence({"a": way(), "b": way()[1:]}, reference="a"),
        r"'b' must have the shape of the reference, \(4, 2\)",
    ),
]


@pytest.mark.parametrize("call, match", ERRORS)
def test_errors(call, match):
    with pytest.raises(ValueError, match=match):
        call()


def test_missing_matplotlib_is_named(monkeypatch):
    import importlib
    import sys

    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    monkeypatch.delitem(sys.modules, "rmsprop_jax.plots")
    install = r"`pip install 'rmsprop_jax\[plots\]'` or `pip install matplotlib`"
    with pytest.raises(ModuleNotFoundError, match=install):
        importlib.import_module("rmsprop_jax.plots")
