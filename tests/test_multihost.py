"""Two processes of four devices train as one of eight, and outlive a killed one."""

import contextlib
import functools
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
import two_processes

from rmsprop_jax.interop import orbax

EXAMPLE = Path(__file__).parents[1] / "examples" / "train_multihost.py"
if not hasattr(jax, "set_mesh"):
    pytest.skip("Orbax 0.12 saves no array of several processes", True)

STEPS, EVERY, HEARTBEAT, LIMIT = 30, 10, 8, 120
# As conftest compiles, so that the reference of this process is of the same programs.
CHILD = {
    "JAX_PLATFORMS": "cpu",
    "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
    "XLA_FLAGS": os.environ["XLA_FLAGS"].replace("device_count=8", "device_count=4"),
}


def free_address():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return f"localhost:{free.getsockname()[1]}"


@contextlib.contextmanager
def both(folder, *command):
    """Start two processes, the number of each as last argument; leave none behind."""
    started = []
    try:
        for k in range(2):
            with open(folder / f"log{k}", "w") as log:
                given = [sys.executable, *map(str, command), str(k)]
                env = os.environ | CHILD
                started.append(subprocess.Popen(given, stdout=log, stderr=log, env=env))
        yield started
    finally:
        for process in started:
            process.kill()
            process.wait()


def finish(folder, *command):
    """Run both to their end; return what each printed."""
    with both(folder, *command) as started:
        codes = [process.wait(LIMIT) for process in started]
    logs = [(folder / f"log{k}").read_text() for k in range(2)]
    assert codes == [0, 0], logs[0][-2000:]
    return logs


def check_equal(got, want):
    """Check the parameters to float32 rounding, and the codes of one byte to one.

    Sums over devices are in another order, which may change the rounding of a code.
    """
    got, want = (jax.tree.map(np.asarray, tree) for tree in (got, want))
    chex.assert_trees_all_equal_shapes_and_dtypes(got, want)
    chex.assert_trees_all_close(got["params"], want["params"], rtol=1e-4, atol=1e-5)
    for x, y in zip(*map(jax.tree.leaves, (got, want)), strict=True):
        if x.dtype == np.uint8:
            far = np.abs(x.astype(int) - y.astype(int))
            assert far.max(initial=0) <= 1


def test_two_processes_train_as_one(tmp_path):
    finish(tmp_path, two_processes.__file__, tmp_path, free_address())
    want = two_processes.train()
    check_equal(orbax.restore(tmp_path / "end", want), want)


@functools.cache
def undisturbed():
    """Return the end of the example in one process of eight devices."""
    sys.path.insert(0, str(EXAMPLE.parent))
    import train_multihost

    images, _, labels, _ = train_multihost.load()
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        return train_multihost.train(images, labels, STEPS)[0]


def example(folder):
    """Return the command of the example, but for the number of the process."""
    options = f"--steps {STEPS} --every {EVERY} --checkpoints {folder / 'saved'} "
    options += f"--processes 2 --coordinator {free_address()} --heartbeat {HEARTBEAT} "
    options += f"--out {folder / 'losses.png'} --process-id"
    return EXAMPLE, *options.split()


@pytest.mark.long
@pytest.mark.skipif(not EXAMPLE.exists(), reason="needs the repository")
@pytest.mark.parametrize("victim", (0, 1))
def test_a_killed_process_ends_the_job_which_restarts(victim, tmp_path):
    """SIGKILL: the other ends by itself, with a message; then both continue.

    The message is of who notices first: the script, JAX's heartbeat or Gloo's sockets.
    """
    first = tmp_path / "saved" / str(EVERY)
    with both(tmp_path, *example(tmp_path)) as started:
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
    logs = finish(tmp_path, *example(tmp_path))
    assert "from step" in logs[0]
    assert ["test accuracy" in log for log in logs] == [True, False]
    want = undisturbed()
    end = tmp_path / "saved" / str(STEPS) / "default"
    check_equal(orbax.restore(end, want), want)
