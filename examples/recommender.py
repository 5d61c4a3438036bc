"""
A recommender with sparse updates
=================================

A matrix of ratings is factorized into a table of users and one of items, of which a
step touches a few thousand rows. ``rmsprop`` updates all rows in every step, and with
momentum, weight decay and a schedule all of them move. ``sparse.rmsprop`` costs what
the touched rows cost and gives the same tables: what a row has missed is made up for
when it is next read.

The ratings are drawn from a known matrix, with noise, for users and items of power-law
popularity. The error is the root mean square against that matrix.

::

    pip install ".[examples]"  # in a clone of the repository
    python examples/recommender.py
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

from rmsprop_jax import rmsprop, sparse
from rmsprop_jax.plots import COLORS

ROWS = {"users": 1_000_000, "items": 20_000}
RANK, BATCH = 8, 4096


def make_ratings(rng):
    """Give a function that draws ratings."""
    truth = {k: rng.standard_normal((n, RANK)) / RANK**0.25 for k, n in ROWS.items()}
    popularity = {k: np.cumsum(1 / np.arange(10, n + 10)) for k, n in ROWS.items()}

    def draw(n, noise):
        batch = {
            k: np.searchsorted(p, rng.uniform(0, p[-1], n))
            for k, p in popularity.items()
        }
        stars = np.sum(np.prod([truth[k][batch[k]] for k in ROWS], axis=0), axis=1)
        stars += noise * rng.standard_normal(n)
        return batch | {"stars": stars.astype(np.float32)}

    return draw


def mean_square(params, tables, batch):
    """Compute the loss: tables may be arrays, or what `sparse` gives in their place."""
    del params  # there are none beside the tables
    product = tables["users"][batch["users"]] * tables["items"][batch["items"]]
    return jnp.mean((jnp.sum(product, axis=1) - batch["stars"]) ** 2)


def options(steps):
    return dict(
        learning_rate=optax.warmup_cosine_decay_schedule(0, 0.01, steps // 20, steps),
        decay=0.99,
        momentum=0.9,
        weight_decay=0.05,
        decoupled_weight_decay=True,
    )


# %%
# Each of the two gives three functions: the state of some tables, the step, and the
# tables as they are after the last step, which for the sparse one is to ``flush`` them.


def make_sparse(steps):
    tx = sparse.rmsprop(**options(steps))
    value_and_grad = sparse.value_and_row_grad(mean_square, tx)

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(tables, states, batch):
        _, (_, rows) = value_and_grad(None, tables, states, batch)
        new = {k: tx.update(tables[k], states[k], *rows[k]) for k in tables}
        return {k: x[0] for k, x in new.items()}, {k: x[1] for k, x in new.items()}

    @jax.jit
    def current(tables, states):
        return {k: tx.flush(tables[k], states[k])[0] for k in tables}

    def init(tables):
        return {k: tx.init(x) for k, x in tables.items()}

    return init, step, current


def make_dense(steps):
    tx = rmsprop(**options(steps))

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(tables, state, batch):
        gradients = jax.grad(mean_square, argnums=1)(None, tables, batch)
        updates, state = tx.update(gradients, state, tables)
        return optax.apply_updates(tables, updates), state

    return tx.init, step, lambda tables, state: tables


def train(name, optimizer, steps):
    """Give the tables at the end, errors on the way, and the seconds of a step."""
    init, step, current = optimizer
    rng = np.random.default_rng(0)
    draw = make_ratings(rng)
    test = draw(50_000, noise=0.0)
    tables = {
        k: jnp.float32(0.1 * rng.standard_normal((n, RANK))) for k, n in ROWS.items()
    }
    state, marks, errors, seconds = init(tables), [], [], []
    for k in track(range(steps + 1), name):
        if k % max(1, steps // 20) == 0 or k == steps:
            marks.append(k)
            errors.append(float(mean_square(None, current(tables, state), test)) ** 0.5)
        if k < steps:
            batch = draw(BATCH, noise=0.5)
            began = time.perf_counter()
            tables, state = jax.block_until_ready(step(tables, state, batch))
            seconds.append(time.perf_counter() - began)
    return current(tables, state), marks, errors, np.median(seconds)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--out", default="recommender.png")
    arguments = parser.parse_args()
    steps, ends, errors, seconds = arguments.steps, {}, {}, {}
    for name, make in (("dense", make_dense), ("sparse", make_sparse)):
        ends[name], marks, errors[name], seconds[name] = train(name, make(steps), steps)

    _, (left, right) = plt.subplots(1, 2, figsize=(8, 3.8), layout="constrained")
    looks = dict(lw=5, alpha=0.4, color=COLORS[1]), dict(color=COLORS[0])
    for (name, curve), look in zip(errors.items(), looks, strict=True):
        left.plot(marks, curve, label=name, **look)
        right.plot(np.multiply(marks, seconds[name]), curve, **look)
    left.set(xlabel="step", ylabel="error against the truth")
    left.legend(frameon=False)
    right.set(xlabel="seconds, at the median step")
    left.figure.savefig(arguments.out, dpi=120)

    pairs = zip(*map(jax.tree.leaves, ends.values()), strict=True)
    gap = max(float(jnp.max(jnp.abs(a - b))) for a, b in pairs)
    largest = max(float(jnp.max(jnp.abs(x))) for x in jax.tree.leaves(ends["dense"]))
    print(
        f"After {steps} steps no number of the tables differs by more than {gap:.1e}, "
        f"the largest being {largest:.2f}; a step took {1e3 * seconds['dense']:.1f} ms "
        f"dense and {1e3 * seconds['sparse']:.1f} ms sparse."
    )


if __name__ == "__main__":
    main()
