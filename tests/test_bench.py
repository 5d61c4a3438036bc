"""The benchmark measures what it says; no test here asserts a time."""

import contextlib
import functools
import importlib.util
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rmsprop_jax.bench import __main__ as command
from rmsprop_jax.bench import (
    _contenders,
    _measure,
    _peers,
    _results,
    _shapes,
    _training,
)
from rmsprop_jax.bench._contenders import CONTENDERS, REFERENCE, Contender

SMALL = [(4, 3), (3,)]


def size(shapes):
    return sum(int(np.prod(shape)) for shape in shapes)


def test_the_trees_are_those_of_the_models():
    """Parameters as torchvision and Hugging Face count them."""
    assert size(_shapes.resnet50()) == 25_557_032
    assert len(_shapes.resnet50()) == 161
    assert size(_shapes.gpt2()) == 124_439_808
    assert len(_shapes.gpt2()) == 148


def check(name, contender):
    made = _measure.Timed(
        *_contenders.step_of(contender), _measure.CHECKED, contender.dtype
    )
    _measure.check(name, made, contender.like, contender.within)


@pytest.mark.parametrize("name", CONTENDERS)
@pytest.mark.rows(8)
def test_contenders_move_as_they_should(name):
    with jax.numpy_dtype_promotion("standard"):
        check(name, CONTENDERS[name])


@pytest.mark.parametrize(
    "make",
    (
        lambda: optax.rmsprop(1.1e-3),
        lambda: optax.rmsprop(1e-3, decay=0.8),
        lambda: optax.rmsprop(1e-3, eps=1e-4),
        lambda: optax.adam(1e-3),
        lambda: optax.adagrad(1e-3),
        lambda: optax.sgd(1e-3),
        lambda: optax.scale(float("nan")),
    ),
    ids=("rate", "decay", "eps", "adam", "adagrad", "sgd", "nan"),
)
def test_what_moves_otherwise_is_not_timed(make):
    apart = pytest.raises(AssertionError, match="wrong does not move as optax.rmsprop")
    with apart, jax.numpy_dtype_promotion("standard"):
        check("wrong", Contender(make, within=0.05))


@pytest.mark.parametrize("rate", (-1e-3, 0.0))
@pytest.mark.filterwarnings("ignore:invalid value")
def test_another_algorithm_must_move_and_not_climb(rate):
    with pytest.raises(AssertionError, match="wrong does not move as"):
        check("wrong", Contender(lambda: optax.sgd(rate), like=None))


def test_a_peer_is_checked_from_its_first_step():
    """A step in NumPy, as torch takes it: the parameters are overwritten."""
    params = [np.array(x) for x in _measure.arrays(_measure.CHECKED, "f4", 0).values()]
    g = [np.array(x) for x in _measure.arrays(_measure.CHECKED, "f4", 1).values()]
    squares = [np.zeros_like(x) for x in params]

    def step(rate):
        for p, gradient, s in zip(params, g, squares, strict=True):
            s[:] = 0.9 * s + 0.1 * gradient**2
            p -= rate * gradient / np.sqrt(s + 1e-8)

    for rate, fits in ((_contenders.RATE, True), (1.1 * _contenders.RATE, False)):
        peer = _peers.PeerStep(functools.partial(step, rate), lambda: params)
        squares[:] = [0.1 * gradient**2 for gradient in g]
        with contextlib.nullcontext() if fits else pytest.raises(AssertionError):
            _measure.check("numpy", peer, REFERENCE, 1e-3)


def test_bytes_that_a_step_must_move():
    assert CONTENDERS["rmsprop"].bytes_moved == 20
    assert CONTENDERS["rmsprop, bfloat16 p, uint8"].bytes_moved == 8
    assert CONTENDERS["optax.sgd"].bytes_moved == 12


def test_state_bytes_are_those_that_are_claimed():
    for name, contender in CONTENDERS.items():
        if "flatten" in name:
            continue
        init, _ = _contenders.step_of(contender)
        state = jax.eval_shape(init, [jax.ShapeDtypeStruct((1000,), contender.dtype)])
        kept = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state) if x.ndim)
        assert kept == 1000 * contender.state_bytes, name


def test_a_ratio_and_the_interval_that_holds_it():
    rng = np.random.default_rng(0)
    reference = np.exp(rng.normal(0, 0.1, 400))
    middle, low, high = _measure.ratio(2 * reference, reference)
    assert (middle, low, high) == (2.0, 2.0, 2.0)
    noisy = reference[::-1] * 3
    middle, low, high = _measure.ratio(noisy, reference)
    assert low < 3 < high and 0 < high - low < 0.5


def test_the_command(monkeypatch, tmp_path, capsys):
    """Table, JSON and picture; peers that are absent, with how to get them."""
    pytest.importorskip("matplotlib")
    monkeypatch.setitem(_shapes.TREES, "small", SMALL)
    monkeypatch.setattr(_measure, "LARGE", 1000)
    monkeypatch.setattr(_shapes, "QUICK", ("small",))
    monkeypatch.setattr(_contenders, "QUICK", (REFERENCE, "rmsprop"))
    found, picture, page = (tmp_path / f"found.{x}" for x in ("json", "png", "md"))
    arguments = ["--rounds", "3", "--json", str(found), "--plot", str(picture)]
    arguments += ["--markdown", str(page)]
    peers = [] if torch_is_there() else ["torch, foreach"]
    assert command.main([*arguments, "--peers", *peers]) == 0
    kept = json.loads(found.read_text())
    assert [row["contender"] for row in kept["rows"]] == [REFERENCE, "rmsprop"]
    assert set(kept["bandwidths"]) == {"scale in place", "update in place"}
    assert kept["machine"]["jax"]
    assert picture.stat().st_size > 1000
    tables = page.read_text().splitlines()
    assert [x.count("|") for x in tables if x.startswith("|")] == [12] * 4
    said = capsys.readouterr().out
    assert "optax.rmsprop" in said and "GB/s" in said
    if peers:
        assert "not measured: torch, foreach; pip install torch" in said


def test_what_fails_or_comes_too_late_is_named(monkeypatch, tmp_path, capsys):
    """The rest is measured, and what there is has been written."""
    monkeypatch.setitem(_shapes.TREES, "small", SMALL)
    monkeypatch.setattr(_measure, "LARGE", 1000)
    measure = command.measure

    def fails(tree, shapes, name, *rest):
        if name == "rmsprop":
            raise MemoryError("no memory")
        return measure(tree, shapes, name, *rest)

    monkeypatch.setattr(command, "measure", fails)
    found = tmp_path / "found.json"
    arguments = ["--trees", "small", "--peers", "--rounds", "3", "--json", str(found)]
    arguments += ["--contenders", "rmsprop", REFERENCE]
    assert command.main(arguments) == 0
    kept = json.loads(found.read_text())
    assert [row["contender"] for row in kept["rows"]] == [REFERENCE]
    assert kept["not_measured"] == {"rmsprop on small": "MemoryError: no memory"}
    assert command.main([*arguments, "--minutes", "0"]) == 0
    kept = json.loads(found.read_text())
    assert kept["rows"] == [] and len(kept["not_measured"]) == 2
    assert "optax.rmsprop on small; the 0 minutes were over" in capsys.readouterr().out


def test_rounds_must_be_positive(capsys):
    with pytest.raises(SystemExit):
        command.main(["--rounds", "0"])
    assert "--rounds: must be at least 1; got 0" in capsys.readouterr().err


def test_json_has_no_nan(tmp_path):
    _results.write_json(tmp_path / "x.json", {"rows": [{"a": float("nan"), "b": 1.5}]})
    found = json.loads((tmp_path / "x.json").read_text(), parse_constant=pytest.fail)
    assert found["rows"] == [{"a": None, "b": 1.5}]


def torch_is_there():
    return importlib.util.find_spec("torch") is not None


@pytest.mark.parametrize(
    ("shapes", "loss"),
    [
        (_shapes.gpt2(1, 64, 50), _training.gpt2_loss),
        (_shapes.resnet50(), _training.resnet50_loss),
    ],
    ids=("gpt2", "resnet50"),
)
def test_the_losses_use_every_leaf(shapes, loss):
    """By shape alone: a leaf that a loss ignores would have no operation on it."""
    leaves = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        jaxpr = jax.make_jaxpr(loss)(leaves)
    used = {id(x) for eqn in jaxpr.eqns for x in eqn.invars}
    assert all(id(x) in used for x in jaxpr.jaxpr.invars)
    assert jaxpr.out_avals[0].shape == ()
