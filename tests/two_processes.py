"""Train a small model in one of two processes that share eight devices.

    python tests/two_processes.py FOLDER ADDRESS PROCESS

Saves parameters and state in FOLDER. Imports little, since most of the time of a short
run is that of its imports.
"""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
from jax.sharding import NamedSharding, PartitionSpec

from rmsprop_jax import rmsprop, sharding

STEPS, BATCH = 4, 16


def loss(params, inputs, targets):
    return jnp.mean((jnp.tanh(inputs @ params["w"]) - targets) ** 2)


def train():
    """Return parameters and state: the batch is sharded, and so is the state."""
    mesh = jax.make_mesh((jax.device_count(),), ("data",))
    tx = rmsprop(0.01, centered=True, momentum=0.9, storage="uint8")
    data = NamedSharding(mesh, PartitionSpec("data"))
    everywhere = NamedSharding(mesh, PartitionSpec())
    params = {"w": jnp.linspace(-1.0, 1.0, 64 * 8).reshape(64, 8)}
    params = jax.device_put(params, everywhere)
    shardings = sharding.zero1_shardings(tx, params, mesh)
    state = sharding.init_sharded(tx, params, shardings)

    def step(params, state, inputs, targets):
        gradients = jax.grad(loss)(params, inputs, targets)
        updates, state = tx.update(gradients, state, params)
        return optax.apply_updates(params, updates), state

    step = jax.jit(step, out_shardings=(everywhere, shardings))
    rng = np.random.default_rng(0)
    for _ in range(STEPS):
        batch = (
            jax.make_array_from_callback(x.shape, data, x.__getitem__)
            for x in (
                rng.standard_normal((BATCH, 64), np.float32),
                rng.standard_normal((BATCH, 8), np.float32),
            )
        )
        params, state = jax.block_until_ready(step(params, state, *batch))
    return {"params": params, "state": state}


def main():
    folder, address, process = sys.argv[1:]
    jax.distributed.initialize(address, 2, int(process))
    assert jax.device_count() == 8 and jax.local_device_count() == 4
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(Path(folder) / "end", train())


if __name__ == "__main__":
    main()
