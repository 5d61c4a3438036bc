"""
One byte of optimizer state
===========================

RMSProp keeps one number beside each parameter, the second moment ``s``. In float32 that
is half of what training keeps between steps. ``storage="uint8"`` keeps it in one byte;
``master_weights`` keeps the byte that a bfloat16 parameter lacks, so that parameters,
weights and ``s`` take four bytes in all. Without that byte a bfloat16 parameter stands
still where a step is smaller than 1/256 of it.

A classifier of handwritten digits is trained in each way from five starts. The lines
are medians; the bands go from the lowest loss to the highest.

::

    pip install ".[examples]"  # in a clone of the repository
    python examples/one_byte.py
"""

import argparse

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from rich.progress import track
from sklearn.datasets import load_digits

from rmsprop_jax import master_weights, plots, rmsprop

SEEDS, MARKS, BATCH = 5, 30, 32
SMALL = "bfloat16, s in uint8"
MASTER = "and master weights"
# Name: dtype of the parameters, storage of the second moment.
CONTENDERS = {
    "float32": (jnp.float32, "float32"),
    "s in bfloat16": (jnp.float32, "bfloat16"),
    "s in uint8": (jnp.float32, "uint8"),
    SMALL: (jnp.bfloat16, "uint8"),
    MASTER: (jnp.bfloat16, "uint8"),
}


def make_optimizer(name, steps):
    schedule = optax.cosine_decay_schedule(5e-4, steps)
    tx = rmsprop(schedule, storage=CONTENDERS[name][1])
    return master_weights(tx) if name == MASTER else tx


def init(key, dtype):
    sizes = (64, 64), (64, 10)
    return [
        {
            "kernel": (jax.random.normal(k, size) / size[0] ** 0.5).astype(dtype),
            "bias": jnp.zeros(size[1], dtype),
        }
        for k, size in zip(jax.random.split(key), sizes, strict=True)
    ]


def mean_loss(params, images, labels):
    hidden, output = params
    x = jax.nn.relu(images @ hidden["kernel"] + hidden["bias"])
    logits = x @ output["kernel"] + output["bias"]
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def train(tx, params, key, steps, images, labels):
    """Give parameters and state at the end, and the loss of all images on the way."""

    def step(run, key):
        params, state = run
        rows = jax.random.randint(key, (BATCH,), 0, len(labels))
        gradients = jax.grad(mean_loss)(params, images[rows], labels[rows])
        updates, state = tx.update(gradients, state, params)
        return (optax.apply_updates(params, updates), state), None

    def some_steps(run, keys):
        run, _ = jax.lax.scan(step, run, keys)
        return run, mean_loss(run[0], images, labels)

    keys = jax.random.split(key, (MARKS, steps // MARKS))
    run, losses = jax.lax.scan(some_steps, (params, tx.init(params)), keys)
    return run, jnp.append(mean_loss(params, images, labels), losses)


def bytes_a_parameter(params, state):
    """What lies in memory, over the number of parameters."""
    n = sum(x.size for x in jax.tree.leaves(params))
    return [
        sum(x.nbytes for x in jax.tree.leaves(tree)) / n for tree in (params, state)
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=2100)
    parser.add_argument("--out", default="one_byte.png")
    arguments = parser.parse_args()
    steps = max(1, arguments.steps // MARKS) * MARKS
    images, labels = load_digits(return_X_y=True)
    images, labels = jnp.asarray(images / 16, jnp.float32), jnp.asarray(labels)

    losses, sizes = {}, {}
    for name, (dtype, _) in track(CONTENDERS.items(), "Training"):
        tx = make_optimizer(name, steps)

        def run(key, tx=tx, dtype=dtype):
            return train(tx, init(key, dtype), key, steps, images, labels)

        kept, losses[name] = jax.jit(jax.vmap(run))(
            jax.random.split(jax.random.key(0), SEEDS)
        )
        sizes[name] = bytes_a_parameter(*kept)

    _, (top, bottom) = plt.subplots(
        2, figsize=(7, 6), height_ratios=(2.4, 1), layout="constrained"
    )
    plots.losses(losses, steps=np.linspace(0, steps, MARKS + 1), ax=top)
    top.set(ylabel="loss of all images")
    params, state = zip(*sizes.values(), strict=True)
    names = list(sizes)
    bottom.barh(names, params, color="0.73", label="parameters")
    bottom.barh(names, state, left=params, color="0.4", label="optimizer state")
    bottom.invert_yaxis()
    bottom.set(xlabel="bytes a parameter", xlim=(0, 11))
    bottom.legend(frameon=False)
    bottom.spines[["top", "right"]].set_visible(False)
    top.figure.savefig(arguments.out, dpi=120)

    ends = [
        f"{np.median(losses[name][:, -1]):.4f} at {sum(sizes[name]):.2f} bytes"
        for name in ("float32", MASTER, SMALL)
    ]
    print(
        f"Loss after {steps} steps: {ends[0]} a parameter in float32, {ends[1]} with "
        f"bfloat16 parameters and master weights, {ends[2]} without these."
    )


if __name__ == "__main__":
    main()
