"""Train with checkpoints in children that are killed; give what the last one ends with.

    python tests/killed.py FOLDER KILLS SEED

Forked before JAX starts a backend, so that a start costs no import. Prints one JSON
line: kills, the steps that the children restarted from, and whether the run ended as an
undisturbed one, bit for bit, in every storage format.
"""

import json
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp

from rmsprop_jax import master_weights, rmsprop
from rmsprop_jax.interop import orbax

STEPS, EVERY = 90, 3
FORMATS = ("float32", "bfloat16", "uint8")


def optimizers():
    """One for each storage format, and one with all that can be kept narrow."""
    for storage in FORMATS:
        yield rmsprop(1e-2, centered=True, momentum=0.9, storage=storage)
    yield master_weights(rmsprop(1e-2, storage="uint8"))


def start():
    rng = np.random.default_rng(0)
    params = {"w": rng.standard_normal((40, 30)).astype(np.float32)}
    narrow = {"w": jnp.asarray(params["w"], jnp.bfloat16)}
    given = [params] * len(FORMATS) + [narrow]
    given = [jax.tree.map(jnp.asarray, p) for p in given]
    return [(p, tx.init(p)) for p, tx in zip(given, optimizers(), strict=True)]


@jax.jit
def step(runs, k):
    key = jax.random.fold_in(jax.random.key(1), k)
    after = []
    for (params, state), tx in zip(runs, optimizers(), strict=True):
        g = {"w": jax.random.normal(key, (40, 30)) + params["w"].astype(jnp.float32)}
        u, state = tx.update(g, state, params)
        after.append((optax.apply_updates(params, u), state))
    return after


def train(folder, log=None):
    """Go on from the last checkpoint to the end; give the end."""
    runs, first = start(), 0
    options = ocp.CheckpointManagerOptions(max_to_keep=2)
    with ocp.CheckpointManager(folder, options=options) as manager:
        if manager.latest_step() is not None:
            first = manager.latest_step()
            runs = orbax.restore(Path(folder) / str(first) / "default", runs)
        if log is not None:
            log.write(f"{first}\n")
            log.flush()
        for k in range(first, STEPS):
            runs = step(runs, k)
            if (k + 1) % EVERY == 0:  # asynchronously: a kill meets writing too
                manager.save(k + 1, args=ocp.args.StandardSave(runs))
    return jax.tree.map(np.asarray, runs)


def child(folder, log_path, end_path):
    with open(log_path, "a") as log:
        end = train(folder, log)
    np.savez(end_path, *jax.tree.leaves(end))


def main():
    folder, kills, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    rng = random.Random(seed)
    folder.mkdir(parents=True, exist_ok=True)
    log, end = folder / "log", folder / "end.npz"
    jax.config.update("jax_compilation_cache_dir", str(folder / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)

    def fork(run):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                child(run, log, end)
                code = 0
            finally:
                os._exit(code)
        return pid

    def finish(pid):
        _, status = os.waitpid(pid, 0)
        assert os.waitstatus_to_exitcode(status) == 0, "a child failed"
        with np.load(end) as kept:
            found = [kept[k].tobytes() for k in kept.files]
        end.unlink()
        return found

    finish(fork(folder / "compiling"))
    began = time.monotonic()
    want = finish(fork(folder / "undisturbed"))
    whole = time.monotonic() - began
    done, ends, run = 0, [], 0
    while done < kills:
        pid = fork(folder / f"run{run}")
        time.sleep(rng.uniform(0.2, 0.9) * whole)
        finished, status = os.waitpid(pid, os.WNOHANG)
        if finished:
            assert os.waitstatus_to_exitcode(status) == 0, "a child failed"
            with np.load(end) as kept:
                ends.append([kept[k].tobytes() for k in kept.files])
            run += 1
            continue
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        done += 1
    ends.append(finish(fork(folder / f"run{run}")))
    restarts = [int(line) for line in log.read_text().split()]
    shutil.rmtree(folder)
    equal = all(found == want for found in ends)
    print(json.dumps({"kills": done, "restarts": restarts, "equal": equal}))


if __name__ == "__main__":
    main()
