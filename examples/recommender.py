"""Factorize a matrix of ratings with sparse RMSProp, beside dense RMSProp.

pip install "rmsprop_jax[examples]"
python recommender.py

A million ratings of 20,000 users and 5,000 items, drawn with power laws from a known
matrix of low rank, with noise. Users and items are two tables; the average rating is an
ordinary parameter. Momentum, weight decay and the schedule move every row in every
step, and the sparse run follows the dense one all the same.
"""

import argparse
import functools
import time
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure
from rich.progress import track

from rmsprop_jax import rmsprop, sparse

USERS, ITEMS, RATINGS, RANK, NOISE = 20_000, 5_000, 1_000_000, 8, 0.5
DIM = RANK + 1  # the last column is the bias of the user or item
BATCH = 4096
SIZES = (10_000, 100_000, 1_000_000)


class Ratings(NamedTuple):
    users: np.ndarray
    items: np.ndarray
    stars: np.ndarray


def generate(seed: int) -> tuple[Ratings, Ratings]:
    """Draw ratings to train on, and what the truth is without noise for others."""
    rng = np.random.default_rng(seed)
    tables = [
        np.concatenate(
            [rng.normal(0, 0.45, (n, RANK)), rng.normal(0, 0.4, (n, 1))], axis=1
        )
        for n in (USERS, ITEMS)
    ]

    def draw(n: int, noise: float) -> Ratings:
        users, items = (power_law(rng, rows, n) for rows in (USERS, ITEMS))
        u, v = tables[0][users], tables[1][items]
        stars = 3.5 + np.sum(u[:, :-1] * v[:, :-1], axis=1) + u[:, -1] + v[:, -1]
        stars += noise * rng.standard_normal(n)
        return Ratings(users, items, stars.astype(np.float32))

    return draw(RATINGS, NOISE), draw(50_000, 0.0)


def power_law(rng: np.random.Generator, rows: int, n: int) -> np.ndarray:
    weights = np.arange(10, rows + 10) ** -0.8
    ids = rng.choice(rows, n, p=weights / weights.sum())
    return rng.permutation(rows)[ids].astype(np.int32)


def predict(average, tables, ratings: Ratings):
    """Tables may be arrays or what `sparse.value_and_grad` gives in their place."""
    u, v = tables["users"][ratings.users], tables["items"][ratings.items]
    return average + jnp.sum(u[:, :-1] * v[:, :-1], axis=1) + u[:, -1] + v[:, -1]


def loss(average, tables, ratings: Ratings):
    return jnp.mean((predict(average, tables, ratings) - ratings.stars) ** 2)


def options(steps: int) -> dict:
    return dict(
        learning_rate=optax.warmup_cosine_decay_schedule(0, 5e-3, steps // 20, steps),
        decay=0.99,
        momentum=0.9,
        weight_decay=0.05,
        decoupled_weight_decay=True,
    )


def start(seed: int):
    rng = np.random.default_rng(seed)
    sizes = {"users": USERS, "items": ITEMS}
    tables = {
        k: jnp.asarray(rng.normal(0, 0.1, (n, DIM)), jnp.float32)
        for k, n in sizes.items()
    }
    return jnp.asarray(3.0), tables


def sparse_optimizer(steps: int):
    """Give the start, a step, and the tables as they are after some steps."""
    average_tx = rmsprop(options(steps)["learning_rate"])
    tx = sparse.rmsprop(**options(steps))
    grad = sparse.value_and_grad(loss, tx)

    @functools.partial(jax.jit, donate_argnums=0)
    def step(carry, ratings: Ratings):
        average, average_state, tables, states = carry
        _, (g, rows) = grad(average, tables, states, ratings)
        updates, average_state = average_tx.update(g, average_state, average)
        tables, states = dict(tables), dict(states)
        for k in tables:
            tables[k], states[k] = tx.update(tables[k], states[k], *rows[k])
        return optax.apply_updates(average, updates), average_state, tables, states

    @jax.jit
    def finish(carry):
        average, _, tables, states = carry
        return average, {k: tx.flush(tables[k], states[k])[0] for k in tables}

    average, tables = start(1)
    states = {k: tx.init(x) for k, x in tables.items()}
    return (average, average_tx.init(average), tables, states), step, finish


def dense_optimizer(steps: int):
    """The same with `rmsprop` on all rows."""
    average_tx = rmsprop(options(steps)["learning_rate"])
    tx = rmsprop(**options(steps))

    @functools.partial(jax.jit, donate_argnums=0)
    def step(carry, ratings: Ratings):
        average, average_state, tables, state = carry
        g, table_g = jax.grad(loss, argnums=(0, 1))(average, tables, ratings)
        updates, average_state = average_tx.update(g, average_state, average)
        average = optax.apply_updates(average, updates)
        updates, state = tx.update(table_g, state, tables)
        return average, average_state, optax.apply_updates(tables, updates), state

    def finish(carry):
        return carry[0], carry[2]

    average, tables = start(1)
    return (average, average_tx.init(average), tables, tx.init(tables)), step, finish


@jax.jit
def error(average, tables, truth: Ratings):
    return jnp.sqrt(loss(average, tables, truth))


def train(name: str, optimizer, steps: int, data: Ratings, truth: Ratings):
    """Give the steps at which the error was taken, the errors, and the end."""
    carry, step, finish = optimizer(steps)
    rng = np.random.default_rng(2)
    marks, errors = [], []
    for k in track(range(steps + 1), name):
        if k % max(1, steps // 30) == 0 or k == steps:
            marks.append(k)
            errors.append(float(error(*finish(carry), truth)))
        if k < steps:
            rows = rng.integers(0, len(data.users), BATCH)
            carry = step(carry, Ratings(*(x[rows] for x in data)))
    return marks, errors, finish(carry)


def seconds_a_step(rows: int, rounds: int) -> tuple[float, float]:
    """Time a sparse and a dense step of one table, from the gradients of its rows."""
    sparse_tx, dense_tx = (f(1e-3) for f in (sparse.rmsprop, rmsprop))
    rng = np.random.default_rng(rows)

    def dense_step(table, state, ids, g):
        g = jnp.zeros_like(table).at[ids].add(g)
        updates, state = dense_tx.update(g, state, table)
        return optax.apply_updates(table, updates), state

    times = []
    for tx, update in ((sparse_tx, sparse_tx.update), (dense_tx, dense_step)):
        table = jnp.asarray(rng.standard_normal((rows, 64), np.float32))
        step = jax.jit(update, donate_argnums=(0, 1))
        carry, seconds = (table, tx.init(table)), []
        for _ in range(rounds + 2):
            ids = jnp.asarray(rng.integers(0, rows, BATCH), jnp.int32)
            g = jnp.asarray(rng.standard_normal((BATCH, 64), np.float32))
            began = time.perf_counter()
            carry = jax.block_until_ready(step(*carry, ids, g))
            seconds.append(time.perf_counter() - began)
        times.append(float(np.median(seconds[2:])))
    return times[0], times[1]


def draw_figure(curves, times, out: Path) -> None:
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(*curves["dense"], color="#D55E00", lw=5, alpha=0.45, label="dense")
    left.plot(*curves["sparse"], color="#0072B2", lw=1.5, label="sparse")
    left.set(
        xlabel="step",
        ylabel="root mean square error against the truth",
        title=f"{RATINGS:,} ratings, {USERS:,} users, {ITEMS:,} items",
    )
    left.set_ylim(bottom=0)
    left.legend(frameon=False)
    both = np.array([times[rows] for rows in SIZES]) * 1e3
    for column, (name, color) in enumerate(
        (("sparse", "#0072B2"), ("dense", "#D55E00"))
    ):
        right.loglog(SIZES, both[:, column], "o-", color=color)
        right.annotate(
            name,
            (SIZES[-1], both[-1, column]),
            xytext=(8, 0),
            textcoords="offset points",
            va="center",
            color=color,
        )
    right.set(
        xlabel="rows of the table, of 64 columns",
        ylabel="milliseconds a step",
        title=f"one step, {BATCH:,} rows touched",
    )
    right.set_xlim(SIZES[0] / 1.5, SIZES[-1] * 3)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(out, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--out", type=Path, help="where to draw the figure")
    arguments = parser.parse_args()
    data, truth = generate(0)

    curves, ends = {}, {}
    for name, optimizer in (("sparse", sparse_optimizer), ("dense", dense_optimizer)):
        marks, errors, ends[name] = train(name, optimizer, arguments.steps, data, truth)
        curves[name] = marks, errors
        print(
            f"{name}: error {errors[0]:.4f} at the start, {errors[-1]:.4f} at the end"
        )
    gaps = jax.tree.map(lambda a, b: float(jnp.max(jnp.abs(a - b))), *ends.values())
    moved = max(float(jnp.max(jnp.abs(x))) for x in ends["dense"][1].values())
    print(
        f"largest difference of a parameter: {max(jax.tree.leaves(gaps)):.1e}", end=""
    )
    print(f", of values up to {moved:.2f}")

    times = {}
    for rows in SIZES:
        times[rows] = seconds_a_step(rows, min(10, arguments.steps))
        fast, slow = (1e3 * x for x in times[rows])
        print(f"{rows:9,} rows: sparse {fast:7.2f} ms a step, dense {slow:7.2f} ms")
    if arguments.out:
        draw_figure(curves, times, arguments.out)


if __name__ == "__main__":
    main()
