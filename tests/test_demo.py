"""The demo and the examples, in short form, as a person runs them."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.image import imread

from rmsprop_jax import demo

ROOT = Path(__file__).parents[1]
DEMO = ["-m", "rmsprop_jax", "demo"]
EXAMPLES = ["train_flax.py", "train_linen.py"]
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
    if contender is not demo.CONTENDERS["RMSProp"]:
        advance = lambda _: os.kill(os.getpid(), signal.SIGINT)
    return compete(contender, data, seeds, steps, advance)

demo.compete = compete
sys.exit(demo.main(sys.argv[1:]))
"""
)

ACCURACY = """
from rmsprop_jax import demo
rmsprop = demo.CONTENDERS["RMSProp"]
print(demo.compete(rmsprop, demo.load(), range(5), 600, lambda _: None).accuracies.mean())
"""

WITHOUT = """
import sys
from rmsprop_jax.__main__ import main
for name in sys.argv[1:]:
    sys.modules[name] = None
    try:
        main(["demo"])
    except SystemExit as error:
        print(error.code)
    del sys.modules[name]
"""


def start(*arguments):
    """Start Python with warnings as errors, on plain JAX, as a person has it."""
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
def figure(tmp_path_factory):
    return tmp_path_factory.mktemp("demo") / "digits.png"


@pytest.fixture(scope="module", autouse=True)
def processes(figure):
    """Start the long ones together."""
    started = {
        "accuracy": start("-c", ACCURACY),
        "demo": start(*DEMO, "--steps", 20, "--seed", 1, "--out", figure),
    }
    for name in EXAMPLES:
        started[name] = start(ROOT / "examples" / name, "--steps", 20)
    yield started
    for process in started.values():
        process.kill()
        process.communicate()


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


def test_compares_all_optimizers(processes, figure):
    code, stdout, _ = finish(processes["demo"])
    assert code == 0
    for name, state_bytes in zip(demo.CONTENDERS, (4, 4, 4, 8), strict=True):
        row = rf"{name} .* 0\.\d{{4}} ± 0\.\d{{4}} +\d\.\d{{5}} +{state_bytes}\.00"
        assert re.search(row, stdout), stdout
    assert str(figure) in stdout
    assert drawn(figure) == list(demo.CONTENDERS)


def test_rmsprop_reads_98_percent(processes):
    code, stdout, _ = finish(processes["accuracy"])
    assert code == 0
    assert float(stdout) >= 0.98


@pytest.mark.parametrize("name", EXAMPLES)
def test_example_learns(processes, name):
    code, stdout, _ = finish(processes[name])
    assert code == 0
    found = re.search(r"training loss (\S+), test accuracy (\S+)", stdout)
    assert found, stdout
    assert float(found[1]) < 2.0
    assert float(found[2]) > 0.5


def test_interrupt_leaves_what_was_finished(tmp_path):
    out = tmp_path / "digits.png"
    code, stdout, _ = finish(start("-c", INTERRUPT_LATE, "--steps", 6, "--out", out))
    assert code == 130
    assert "Interrupted. Not finished: SGD, momentum; AdaGrad; Adam." in stdout
    assert re.search(r"RMSProp .* ± ", stdout)
    assert drawn(out) == ["RMSProp"]


@pytest.mark.skipif(os.name == "nt", reason="Windows cannot send SIGINT to a child")
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


def test_missing_package_is_named():
    code, stdout, stderr = finish(start("-c", WITHOUT, *NEEDED))
    assert code == 0
    assert stdout.split() == ["1"] * len(NEEDED)
    for name, line in zip(NEEDED, stderr.splitlines(), strict=True):
        assert f"needs {name}." in line
        assert '`pip install "rmsprop_jax[examples]"`' in line


def test_commands_are_listed():
    code, _, stderr = finish(start("-m", "rmsprop_jax"))
    assert code == 2
    assert re.search(r"^  demo +train", stderr, re.MULTILINE)
