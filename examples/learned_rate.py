"""
Learning the learning rate
==========================

An optimizer is a function like any other: the loss of a short training run has a
derivative with respect to its learning rate, which ``jax.grad`` takes through every
step. So RMSProp can train the learning rate of RMSProp, or rather its logarithm, which
may be any number. It is started far too low and far too high.

The runs are 20 steps of a linear classifier of handwritten digits. Some pixels are
never inked: their gradients are zero, where the root of the second moment has no
derivative. With ``eps`` outside the root, as in PyTorch, ``optax.rmsprop`` gives NaN.

::

    pip install ".[examples]"  # in a clone of the repository
    python examples/learned_rate.py
"""

import argparse
import functools

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from rich.progress import track
from sklearn.datasets import load_digits

from rmsprop_jax import plots, rmsprop

STARTS = [1e-4, 0.5]
INNER, RUNS, BATCH = 20, 16, 64


def mean_loss(params, images, labels):
    logits = images @ params["kernel"] + params["bias"]
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def run_losses(rate, rows, data, make=rmsprop):
    """Train on these rows, a batch a step; give the loss of each before its step."""
    tx = make(rate, eps_in_sqrt=False)
    params = {"kernel": jnp.zeros((64, 10)), "bias": jnp.zeros(10)}

    def step(run, rows):
        params, state = run
        batch = [x[rows] for x in data]
        loss, gradients = jax.value_and_grad(mean_loss)(params, *batch)
        updates, state = tx.update(gradients, state, params)
        return (optax.apply_updates(params, updates), state), loss

    return jax.lax.scan(step, (params, tx.init(params)), rows)[1]


def outer_loss(log_rate, rows, data):
    """Give the mean loss of RUNS runs, and all their losses."""
    run = functools.partial(run_losses, jnp.exp(log_rate), data=data)
    losses = jax.vmap(run)(rows)
    return losses.mean(), losses


def make_outer_step(tx, data):
    @jax.jit
    def outer_step(log_rate, state, rows):
        gradient, losses = jax.grad(outer_loss, has_aux=True)(log_rate, rows, data)
        updates, state = tx.update(gradient, state)
        return optax.apply_updates(log_rate, updates), state, losses

    return outer_step


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--out", default="learned_rate.png")
    arguments = parser.parse_args()
    images, labels = load_digits(return_X_y=True)
    data = jnp.asarray(images / 16, jnp.float32), jnp.asarray(labels)

    schedule = optax.cosine_decay_schedule(0.2, arguments.steps)
    # A run that diverges can have a derivative of any size.
    tx = optax.chain(optax.clip(1.0), rmsprop(schedule))
    outer_step = make_outer_step(tx, data)

    rates, curves = {}, {}
    for start in STARTS:
        log_rate, rng = jnp.log(start), np.random.default_rng(0)
        state, rates[start], losses = tx.init(log_rate), [start], []
        for _ in track(range(arguments.steps), f"From {start:g}"):
            rows = rng.integers(0, len(labels), (RUNS, INNER, BATCH))
            log_rate, state, loss = outer_step(log_rate, state, rows)
            rates[start].append(float(jnp.exp(log_rate)))
            losses.append(loss)
        curves[f"rate {start:g}"] = losses[0]
        curves[f"learned from {start:g}"] = losses[-1]

    _, (left, right) = plt.subplots(1, 2, figsize=(8, 3.8), layout="constrained")
    plots.losses({f"from {k:g}": x for k, x in rates.items()}, ax=left)
    left.set(xlabel="outer step", ylabel="learning rate")
    plots.losses(curves, ax=right).set(xlabel="step of a run", xlim=(0, INNER))
    left.figure.savefig(arguments.out, dpi=120)

    def of_optax(rate):
        return run_losses(rate, rows[0], data, optax.rmsprop).mean()

    low, high = STARTS
    print(
        f"In {arguments.steps} steps the learning rate went from {low:g} to "
        f"{rates[low][-1]:.3f} and from {high:g} to {rates[high][-1]:.3f}; through "
        f"`optax.rmsprop` its derivative is {jax.jit(jax.grad(of_optax))(low)}."
    )


if __name__ == "__main__":
    main()
