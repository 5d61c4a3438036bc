"""Time of the diagnostics, beside that of a step of the optimizer.

    python benchmarks/diagnostics.py [--leaves N] [--size N] [--rounds N] [--sort]

Each call is jitted, and its time is the shortest of the rounds. The step donates
parameters and state. `--sort` adds the time of `jax.numpy.quantile`.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from rich.console import Console
from rich.progress import track

from rmsprop_jax import diagnostics, rmsprop
from rmsprop_jax._text_tables import markdown_table

RATE = 1e-3
TX, NARROW = rmsprop(RATE), rmsprop(RATE, storage="uint8")
SORT = "quantiles of the updates by sorting"


def step(params: Any, state: Any, gradients: Any) -> Any:
    updates, state = TX.update(gradients, state, params)
    return optax.apply_updates(params, updates), state


def contenders(gradients: Any, sort: bool) -> dict[str, tuple[Callable[..., Any], Any]]:
    """Return each call with its arguments."""
    _, state = TX.update(gradients, TX.init(gradients))
    _, narrow = NARROW.update(gradients, NARROW.init(gradients))
    d = diagnostics
    calls = {
        "`effective_learning_rate`": (
            lambda s: d.effective_learning_rate(s, RATE),
            (state,),
        ),
        "`step_length`": (d.step_length, (gradients,)),
        "`shares`": (d.shares, (state,)),
        "`held`": (d.held, (gradients,)),
        "`agreement`": (
            lambda s, e: d.agreement(s, e, storage="uint8"),
            (narrow, state),
        ),
        "`summary`": (lambda s: d.summary(s, RATE), (state,)),
        "`summary` with gradients and updates": (
            lambda s, g: d.summary(s, RATE, gradients=g, updates=g),
            (state, gradients),
        ),
    }
    if sort:
        levels = jnp.array([0.0, 0.05, 0.5, 0.95, 1.0])
        calls[SORT] = (
            lambda g: jax.tree.map(lambda u: jnp.quantile(jnp.abs(u), levels), g),
            (gradients,),
        )
    return calls


class Step:
    """The step, as a training loop calls it."""

    def __init__(self, gradients: Any) -> None:
        self.gradients = gradients
        params = jax.tree.map(jnp.zeros_like, gradients)
        self.args = params, TX.init(params)
        jitted = jax.jit(step, donate_argnums=(0, 1))
        self.compiled = jitted.lower(*self.args, gradients).compile()

    def __call__(self) -> Any:
        self.args = self.compiled(*self.args, self.gradients)
        return self.args


def seconds(call: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    result = jax.block_until_ready(call())
    return time.perf_counter() - began, result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--leaves", type=int, default=32)
    parser.add_argument("--size", type=int, default=1024, help="rows of a square leaf")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--sort", action="store_true", help="time sorting too")
    arguments = parser.parse_args()
    keys = jax.random.split(jax.random.key(0), arguments.leaves)
    shape = (arguments.size, arguments.size)
    gradients = {f"{k:04d}": jax.random.normal(x, shape) for k, x in enumerate(keys)}

    compiling, calls = {}, {}
    compiling["step"], calls["step"] = seconds(lambda: Step(gradients))
    for name, (function, args) in contenders(gradients, arguments.sort).items():
        lowered = jax.jit(function).lower
        compiling[name], compiled = seconds(lambda x=lowered, a=args: x(*a).compile())
        calls[name] = lambda compiled=compiled, args=args: compiled(*args)
    best = dict.fromkeys(calls, float("inf"))
    for _ in track(range(arguments.rounds), console=Console(stderr=True)):
        for name, call in calls.items():
            best[name] = min(best[name], seconds(call)[0])

    rows = [
        {
            "call": name,
            "milliseconds": f"{1e3 * least:.3g}",
            "in steps": f"{least / best['step']:.2g}",
            "seconds to compile": f"{compiling[name]:.2g}",
        }
        for name, least in best.items()
    ]
    print(markdown_table(rows))


if __name__ == "__main__":
    main()
