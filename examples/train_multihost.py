"""Train a classifier of handwritten digits on the devices of several processes.

pip install "rmsprop_jax[examples]" orbax-checkpoint
python train_multihost.py
srun python train_multihost.py --checkpoints /shared/run
python train_multihost.py --coordinator host0:1234 --processes 2 --process-id 0

The batch is split over all devices, and so is the state of the optimizer (ZeRO-1). The
same command again goes on from the last checkpoint.
"""

import argparse
import functools
import os
import sys
import traceback
from pathlib import Path

import jax
import numpy as np
import optax
import orbax.checkpoint as ocp
from flax import linen as nn
from jax.sharding import NamedSharding, PartitionSpec
from rich.progress import track
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from rmsprop_jax import rmsprop, sharding
from rmsprop_jax.interop import orbax

BATCH = 64


class Network(nn.Module):
    @nn.compact
    def __call__(self, images):
        x = nn.relu(nn.Dense(64)(images))
        x = nn.relu(nn.Dense(64)(x))
        return nn.Dense(10)(x)


def mean_loss(params, images, labels):
    logits = Network().apply({"params": params}, images)
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def load():
    images, labels = load_digits(return_X_y=True)
    images = (images / 16).astype(np.float32)
    return train_test_split(
        images, labels.astype(np.int32), test_size=0.25, stratify=labels, random_state=0
    )


def make_optimizer(steps):
    schedule = optax.cosine_decay_schedule(0.003, steps)
    return rmsprop(schedule, decay=0.9, storage="uint8")


def start(tx, mesh):
    """Make parameters on every device, and state of which each has its part."""
    everywhere = NamedSharding(mesh, PartitionSpec())
    make = jax.jit(Network().init, out_shardings=everywhere)
    params = make(jax.random.key(0), np.zeros((1, 64), np.float32))["params"]
    state = sharding.init(tx, params, sharding.zero1_shardings(tx, params, mesh))
    return {"params": params, "state": state}


def make_step(tx, run):
    """Compile the step, which writes what it makes over what it is given."""
    shardings = jax.tree.map(lambda x: x.sharding, run)

    @functools.partial(jax.jit, donate_argnums=0, out_shardings=shardings)
    def step(run, images, labels):
        params, state = run["params"], run["state"]
        grads = jax.grad(mean_loss)(params, images, labels)
        updates, state = tx.update(grads, state, params)
        return {"params": optax.apply_updates(params, updates), "state": state}

    return step


def split(mesh, x):
    """Make one array of all processes; each reads only what its devices hold."""
    parts = NamedSharding(mesh, PartitionSpec("data"))
    return jax.make_array_from_callback(x.shape, parts, lambda index: x[index])


def open_checkpoints(folder):
    options = ocp.CheckpointManagerOptions(max_to_keep=2)
    return ocp.CheckpointManager(folder, options=options)


def train(images, labels, steps, every=100, folder=None):
    """Go on from the last checkpoint in the folder; give parameters and state."""
    mesh = jax.make_mesh((jax.device_count(),), ("data",))
    tx = make_optimizer(steps)
    run, first, manager = start(tx, mesh), 0, None
    step = make_step(tx, run)
    if folder is not None:
        manager = open_checkpoints(folder)
        first = manager.latest_step() or 0
        if first:
            run = orbax.restore(folder / str(first) / "default", run)
            report(f"going on from step {first}")
    rest = range(first, steps)
    for k in track(rest, "Training", disable=jax.process_index() > 0):
        # The rows depend on the step alone, so that a restart draws the same ones.
        rows = np.random.default_rng(k).choice(len(labels), BATCH, replace=False)
        run = step(run, split(mesh, images[rows]), split(mesh, labels[rows]))
        if manager and ((k + 1) % every == 0 or k + 1 == steps):
            manager.save(k + 1, args=ocp.args.StandardSave(run))
    jax.block_until_ready(run)
    if manager:
        manager.close()
    return run


def report(line):
    if jax.process_index() == 0:
        print(line, flush=True)


def stop_at_once():
    """End without waiting for the other processes, one of which may be dead."""
    traceback.print_exc()
    print(
        f"process {jax.process_index()} stops, as the step failed: another process may "
        "have died. Start all of them again: they go on from the last checkpoint.",
        file=sys.stderr,
        flush=True,
    )
    os._exit(1)


def connect(arguments):
    """Join the other processes, if there are any; Slurm is found by JAX itself."""
    slurm = int(os.environ.get("SLURM_STEP_NUM_TASKS", 1)) > 1
    if arguments.coordinator or slurm:
        options = {}
        if arguments.heartbeat is not None:  # JAX 0.7 or later
            options["heartbeat_timeout_seconds"] = arguments.heartbeat
        jax.distributed.initialize(
            arguments.coordinator, arguments.processes, arguments.process_id, **options
        )


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    env = os.environ.get
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--checkpoints", type=Path, help="a folder that all hosts see")
    parser.add_argument("--every", type=int, default=100, help="steps to a checkpoint")
    parser.add_argument("--coordinator", default=env("JAX_COORDINATOR_ADDRESS"))
    parser.add_argument("--processes", type=int, default=env("JAX_NUM_PROCESSES"))
    parser.add_argument("--process-id", type=int, default=env("JAX_PROCESS_ID"))
    parser.add_argument(
        "--heartbeat", type=int, help="seconds until a silent process counts as dead"
    )
    return parser.parse_args()


def main():
    arguments = parse()
    connect(arguments)
    folder = arguments.checkpoints and arguments.checkpoints.absolute()
    images, test_images, labels, test_labels = load()
    try:
        run = train(images, labels, arguments.steps, arguments.every, folder)
    except Exception:
        if jax.process_count() == 1:
            raise
        stop_at_once()
    params = jax.device_get(run["params"])
    logits = Network().apply({"params": params}, test_images)
    accuracy = (logits.argmax(axis=-1) == test_labels).mean()
    loss = mean_loss(params, images, labels)
    report(f"training loss {loss:.2e}, test accuracy {accuracy:.4f}")


if __name__ == "__main__":
    main()
