"""Time that diagnostics take, beside a step of the optimizer.

    python bench/diagnostics.py [--leaves N] [--size N] [--repeats N]

Each is jitted and timed alone, the fastest of the repeats; so is compiling.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table

from rmsprop_jax import diagnostics, rmsprop

RATE = 1e-3


def timed(function: Callable[..., Any], *args: Any, repeats: int) -> tuple[float, ...]:
    """Give the seconds to compile and to run."""
    began = time.perf_counter()
    compiled = jax.jit(function).lower(*args).compile()
    compiling = time.perf_counter() - began
    seconds = []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        jax.block_until_ready(compiled(*args))
        seconds.append(time.perf_counter() - began)
    return compiling, min(seconds[1:])


def step(params: Any, state: Any, gradients: Any) -> Any:
    updates, state = rmsprop(RATE).update(gradients, state, params)
    return optax.apply_updates(params, updates), state


CALLS: dict[str, Callable[..., Any]] = {
    "step of `rmsprop`": step,
    "`effective_learning_rate`": lambda p, s, g: diagnostics.effective_learning_rate(
        s, RATE
    ),
    "`step_length`": lambda p, s, g: diagnostics.step_length(g),
    "`shares`": lambda p, s, g: diagnostics.shares(s),
    "`held`": lambda p, s, g: diagnostics.held(g),
    "`agreement`": lambda p, s, g: diagnostics.agreement(s, s),
    "`summary`": lambda p, s, g: diagnostics.summary(s, RATE),
    "`summary`, gradients and updates": lambda p, s, g: diagnostics.summary(
        s, RATE, gradients=g, updates=g
    ),
    "the quantiles of `step_length` by sorting": lambda p, s, g: jax.tree.map(
        lambda u: jnp.quantile(jnp.abs(u), jnp.array([0.05, 0.5, 0.95])), g
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--leaves", type=int, default=32)
    parser.add_argument("--size", type=int, default=1024, help="of a side of a leaf")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    keys = jax.random.split(jax.random.key(0), arguments.leaves)
    shape = (arguments.size, arguments.size)
    gradients = {
        f"{k:04d}": jax.random.normal(key, shape) for k, key in enumerate(keys)
    }
    args = (gradients, step(gradients, rmsprop(RATE).init(gradients), gradients)[1])
    table = Table("", "milliseconds", "steps", "seconds to compile", box=box.MARKDOWN)
    unit = None
    for name, call in track(CALLS.items(), "measuring", console=Console(stderr=True)):
        compiling, seconds = timed(call, *args, gradients, repeats=arguments.repeats)
        unit = unit or seconds
        ratio = f"{seconds / unit:.2g}"
        table.add_row(name, f"{1e3 * seconds:.3g}", ratio, f"{compiling:.2g}")
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
