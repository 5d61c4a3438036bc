"""
AdaGrad's steps vanish, RMSProp's do not
========================================

Both divide each gradient by a root of past squares. AdaGrad sums all of them, so what a
gradient is multiplied by falls as one over the root of time, near a minimum or not.
RMSProp averages the recent ones, and it stays.

First picture, the example of *Dive into Deep Learning*: 20 steps on
``0.1 x² + 2 y²`` at a rate of 0.4. The other two: a minimum that goes around a circle
every 1,000 steps, and gradients with noise. Each optimizer has the rate that follows it
best for the first 1,000 steps, and the run goes on. ::

    pip install ".[examples]"  # in a clone of the repository
    python examples/adagrad_story.py
"""

import argparse

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from rich.progress import track

from rmsprop_jax import plots, scale_by_rmsprop

OPTIMIZERS = {
    "RMSProp": scale_by_rmsprop(decay=0.9, eps=1e-6),
    "AdaGrad": optax.scale_by_rss(initial_accumulator_value=0.0, eps=1e-6),
}
TURN = 1000
RATES = 10 ** np.arange(-3, 2.1, 0.25)


def valley(x, y):
    return 0.1 * x**2 + 2 * y**2


def descend(scale):
    """Where 20 steps down the valley lead."""

    def step(carry, _):
        point, state = carry
        updates, state = scale.update(jax.grad(lambda p: valley(*p))(point), state)
        point = point - 0.4 * updates
        return (point, state), point

    start = jnp.array([-5.0, -2.0])
    points = jax.lax.scan(step, (start, scale.init(start)), length=20)[1]
    return jnp.concatenate([start[None], points])


def follow(scale, rate, key, steps):
    """The loss after each step, and what the gradient was multiplied by."""

    def step(carry, now):
        point, state = carry
        time, key = now
        angle = 2 * jnp.pi * time / TURN
        minimum = jnp.stack([jnp.cos(angle), jnp.sin(angle)])
        noise = 0.5 * jax.random.normal(key, (2,))
        gradient = point - minimum + noise
        updates, state = scale.update(gradient, state)
        point = point - rate * updates
        factor = jnp.mean(rate * updates / gradient)
        return (point, state), (jnp.sum((point - minimum) ** 2) / 2, factor)

    start = jnp.zeros(2)
    now = jnp.arange(steps), jax.random.split(key, steps)
    return jax.lax.scan(step, (start, scale.init(start)), now)[1]


def tune(scale, steps):
    """The rate with the least mean loss over as many steps."""
    keys = jax.random.split(jax.random.key(0), 20)

    def mean_loss(rate):
        return jnp.mean(jax.vmap(lambda key: follow(scale, rate, key, steps)[0])(keys))

    return RATES[jnp.argmin(jax.jit(jax.vmap(mean_loss))(RATES))]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=30_000)
    parser.add_argument("--out", default="adagrad_story.png")
    arguments = parser.parse_args()
    steps = arguments.steps
    # Means over stretches that get longer, for logarithmic axes.
    edges = np.unique(np.geomspace(1, steps + 1, 60).astype(int)) - 1

    paths, losses, factors = {}, {}, {}
    keys = jax.random.split(jax.random.key(1), 20)
    for name, scale in track(OPTIMIZERS.items(), "Following"):
        paths[name] = descend(scale)
        rate = tune(scale, min(TURN, steps))
        runs = jax.jit(jax.vmap(follow, (None, None, 0, None)), static_argnums=(0, 3))
        losses[name], factors[name] = (
            np.add.reduceat(x, edges[:-1], axis=1) / np.diff(edges)
            for x in runs(scale, rate, keys, steps)
        )

    figure, axes = plt.subplots(1, 3, figsize=(9, 3.4), dpi=150, layout="constrained")
    plots.path(valley, paths, ax=axes[0]).set(title="20 steps in a valley")
    for ax, curves in zip(axes[1:], (factors, losses), strict=True):
        plots.losses(curves, steps=edges[1:], ax=ax).set(xscale="log", ylabel="")
    axes[1].set(title="effective learning rate")
    axes[2].set(title="loss, minimum on a circle")
    figure.savefig(arguments.out)

    ends = ", ".join(
        f"{name} at a loss of {np.median(losses[name][:, -1]):.2g} with an effective "
        f"learning rate of {np.median(factors[name][:, -1]):.2g}"
        for name in OPTIMIZERS
    )
    print(f"At the end of {steps} steps, {ends}.")


if __name__ == "__main__":
    main()
