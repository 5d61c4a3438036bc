"""`python -m rmsprop_jax bench`: one jitted, donated step, beside what others do."""

import argparse
import json
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ._alias import rmsprop

REFERENCE = "optax.rmsprop"
CONTENDERS: dict[str, Callable[[], optax.GradientTransformation]] = {
    REFERENCE: lambda: optax.rmsprop(1e-3),
    "rmsprop": lambda: rmsprop(1e-3),
    "rmsprop eps outside": lambda: rmsprop(1e-3, eps_in_sqrt=False),
    "rmsprop centered": lambda: rmsprop(1e-3, centered=True),
    "optax.rmsprop centered": lambda: optax.rmsprop(1e-3, centered=True),
    "rmsprop momentum": lambda: rmsprop(1e-3, momentum=0.9),
    "optax.rmsprop momentum": lambda: optax.rmsprop(1e-3, momentum=0.9),
    # What the place of its arrays in memory does to the reference itself.
    "optax.rmsprop again": lambda: optax.rmsprop(1e-3),
}
SHAPES = {"32 x 1024^2": (32, (1024, 1024)), "1000 x 64^2": (1000, (64, 64))}


class Contender:
    """One optimizer with its compiled step, its own parameters and its times."""

    def __init__(self, tx: optax.GradientTransformation, params: Any, gradients: Any):
        def step(params, state, gradients):
            updates, state = tx.update(gradients, state, params)
            return optax.apply_updates(params, updates), state

        self.params = jax.tree.map(jnp.copy, params)
        self.state = tx.init(self.params)
        self.gradients = gradients
        self.seconds: list[float] = []
        start = time.perf_counter()
        jitted = jax.jit(step, donate_argnums=(0, 1))
        self.step = jitted.lower(self.params, self.state, gradients).compile()
        self.compile_seconds = time.perf_counter() - start

    def run(self) -> None:
        """Time one step, to the end of its computation."""
        start = time.perf_counter()
        self.params, self.state = self.step(self.params, self.state, self.gradients)
        jax.block_until_ready((self.params, self.state))
        self.seconds.append(time.perf_counter() - start)


class Row(NamedTuple):
    """One line of the table; the ratio is of step times, pair by pair."""

    shape: str
    contender: str
    milliseconds: float
    ratio: float
    low: float
    high: float
    compile_seconds: float
    temporary_bytes: int


def measure(shape: str, rounds: int, warm_up: int = 3) -> list[Row]:
    """Time all contenders on one shape, taking turns within every round."""
    count, size = SHAPES[shape]
    rng = np.random.default_rng(0)
    params, gradients = (
        {str(k): jnp.asarray(rng.normal(size=size), jnp.float32) for k in range(count)}
        for _ in range(2)
    )
    contenders = {k: Contender(f(), params, gradients) for k, f in CONTENDERS.items()}
    for _ in range(warm_up + rounds):
        for contender in contenders.values():
            contender.run()
    reference = np.array(contenders[REFERENCE].seconds[warm_up:])
    return [_row(shape, k, c, reference, warm_up) for k, c in contenders.items()]


def _row(
    shape: str, name: str, contender: Contender, reference: np.ndarray, warm_up: int
) -> Row:
    seconds = np.array(contender.seconds[warm_up:])
    ratios = seconds / reference
    # The middle of the ordered ratios that holds their median 95 times in 100.
    ratios.sort()
    middle, reach = len(ratios) / 2, 0.98 * np.sqrt(len(ratios))
    low, high = int(max(middle - reach, 0)), int(min(middle + reach, len(ratios) - 1))
    memory = contender.step.memory_analysis()
    return Row(
        shape=shape,
        contender=name,
        milliseconds=1e3 * float(np.median(seconds)),
        ratio=float(np.median(ratios)),
        low=float(ratios[low]),
        high=float(ratios[high]),
        compile_seconds=contender.compile_seconds,
        temporary_bytes=memory.temp_size_in_bytes if memory else -1,
    )


def main(argv: list[str] | None = None) -> int:
    """Print the table; write it as JSON where `--json` says."""
    parser = argparse.ArgumentParser(prog="python -m rmsprop_jax bench")
    parser.add_argument("--rounds", type=int, default=40, help="timed steps of each")
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    arguments = parser.parse_args(argv)
    head = f"{'shape':14}{'contender':25}{'ms':>8}{'ratio':>7}  {'95%':13}"
    print(f"{head}{'compile s':>10}{'temp bytes':>12}")
    rows = []
    for shape in SHAPES:
        for row in measure(shape, arguments.rounds):
            interval = f"{row.low:.2f}-{row.high:.2f}"
            print(
                f"{row.shape:14}{row.contender:25}{row.milliseconds:8.2f}"
                f"{row.ratio:7.2f}  {interval:13}{row.compile_seconds:10.1f}"
                f"{row.temporary_bytes:12}",
                flush=True,
            )
            rows.append(row._asdict())
    if arguments.json:
        machine = dict(
            device=str(jax.devices()[0]),
            platform=platform.platform(),
            jax=jax.__version__,
            optax=optax.__version__,
        )
        arguments.json.write_text(
            json.dumps(dict(machine=machine, rows=rows), indent=1)
        )
    return 0
