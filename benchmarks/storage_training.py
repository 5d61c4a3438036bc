"""Train with the second moment stored in every format, and compare the losses.

python benchmarks/storage_training.py [--quick | --report]
"""

import os

# XLA with several threads has hung here, in scans of a recurrent network.
os.environ.setdefault(
    "XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
)
import argparse
import dataclasses
import functools
import importlib.metadata
import itertools
import json
import platform
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, PyTree
from rich.progress import Progress, TimeElapsedColumn
from storage_formats import FORMATS
from storage_report import draw_figure, page
from storage_steps import step_lengths
from storage_tasks import TASKS, Batch, Task, text_hash

import rmsprop_jax
from rmsprop_jax import scale_by_rmsprop
from rmsprop_jax._storage import Format

OUT = Path(__file__).with_name("storage-training")
DECAYS = 0.9, 0.99
EPSILONS = 1e-8, 1e-14
SPREADS = 0.15, 0.75, 2.0
Rows = list[dict[str, Any]]


class Losses(NamedTuple):
    """The losses at the end of training, for each seed."""

    train: Float[Array, " seeds"]
    evaluation: Float[Array, " seeds"]


class Setting(NamedTuple):
    """The numbers of one RMSProp; all settings share a compiled program."""

    decay: ArrayLike
    eps: ArrayLike
    rate: ArrayLike


class Start(NamedTuple):
    """The parameters and batches that every format starts from, for each seed."""

    seeds: Int[Array, " seeds"]
    params: PyTree
    batches: Batch


@functools.partial(jax.jit, static_argnames=("task", "seeds", "steps"))
def draw(task: Task, seeds: int, steps: int) -> Start:
    """Draw parameters and all the batches of all the seeds."""

    def one(seed: Array) -> Start:
        first, then = jax.random.split(jax.random.key(seed))
        batches = jax.lax.map(task.batch, jax.random.split(then, steps))
        return Start(seed, task.init(first), batches)

    return jax.lax.map(one, jnp.arange(seeds))


@functools.partial(jax.jit, static_argnames=("task", "format_"))
def train(task: Task, format_: Format, setting: Setting, start: Start) -> Losses:
    """Train from every seed."""
    steps = start.batches.targets.shape[1]
    schedule = optax.cosine_decay_schedule(setting.rate, steps)

    def run(start: Start) -> Losses:
        seed, params, batches = start
        tx = optax.chain(
            scale_by_rmsprop(setting.decay, setting.eps, storage=format_, seed=seed),
            optax.scale_by_learning_rate(schedule),
        )

        def step(carry: PyTree, batch: Batch):
            params, state = carry
            loss, grads = jax.value_and_grad(task.loss)(params, batch)
            updates, state = tx.update(grads, state, params)
            return (optax.apply_updates(params, updates), state), loss

        (params, _), losses = jax.lax.scan(step, (params, tx.init(params)), batches)
        last = losses[-max(1, steps // 10) :].mean()
        return Losses(last, task.loss(params, task.held_out))

    return jax.vmap(run)(start)


def train_all(name: str, task: Task, advance: Callable[[str], None]) -> Rows:
    """Train one task in every setting and format."""
    start = draw(task, task.seeds, task.steps)
    rows = []
    for format_name, format_ in FORMATS.items():
        for decay, eps in itertools.product(DECAYS, EPSILONS):
            advance(f"{name}, {format_name}")
            setting = Setting(*map(jnp.float32, (decay, eps, task.rates[decay])))
            losses = train(task, format_, setting, start)
            row = {"task": name, "decay": decay, "eps": eps, "format": format_name}
            found = losses._asdict()
            rows.append(row | {k: _rounded(v.tolist()) for k, v in found.items()})
    return rows


def measure_steps(spreads: Sequence[float], advance: Callable[[str], None]) -> Rows:
    """Measure the lengths of steps in every setting and format."""
    rows = []
    for (name, format_), decay, eps, spread in itertools.product(
        FORMATS.items(), DECAYS, EPSILONS, spreads
    ):
        advance(f"length of a step, {name}")
        row = {"decay": decay, "eps": eps, "spread": spread, "format": name}
        found = step_lengths(format_, decay, eps, spread)
        rows.append(row | dict(zip(found, _rounded(found.values()), strict=True)))
    return rows


def run(quick: bool) -> dict[str, Any]:
    """Run all tasks, or, if quick, a few short runs of one task."""
    began = time.process_time()
    tasks = {k: make() for k, make in TASKS.items() if k == "digits" or not quick}
    if quick:
        tasks = {
            k: dataclasses.replace(v, seeds=4, steps=200) for k, v in tasks.items()
        }
    spreads = SPREADS[1:2] if quick else SPREADS
    settings = len(DECAYS) * len(EPSILONS) * len(FORMATS)
    with Progress(*Progress.get_default_columns(), TimeElapsedColumn()) as progress:
        bar = progress.add_task("", total=settings * (len(tasks) + len(spreads)))

        def advance(description: str) -> None:
            progress.update(bar, advance=1, description=description)

        lengths = measure_steps(spreads, advance)
        training = [
            row for k, task in tasks.items() for row in train_all(k, task, advance)
        ]
    return {
        "machine": _machine() | {"cpu_minutes": (time.process_time() - began) / 60},
        "quick": quick,
        "tasks": {k: _described(task) for k, task in tasks.items()},
        "training": training,
        "step_length": lengths,
    }


def _rounded(values: Iterable[float]) -> list[float]:
    return [float(f"{value:.6g}") for value in values]


def _described(task: Task) -> dict[str, Any]:
    params = jax.eval_shape(task.init, jax.random.key(0))
    return {
        "about": task.about,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(params)),
        "seeds": task.seeds,
        "steps": task.steps,
        "rates": dict(task.rates),
    }


def _machine() -> dict[str, Any]:
    packages = "jax", "jaxlib", "optax", "flax", "numpy", "scikit-learn"
    return {
        "device": f"{jax.devices()[0].device_kind} of {os.cpu_count()} cores",
        "platform": platform.platform(),
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in packages},
        "rmsprop_jax": rmsprop_jax.__version__,
        "text": text_hash(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="print one short task")
    parser.add_argument(
        "--report", action="store_true", help="write page and figure again; no training"
    )
    options = parser.parse_args()
    data, picture = OUT.with_suffix(".json"), OUT.with_suffix(".png")
    results = json.loads(data.read_text()) if options.report else run(options.quick)
    text = page(results, picture.name)
    if options.quick:
        print(text)
        return
    data.write_text(json.dumps(results, indent=1) + "\n")
    OUT.with_suffix(".md").write_text(text)
    draw_figure(results, picture)


if __name__ == "__main__":
    main()
