"""Time of a sparse step against the size of the table, and against a dense step.

    python benchmarks/sparse_rows.py --json benchmarks/sparse-rows.json

All tables are larger than the cache, and all of their pages are touched before the
first step. The two sizes take turns, step by step; then dense and sparse steps do, on
the larger table and the same second moments.
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from rmsprop_jax import RMSPropState, scale_by_rmsprop, sparse

DIM, BATCH, RATE = 64, 4096, 1e-3
SIZES = (500_000, 5_000_000)
SCHEDULED: dict[str, Any] = dict(
    learning_rate=optax.cosine_decay_schedule(RATE, 10_000),
    weight_decay=1e-2,
    decoupled_weight_decay=True,
)
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "momentum": dict(momentum=0.9),
    "row_wise": dict(row_wise=True),
    "uint8": dict(storage="uint8"),
    "bfloat16": dict(storage="bfloat16"),
    "schedule": dict(**SCHEDULED, momentum=0.9),
    "schedule, momentum 0.99999": dict(**SCHEDULED, momentum=0.99999),
}


class Run(NamedTuple):
    """One compiled step on a table, and its times."""

    step: Callable[..., Any]
    carry: list[Any]
    seconds: list[float]

    def time(self, *batch: Any) -> None:
        start = time.perf_counter()
        self.carry[:] = self.step(*self.carry, *batch)
        jax.block_until_ready(self.carry)
        self.seconds.append(time.perf_counter() - start)


def draw(rng: np.random.Generator, rows: int) -> tuple[jax.Array, jax.Array]:
    """Draw a batch all over the table: the worst case for the cache."""
    g = rng.standard_normal((BATCH, DIM), np.float32)
    return jnp.asarray(rng.integers(0, rows, BATCH), jnp.int32), jnp.asarray(g)


def sparse_run(rows: int, options: dict[str, Any]) -> Run:
    tx = sparse.rmsprop(**{"learning_rate": RATE, **options})
    table = jax.random.normal(jax.random.key(0), (rows, DIM))
    # `+ 0` writes to every page, which an array of zeros alone does not.
    state = jax.jit(lambda x: jax.tree.map(lambda y: y + 0, x))(tx.init(table))
    jax.block_until_ready((table, state))
    step = jax.jit(tx.update, donate_argnums=(0, 1))
    return Run(step, [table, state], [])


def dense_step(table, state, g):
    updates, state = scale_by_rmsprop().update(g, state)
    return jax.tree.map(lambda p, u: p - RATE * u, table, updates), state


def dense_step_from_rows(table, state, ids, g):
    """What `jax.grad` of a loss over `table[ids]` makes of the same rows first."""
    return dense_step(table, state, jnp.zeros_like(table).at[ids].add(g))


def summary(seconds: list[float], warm_up: int) -> dict[str, float]:
    kept = 1e3 * np.array(seconds[warm_up:])
    low, middle, high = np.quantile(kept, [0.1, 0.5, 0.9])
    return dict(milliseconds=float(middle), low=float(low), high=float(high))


def measure(name: str, rounds: int, warm_up: int = 5) -> tuple[dict[str, Any], Run]:
    """Time both sizes, taking turns."""
    rng = np.random.default_rng(0)
    runs = {rows: sparse_run(rows, OPTIONS[name]) for rows in SIZES}
    for _ in range(warm_up + rounds):
        for rows, run in runs.items():
            run.time(*draw(rng, rows))
    rows = {str(k): summary(run.seconds, warm_up) for k, run in runs.items()}
    pairs = (np.array(runs[k].seconds[warm_up:]) for k in SIZES)
    small, large = pairs
    rows["ratio"] = float(np.median(large) / np.median(small))
    return rows, runs[SIZES[-1]]


def measure_dense(run: Run, rounds: int, between: int = 24) -> dict[str, Any]:
    """Time dense steps, with sparse ones between them, on the same arrays.

    A dense step leaves nothing in the caches. The first third of the sparse steps after
    it is not counted.
    """
    rng = np.random.default_rng(1)
    table, state = run.carry
    g = jax.random.normal(jax.random.key(1), table.shape)
    del table
    kinds = {
        "update": (dense_step, lambda: (g,)),
        "gradient and update": (dense_step_from_rows, lambda: draw(rng, SIZES[-1])),
    }
    result = {}
    for kind, (function, batch) in kinds.items():
        dense = Run(jax.jit(function, donate_argnums=(0, 1)), [], [])
        run.seconds.clear()
        for _ in range(2 + rounds):
            table, state = run.carry
            dense.carry[:] = [table, RMSPropState(state.step, state.s, None)]
            del table
            dense.time(*batch())
            table, moments = dense.carry
            run.carry[:] = [table, state._replace(step=moments.step, s=moments.s)]
            del table
            for _ in range(between):
                run.time(*draw(rng, SIZES[-1]))
        row: dict[str, Any] = summary(dense.seconds, 2)
        result[kind] = row
        groups = np.reshape(run.seconds, (-1, between))[2:, between // 3 :]
        row["sparse"] = between_them = summary(list(groups.reshape(-1)), 0)
        row["times_sparse"] = row["milliseconds"] / between_them["milliseconds"]
        row["times_sparse_undisturbed"] = row["low"] / between_them["low"]
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--only", choices=OPTIONS)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    results: dict[str, Any] = {"sparse": {}}
    for name in [arguments.only] if arguments.only else OPTIONS:
        rows, run = measure(name, arguments.rounds)
        results["sparse"][name] = rows
        times = ", ".join(
            f"{k} rows {rows[str(k)]['milliseconds']:.2f} ms" for k in SIZES
        )
        print(f"{name:10} {times}, ratio {rows['ratio']:.2f}", flush=True)
        if name == "plain":
            results["dense"] = dense = measure_dense(
                run, max(arguments.rounds // 10, 3)
            )
            for kind, row in dense.items():
                print(
                    f"dense {kind}: {row['milliseconds']:.0f} ms, "
                    f"{row['times_sparse']:.0f} times the sparse step of "
                    f"{row['sparse']['milliseconds']:.2f} ms between; "
                    f"{row['times_sparse_undisturbed']:.0f} for the fastest tenths",
                    flush=True,
                )
        del run
    if arguments.json:
        results["machine"] = dict(
            device=str(jax.devices()[0]),
            cores=os.cpu_count(),
            platform=platform.platform(),
            jax=jax.__version__,
            optax=optax.__version__,
            dim=DIM,
            batch=BATCH,
        )
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
