"""
Linear regression: features in their own units
==============================================

The diabetes data of scikit-learn: age in years, blood pressure in mmHg, six blood
tests, and how far the disease went in a year. In their own units the features vary by
factors of up to 70, so the rate that suits one weight is wrong for another. RMSProp and
Adam divide each gradient by its usual size; SGD does not, and needs the features scaled
to variance one.

All optimizers get the same batches, the same schedule, and the best rate of the same
grid. All rates and all seeds of an optimizer are one jitted, vmapped training. ::

    pip install ".[examples]"  # in a clone of the repository
    python examples/linear_regression.py
"""

import argparse
import itertools

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from rich.progress import track
from sklearn.datasets import load_diabetes

from rmsprop_jax import plots, rmsprop

OPTIMIZERS = {
    "RMSProp": rmsprop,
    "SGD with momentum": lambda learning_rate: optax.sgd(learning_rate, 0.9),
    "Adam": optax.adam,
}
RATES = 10 ** np.arange(-5, 1.1, 0.5)


def load(scaled):
    """Centered features and targets, so that no intercept is needed."""
    features, targets = load_diabetes(return_X_y=True, scaled=False)
    features -= features.mean(axis=0)
    if scaled:
        features /= features.std(axis=0)
    targets -= targets.mean()
    return jnp.asarray(features, jnp.float32), jnp.asarray(targets, jnp.float32)


def squared_error(weights, features, targets):
    return jnp.mean((features @ weights - targets) ** 2)


def make_training(make_optimizer, features, targets, steps):
    """A compiled function of rates and keys: weights (rates, keys, steps + 1, n)."""

    def train(rate, key):
        tx = make_optimizer(optax.linear_schedule(rate, 0.0, steps))

        def step(carry, key):
            weights, state = carry
            rows = jax.random.randint(key, (32,), 0, len(targets))
            grads = jax.grad(squared_error)(weights, features[rows], targets[rows])
            updates, state = tx.update(grads, state, weights)
            return (optax.apply_updates(weights, updates), state), weights

        weights = jnp.zeros(features.shape[1])
        keys = jax.random.split(key, steps + 1)
        return jax.lax.scan(step, (weights, tx.init(weights)), keys)[1]

    over_keys = jax.vmap(train, in_axes=(None, 0))
    return jax.jit(jax.vmap(over_keys, in_axes=(0, None)))


def compete(name, features, targets, steps):
    """The rate that is best on some keys, and what it gives on others.

    That is the loss above the least there can be, in its unit.
    """
    solution = jnp.linalg.lstsq(features, targets)[0]
    curvature = features.T @ features / len(targets)

    def above_least(weights):
        error = weights - solution
        above = jnp.einsum("...i,ij,...j", error, curvature, error)
        return above / squared_error(solution, features, targets)

    training = make_training(OPTIMIZERS[name], features, targets, steps)
    tuning, fresh = jnp.split(jax.random.split(jax.random.key(0), 20), 2)
    final = jnp.median(above_least(training(RATES, tuning)[:, :, -1]), axis=1)
    best = jnp.nanargmin(final)  # a rate that diverged has NaN
    return RATES[best], above_least(training(RATES, fresh)[best])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--out", default="linear_regression.png")
    arguments = parser.parse_args()

    runs = list(itertools.product((False, True), OPTIMIZERS))
    curves, above = {False: {}, True: {}}, {}
    for scaled, name in track(runs, "Training"):
        rate, losses = compete(name, *load(scaled), arguments.steps)
        curves[scaled][f"{name}, rate {rate:.2g}"] = losses
        above[scaled, name] = f"{jnp.median(losses[:, -1]):.2%}"

    figure, axes = plt.subplots(
        1, 2, sharey=True, figsize=(9, 4), dpi=150, layout="constrained"
    )
    marks = np.unique(np.linspace(0, arguments.steps, 81).astype(int))
    for ax, scaled in zip(axes, curves, strict=True):
        shown = {name: losses[:, marks] for name, losses in curves[scaled].items()}
        plots.losses(shown, steps=marks, ax=ax)
        ax.set(title="scaled to variance one" if scaled else "in their own units")
    axes[0].set(ylabel="loss above least squares, relative")
    axes[1].set(ylabel="")
    figure.savefig(arguments.out)

    own, scaled = (
        ", ".join(f"{name} {above[s, name]}" for name in OPTIMIZERS) for s in curves
    )
    print(f"Above least squares in their own units: {own}; scaled: {scaled}.")


if __name__ == "__main__":
    main()
