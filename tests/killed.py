"""Train with checkpoints in children that are killed; compare with an undisturbed run.

    python tests/killed.py FOLDER KILLS STEPS SEED

Children are forked before JAX starts a backend, so that a start costs no import. Prints
one JSON line: kills, the steps from which the children restarted, and whether the run
ended as an undisturbed one, bit for bit, in every storage format.
"""

import json
import os
import random
import re
import shutil
import signal
import sys
import time
from pathlib import Path

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"  # most of the time would be LLVM's

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp

from rmsprop_jax import master_weights, rmsprop
from rmsprop_jax.interop import orbax

FOLDER, (KILLS, STEPS, SEED) = Path(sys.argv[1]), map(int, sys.argv[2:])
EVERY = 3
FORMATS = ("float32", "bfloat16", "uint8")
LOG, END = FOLDER / "log", FOLDER / "end.npz"


def optimizers():
    """Make one for each storage format, and one with all that can be kept narrow."""
    for storage in FORMATS:
        yield rmsprop(1e-2, centered=True, momentum=0.9, storage=storage)
    yield master_weights(rmsprop(1e-2, storage="uint8"))


@jax.jit
def start():
    wide = {"w": jax.random.normal(jax.random.key(0), (40, 30))}
    narrow = jax.tree.map(lambda x: x.astype(jnp.bfloat16), wide)
    given = [wide] * len(FORMATS) + [narrow]
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


def train(run, log):
    """Continue from the last checkpoint to the end, and return it."""
    runs, first = start(), 0
    options = ocp.CheckpointManagerOptions(max_to_keep=2)
    with ocp.CheckpointManager(run, options=options) as manager:
        if manager.latest_step() is not None:
            first = manager.latest_step()
            runs = orbax.restore(run / str(first) / "default", runs)
        log.write(f"{first}\n")
        log.flush()
        for k in range(first, STEPS):
            runs = step(runs, k)
            if (k + 1) % EVERY == 0:  # asynchronously: a kill meets writing too
                manager.save(k + 1, args=ocp.args.StandardSave(runs))
    return jax.tree.map(np.asarray, runs)


def fork(run):
    """Start a child that trains and writes its end."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        with open(LOG, "a") as log:
            np.savez(END, *jax.tree.leaves(train(run, log)))
        code = 0
    finally:
        os._exit(code)


def last_step(run):
    """Return the last step of which a checkpoint was begun."""
    names = " ".join(path.name for path in run.glob("*"))
    return max(map(int, re.findall(r"(?:^| )(\d+)", names)), default=0)


def kill_at(step, run, pid, delay):
    """Kill a child soon after it begins the checkpoint of a step, if it gets there."""
    while last_step(run) < step:
        if os.waitpid(pid, os.WNOHANG)[0]:
            return False
        time.sleep(0.001)
    time.sleep(delay)
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    return os.WIFSIGNALED(status)


def end():
    """Return the end of the run that a child wrote."""
    with np.load(END) as kept:
        found = [kept[k].tobytes() for k in kept.files]
    END.unlink()
    return found


def finish(run):
    os.waitpid(fork(run), 0)
    return end()


def main():
    rng = random.Random(SEED)
    FOLDER.mkdir(parents=True, exist_ok=True)
    jax.config.update("jax_compilation_cache_dir", str(FOLDER / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    want = finish(FOLDER / "undisturbed")
    kills, ends, run = 0, [], FOLDER / "run0"
    while kills < KILLS:
        target = last_step(run) + EVERY * rng.randint(2, 4)
        if kill_at(target, run, fork(run), rng.uniform(0, 0.03)):
            kills += 1
        else:
            ends.append(end())
            run = FOLDER / f"run{len(ends)}"
    ends.append(finish(run))
    restarts = [int(line) for line in LOG.read_text().split()]
    shutil.rmtree(FOLDER)
    equal = all(found == want for found in ends)
    print(json.dumps({"kills": kills, "restarts": restarts, "equal": equal}))


if __name__ == "__main__":
    main()
