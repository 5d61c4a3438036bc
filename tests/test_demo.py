"""The demo and the examples, in short form, as a person runs them."""

import os
import re
import runpy
import signal
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.image import imread

from rmsprop_jax import demo
from rmsprop_jax.__main__ import main
from rmsprop_jax._palette import COLORS

ROOT = Path(__file__).parents[1]
NEEDED = ["flax", "matplotlib", "rich", "sklearn"]

# A shell that runs the tests in the background makes its children ignore SIGINT.
LISTEN = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from rmsprop_jax.__main__ import main
exit(main())
"""


def drawn(path):
    """Return the optimizers whose color is in the figure."""
    pixels = imread(path)[..., :3]
    return [
        name
        for name, color in zip(demo.CONTENDERS, COLORS, strict=False)
        if np.isclose(pixels, to_rgb(color), atol=1e-2).all(axis=-1).sum() > 50
    ]


@pytest.fixture(autouse=True)
def plain_jax():
    """JAX with its defaults: Optax's cosine schedule promotes int32 to float32."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--steps", "0"], r"--steps: must be a whole number from 1 to \d+; got '0'"),
        (["--steps", "many"], "--steps: must be a whole number .* got 'many'"),
        (["--seed", "-1"], "--seed: must be a whole number from 0 .* got '-1'"),
        (["--out", "absent/a.png"], "--out: the directory 'absent' does not exist"),
        (["--out", "a.pdf"], "--out: must name a .png file; got 'a.pdf'"),
    ],
)
def test_refuses_a_wrong_argument_before_training(arguments, message, capsys):
    with pytest.raises(SystemExit) as error:
        demo.main(arguments)
    assert error.value.code == 2
    assert re.search(message, capsys.readouterr().err)


def test_commands_are_listed(capsys):
    assert main([]) == 2
    assert re.search(r"^  demo +train", capsys.readouterr().err, re.MULTILINE)


def test_compares_all_optimizers(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(demo, "SEEDS", 2)
    out = tmp_path / "whole.png"
    assert demo.main(["--steps", "5", "--seed", "1", "--out", str(out)]) == 0
    stdout = capsys.readouterr().out
    for name, state_bytes in zip(demo.CONTENDERS, (4, 4, 4, 8), strict=True):
        row = rf"{name} .* 0\.\d{{4}} ± 0\.\d{{4}} +\d\.\d{{5}} +{state_bytes}\.00"
        assert re.search(row, stdout), stdout
    assert f"Loss curves: {out}" in stdout
    assert drawn(out) == list(demo.CONTENDERS)


@pytest.mark.parametrize(
    "name", ["train_flax.py", pytest.param("train_linen.py", marks=pytest.mark.long)]
)
def test_example_learns(name, tmp_path, monkeypatch, capsys):
    out = str(tmp_path / f"{name}.png")
    monkeypatch.setattr(sys, "argv", [name, "--steps", "20", "--out", out])
    runpy.run_path(str(ROOT / "examples" / name), run_name="__main__")
    stdout = capsys.readouterr().out
    found = re.search(r"training loss (\S+), test accuracy (\S+)", stdout)
    assert found, stdout
    assert float(found[1]) < 2.0
    assert float(found[2]) > 0.5


@pytest.fixture
def interrupted(monkeypatch):
    """Send SIGINT as soon as RMSProp has finished and the next optimizer trains."""

    def compete(contender, data, seeds, steps, advance, compete=demo.compete):
        def interrupt(count):
            if contender is not demo.CONTENDERS["RMSProp"]:
                os.kill(os.getpid(), signal.SIGINT)
            advance(count)

        return compete(contender, data, seeds, steps, interrupt)

    monkeypatch.setattr(demo, "compete", compete)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interrupted")
@pytest.mark.parametrize(
    "seeds, steps, least",
    # The second row is the demo itself, with the accuracy that the project promises.
    [(2, 60, 0.95), pytest.param(5, 600, 0.98, marks=pytest.mark.long)],
)
def test_interrupt_leaves_what_was_finished(
    seeds, steps, least, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(demo, "SEEDS", seeds)
    out = tmp_path / "part.png"
    assert demo.main(["--steps", str(steps), "--out", str(out)]) == 130
    stdout = capsys.readouterr().out
    assert "Interrupted. Not finished: SGD, momentum; AdaGrad; Adam." in stdout
    found = re.search(r"RMSProp .* (\S+) ± ", stdout)
    assert found, stdout
    assert float(found[1]) >= least
    assert drawn(out) == ["RMSProp"]


@pytest.mark.long
def test_interrupt_before_anything_was_finished(tmp_path):
    """In a process of its own, in which SIGINT arrives while JAX compiles."""
    out = tmp_path / "digits.png"
    env = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    env |= {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8", "COLUMNS": "80"}
    env |= {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    process = subprocess.Popen(
        [*(sys.executable, "-W", "error", "-u", "-c", LISTEN), "demo", "--out", out],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        env=env,
    )
    assert process.stdout is not None
    assert "Training on 1347 images" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=120)
    assert "Traceback" not in stderr, stderr
    assert process.returncode == 130
    assert "Interrupted. Not finished: RMSProp; SGD" in stdout
    assert not out.exists()


@pytest.mark.parametrize("name", NEEDED)
def test_missing_package_is_named(name, monkeypatch, capsys):
    for module in list(sys.modules):
        if module == "rmsprop_jax.demo" or module.partition(".")[0] == name:
            monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(SystemExit) as error:
        main(["demo"])
    assert error.value.code == 1
    said = capsys.readouterr().err
    assert re.search(rf"needs {name}\b.*`pip install flax matplotlib rich", said)
