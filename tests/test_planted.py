"""The default run notices faults of one line, planted where a line matters."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from planted import FAULTS

import rmsprop_jax

PACKAGE = Path(rmsprop_jax.__file__).parent
TESTS = Path(__file__).parent


@pytest.mark.long
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault[0]}: {fault[1]}")
def test_a_planted_fault_is_noticed(tmp_path, fault):
    file, text, faulty, test = fault
    shutil.copytree(PACKAGE, tmp_path / PACKAGE.name)
    shutil.copytree(TESTS, tmp_path / TESTS.name)
    shutil.copy(TESTS.parent / "pyproject.toml", tmp_path)
    path = tmp_path / PACKAGE.name / file
    path.write_text(path.read_text().replace(text, faulty))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-x", "-p", "no:xdist", f"tests/test_{test}"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path), "XLA_FLAGS": "", "COMPILE": ""},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "FAILED tests/test_" in done.stdout


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault[0]}: {fault[1]}")
def test_a_fault_can_be_planted(fault):
    """Each text is in its file once, and its test exists."""
    file, text, faulty, test = fault
    assert (PACKAGE / file).read_text().count(text) == 1 and faulty != text
    module, _, name = test.partition("::")
    written = (TESTS / f"test_{module}").read_text()
    assert not name or f"def {name.partition('[')[0]}(" in written
