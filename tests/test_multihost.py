"""Two processes of four devices train as one of eight, and outlive a killed one."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import chex
import jax
import numpy as np
import pytest

from rmsprop_jax.interop import orbax

EXAMPLES = Path(__file__).parents[1] / "examples"
if not EXAMPLES.exists():
    pytest.skip("needs the repository", allow_module_level=True)
if not hasattr(jax, "set_mesh"):
    pytest.skip("Orbax 0.12 saves no array of several processes", True)

STEPS, EVERY, HEARTBEAT, LIMIT = 30, 10, 8, 120
# As conftest compiles, so that the reference of this process is of the same programs.
CHILD = {
    "JAX_PLATFORMS": "cpu",
    "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
    "XLA_FLAGS": "--xla_force_host_platform_device_count=4",
}


@pytest.fixture(scope="module")
def undisturbed():
    """Parameters and state at the end of one process of eight devices."""
    sys.path.insert(0, str(EXAMPLES))
    import train_multihost

    # A fixture of a module comes before those of a test, conftest's among them.
    jax.config.update("jax_disable_most_optimizations", True)

    images, _, labels, _ = train_multihost.load()
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        return train_multihost.train(images, labels, STEPS)[0]


@contextlib.contextmanager
def two_processes(folder):
    """Start both; whatever happens, none is left."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    folder.mkdir(exist_ok=True)
    script, started = str(EXAMPLES / "train_multihost.py"), []
    options = f"--steps {STEPS} --every {EVERY} --checkpoints {folder / 'saved'} "
    options += f"--processes 2 --coordinator {address} --heartbeat {HEARTBEAT} "
    options += f"--out {folder / 'losses.png'}"
    try:
        for k in range(2):
            with open(folder / f"log{k}", "w") as log:
                command = [sys.executable, script, *options.split()]
                started.append(
                    subprocess.Popen(
                        [*command, "--process-id", str(k)],
                        stdout=log,
                        stderr=log,
                        env=os.environ | CHILD,
                    )
                )
        yield started
    finally:
        for process in started:
            process.kill()
            process.wait()


def finish(folder):
    """Run both to the end; give what process 0 printed."""
    with two_processes(folder) as started:
        codes = [process.wait(LIMIT) for process in started]
    log = (folder / "log0").read_text()
    assert codes == [0, 0], log[-2000:]
    assert "test accuracy" in log
    assert "test accuracy" not in (folder / "log1").read_text()
    return log


def end(folder, like):
    return orbax.restore(folder / "saved" / str(STEPS) / "default", like)


def check_equal(got, want):
    """Check the parameters to float32 rounding, and the codes of one byte to one.

    Sums over devices are in another order, which may turn the rounding of a code.
    """
    got, want = (jax.tree.map(np.asarray, tree) for tree in (got, want))
    chex.assert_trees_all_equal_shapes_and_dtypes(got, want)
    chex.assert_trees_all_close(got["params"], want["params"], rtol=1e-4, atol=1e-5)
    for x, y in zip(*map(jax.tree.leaves, (got, want)), strict=True):
        if x.dtype == np.uint8:
            far = np.abs(x.astype(int) - y.astype(int))
            assert far.max(initial=0) <= 1


def test_two_processes_train_as_one(undisturbed, tmp_path):
    finish(tmp_path)
    check_equal(end(tmp_path, undisturbed), undisturbed)


@pytest.mark.parametrize("victim", (1, pytest.param(0, marks=pytest.mark.long)))
def test_a_killed_process_ends_the_job_which_restarts(victim, undisturbed, tmp_path):
    """SIGKILL: the other ends by itself, with a message; then both go on.

    The message is of who notices first: the script, JAX's heartbeat or Gloo's sockets.
    """
    first = tmp_path / "saved" / str(EVERY)
    with two_processes(tmp_path) as started:
        limit = time.monotonic() + LIMIT
        while not first.exists():
            assert time.monotonic() < limit, (tmp_path / "log0").read_text()[-2000:]
            assert started[0].poll() is None, (tmp_path / "log0").read_text()[-2000:]
            time.sleep(0.02)
        started[victim].send_signal(signal.SIGKILL)
        assert started[1 - victim].wait(5 * HEARTBEAT) != 0
    message = (tmp_path / f"log{1 - victim}").read_text()
    noticed = ("stops, as the step failed", "another task died", "gloo::EnforceNotMet")
    assert any(said in message for said in noticed), message[-2000:]
    assert "going on from step" in finish(tmp_path)
    check_equal(end(tmp_path, undisturbed), undisturbed)
