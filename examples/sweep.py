"""
Sixty-four runs in one jit
==========================

Numbers of an optimizer may be traced, so a sweep is one ``jax.vmap`` over a function
that makes the optimizer and trains with it: here 16 learning rates times 4 decays. The
one program is compiled once, and all runs take their steps together.

The picture has the loss on test images at the end of each run, of a classifier of
handwritten digits. Without bias correction the first step is ``1/sqrt(1 - decay)``
times as long as the learning rate; so the largest learning rate that trains falls as
the decay grows.

::

    pip install ".[examples]"  # in a clone of the repository
    python examples/sweep.py
"""

import argparse
import functools
import time

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from rich.progress import track
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from rmsprop_jax import plots, rmsprop

RATES = np.logspace(-4, -0.25, 16)
DECAYS = [0.5, 0.9, 0.99, 0.999]
BATCH = 32


def init(key):
    hidden, output = jax.random.split(key)
    return {
        "hidden": jax.random.normal(hidden, (64, 32)) / 8,
        "output": jax.random.normal(output, (32, 10)) / 32**0.5,
    }


def mean_loss(params, images, labels):
    logits = jax.nn.relu(images @ params["hidden"]) @ params["output"]
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def train(rate, decay, steps, data):
    """Train from one start on one order of batches; give the loss on test images."""
    images, test_images, labels, test_labels = data
    tx = rmsprop(rate, decay)

    def step(run, key):
        params, state = run
        rows = jax.random.randint(key, (BATCH,), 0, len(labels))
        gradients = jax.grad(mean_loss)(params, images[rows], labels[rows])
        updates, state = tx.update(gradients, state, params)
        return (optax.apply_updates(params, updates), state), None

    params = init(jax.random.key(0))
    keys = jax.random.split(jax.random.key(1), steps)
    (params, _), _ = jax.lax.scan(step, (params, tx.init(params)), keys)
    return mean_loss(params, test_images, test_labels)


def seconds(f, *arguments):
    """Time a call; give its result too."""
    began = time.perf_counter()
    result = jax.block_until_ready(f(*arguments))
    return result, time.perf_counter() - began


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--out", default="sweep.png")
    arguments = parser.parse_args()
    images, labels = load_digits(return_X_y=True)
    data = train_test_split(
        jnp.asarray(images / 16, jnp.float32), jnp.asarray(labels), random_state=0
    )
    run = functools.partial(train, steps=arguments.steps, data=data)
    rates, decays = (x.ravel() for x in np.meshgrid(RATES, DECAYS, indexing="ij"))

    sweep = jax.jit(jax.vmap(run)).lower(rates, decays).compile()
    losses, together = seconds(sweep, rates, decays)

    single = jax.jit(run).lower(rates[0], decays[0]).compile()
    pairs = list(zip(rates, decays, strict=True))
    alone = sum(seconds(single, *pair)[1] for pair in track(pairs, "One by one"))

    _, ax = plt.subplots(figsize=(6, 6.5), layout="constrained")
    plots.heat_map(
        losses.reshape(len(RATES), len(DECAYS)),
        ("learning rate", [f"{rate:.1e}" for rate in RATES]),
        ("decay", DECAYS),
        ax=ax,
    )
    ax.set_title("loss of test images")
    ax.figure.savefig(arguments.out, dpi=120)

    best = np.nanargmin(losses)
    print(
        f"{len(rates)} runs of {arguments.steps} steps took {together:.2f} s in one "
        f"program and {alone:.2f} s one by one, both compiled before; the best has a "
        f"learning rate of {rates[best]:.1e} and a decay of {decays[best]}."
    )


if __name__ == "__main__":
    main()
