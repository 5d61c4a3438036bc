"""
Several hosts, and a restart
============================

A classifier of handwritten digits on all devices of all processes. The batch is split
over the devices, and so is the state of the optimizer (ZeRO-1). If a process dies, the
others end too; the same command again goes on from the last checkpoint.

::

    pip install ".[examples]"  # in a clone of the repository
    JAX_NUM_CPU_DEVICES=8 python examples/train_multihost.py
    srun python examples/train_multihost.py --checkpoints /shared/run
    python examples/train_multihost.py --coordinator host0:1234 \\
        --processes 2 --process-id 0
"""

import argparse
import functools
import os
import sys
import traceback
from pathlib import Path

import jax
import matplotlib.pyplot as plt
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
from rmsprop_jax.plots import COLORS

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


# %%
# Parameters are made on every device, and of the state each device makes its part. The
# step writes what it makes over what it is given.


def start(tx, mesh):
    everywhere = NamedSharding(mesh, PartitionSpec())
    make = jax.jit(Network().init, out_shardings=everywhere)
    params = make(jax.random.key(0), np.zeros((1, 64), np.float32))["params"]
    state = sharding.init_sharded(
        tx, params, sharding.zero1_shardings(tx, params, mesh)
    )
    return {"params": params, "state": state}


def make_step(tx, run):
    shardings = jax.tree.map(lambda x: x.sharding, run)

    @functools.partial(jax.jit, donate_argnums=0, out_shardings=(shardings, None))
    def step(run, images, labels):
        params, state = run["params"], run["state"]
        loss, gradients = jax.value_and_grad(mean_loss)(params, images, labels)
        updates, state = tx.update(gradients, state, params)
        return {"params": optax.apply_updates(params, updates), "state": state}, loss

    return step


def split(mesh, x):
    """Make one array of all processes; each reads only what its devices hold."""
    parts = NamedSharding(mesh, PartitionSpec("data"))
    return jax.make_array_from_callback(x.shape, parts, lambda index: x[index])


def train(images, labels, steps, every=100, folder=None):
    """Go on from the last checkpoint; give parameters and state, and losses by step."""
    mesh = jax.make_mesh((jax.device_count(),), ("data",))
    schedule = optax.cosine_decay_schedule(0.003, steps)
    tx = rmsprop(schedule, decay=0.9, storage="uint8")
    run, first, losses, manager = start(tx, mesh), 0, {}, None
    step = make_step(tx, run)
    if folder is not None:
        options = ocp.CheckpointManagerOptions(max_to_keep=2)
        manager = ocp.CheckpointManager(folder, options=options)
        first = manager.latest_step() or 0
        if first:
            run = orbax.restore(folder / str(first) / "default", run)
            print(f"going on from step {first}", flush=True)
    rest = range(first, steps)
    for k in track(rest, "Training", disable=jax.process_index() > 0):
        # The rows depend on the step alone, so that a restart draws the same ones.
        rows = np.random.default_rng(k).choice(len(labels), BATCH, replace=False)
        run, loss = step(run, split(mesh, images[rows]), split(mesh, labels[rows]))
        # Waits for the step: devices of one CPU share threads, so that many steps at
        # once can wait for each other for ever.
        losses[k] = float(loss)
        if manager and ((k + 1) % every == 0 or k + 1 == steps):
            manager.save(k + 1, args=ocp.args.StandardSave(run))
    if manager:
        manager.close()
    return run, losses


# %%
# A process whose step fails must not wait for the others, one of which may be dead.


def stop_at_once():
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
    parser = argparse.ArgumentParser(description=__doc__)
    add, env = parser.add_argument, os.environ.get
    add("--steps", type=int, default=600)
    add("--out", default="train_multihost.png")
    add("--checkpoints", type=Path, help="a folder that all hosts see")
    add("--every", type=int, default=100, help="steps to a checkpoint")
    add("--coordinator", default=env("JAX_COORDINATOR_ADDRESS"))
    add("--processes", type=int, default=env("JAX_NUM_PROCESSES"))
    add("--process-id", type=int, default=env("JAX_PROCESS_ID"))
    add("--heartbeat", type=int, help="seconds until a silent process counts as dead")
    return parser.parse_args()


def main():
    arguments = parse()
    connect(arguments)
    folder = arguments.checkpoints and arguments.checkpoints.absolute()
    images, test_images, labels, test_labels = load()
    try:
        run, losses = train(images, labels, arguments.steps, arguments.every, folder)
    except Exception:
        if jax.process_count() == 1:
            raise
        stop_at_once()
    if jax.process_index() > 0:
        return
    params = jax.device_get(run["params"])
    logits = Network().apply({"params": params}, test_images)
    accuracy = (logits.argmax(axis=-1) == test_labels).mean()
    _, ax = plt.subplots(figsize=(7, 4), layout="constrained")
    ax.semilogy(list(losses), list(losses.values()), ".", color=COLORS[0], alpha=0.5)
    ax.set(xlabel="step", ylabel="loss of the batch")
    ax.figure.savefig(arguments.out, dpi=120)
    print(
        f"training loss {mean_loss(params, images, labels):.2e}, test accuracy "
        f"{accuracy:.4f} after {arguments.steps} steps; "
        f"devices: {jax.device_count()}."
    )


if __name__ == "__main__":
    main()
