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

ROOT = Path(__file__).parents[1]
NEEDED = ["flax", "matplotlib", "rich", "sklearn"]

# A shell that runs the tests in the background makes its children ignore SIGINT.
LISTEN = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"

INTERRUPT_EARLY = LISTEN + "from rmsprop_jax.__main__ import main; exit(main())"

INTERRUPT_LATE = (
    LISTEN
    + """
import os, sys
from rmsprop_jax import demo

def compete(contender, data, seeds, steps, advance, compete=demo.compete):
    def interrupt(count):
        if contender is not demo.CONTENDERS["RMSProp"]:
            os.kill(os.getpid(), signal.SIGINT)
        advance(count)

    return compete(contender, data, seeds, steps, interrupt)

demo.compete = compete
sys.exit(demo.main(sys.argv[1:]))
"""
)

WITHOUT = """
import sys
from rmsprop_jax.__main__ import main
assert not set(sys.argv) & set(sys.modules), "`import rmsprop_jax` imports no extra"
for name in sys.argv[1:]:
    sys.modules[name] = None
    try:
        main(["demo"])
    except SystemExit as error:
        print(error.code)
    del sys.modules[name]
"""


def start(*arguments):
    """Start Python, on one device and with warnings as errors."""
    env = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    env |= {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8", "COLUMNS": "80"}
    return subprocess.Popen(
        [sys.executable, "-W", "error", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        env=env,
    )


def finish(process):
    stdout, stderr = process.communicate(timeout=120)
    assert "Traceback" not in stderr, stderr
    return process.returncode, stdout, stderr


def drawn(path):
    """Give the optimizers whose color is in the figure."""
    pixels = imread(path)[..., :3]
    return [
        name
        for name, contender in demo.CONTENDERS.items()
        if np.isclose(pixels, to_rgb(contender.color), atol=1e-2).all(axis=-1).sum()
        > 50
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module", autouse=True)
def processes(folder):
    """Start the long ones at once, beside the tests in this process."""
    started = {
        "part": start("-c", INTERRUPT_LATE, "--out", folder / "part.png"),
        "missing": start("-c", WITHOUT, *NEEDED),
    }
    yield started
    for process in started.values():
        process.kill()
        process.communicate()


@pytest.fixture(autouse=True)
def plain_jax():
    """JAX as a person has it: Optax's cosine schedule promotes int32 to float32."""
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


def test_compares_all_optimizers(folder, capsys):
    out = folder / "whole.png"
    assert demo.main(["--steps", "5", "--seed", "1", "--out", str(out)]) == 0
    stdout = capsys.readouterr().out
    for name, state_bytes in zip(demo.CONTENDERS, (4, 4, 4, 8), strict=True):
        row = rf"{name} .* 0\.\d{{4}} ± 0\.\d{{4}} +\d\.\d{{5}} +{state_bytes}\.00"
        assert re.search(row, stdout), stdout
    assert f"Loss curves: {out}" in stdout
    assert drawn(out) == list(demo.CONTENDERS)


@pytest.mark.parametrize("name", ["train_flax.py", "train_linen.py"])
def test_example_learns(name, folder, monkeypatch, capsys):
    out = str(folder / f"{name}.png")
    monkeypatch.setattr(sys, "argv", [name, "--steps", "20", "--out", out])
    runpy.run_path(str(ROOT / "examples" / name), run_name="__main__")
    stdout = capsys.readouterr().out
    found = re.search(r"training loss (\S+), test accuracy (\S+)", stdout)
    assert found, stdout
    assert float(found[1]) < 2.0
    assert float(found[2]) > 0.5


def test_interrupt_leaves_what_was_finished(processes, folder):
    code, stdout, _ = finish(processes["part"])
    assert code == 130
    assert "Interrupted. Not finished: SGD, momentum; AdaGrad; Adam." in stdout
    # RMSProp was finished, in full, and reads what the project promises.
    found = re.search(r"RMSProp .* (\S+) ± ", stdout)
    assert found, stdout
    assert float(found[1]) >= 0.98
    assert drawn(folder / "part.png") == ["RMSProp"]


def test_interrupt_before_anything_was_finished(tmp_path):
    out = tmp_path / "digits.png"
    process = start("-u", "-c", INTERRUPT_EARLY, "demo", "--out", out)
    assert process.stdout is not None
    assert "Training on 1347 images" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    code, stdout, _ = finish(process)
    assert code == 130
    assert "Interrupted. Not finished: RMSProp; SGD" in stdout
    assert not out.exists()


def test_missing_package_is_named(processes):
    code, stdout, stderr = finish(processes["missing"])
    assert code == 0
    assert stdout.split() == ["1"] * len(NEEDED)
    for name, line in zip(NEEDED, stderr.splitlines(), strict=True):
        assert f"needs {name}" in line
        assert ": `pip install flax matplotlib rich scikit-learn`." in line
