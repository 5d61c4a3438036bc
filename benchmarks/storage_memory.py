"""Bytes a parameter takes: parameters, state and the peak of a step, measured.

    python benchmarks/storage_memory.py [--leaves N] [--json FILE] [--table FILE]

Parameters and state are what `jax.live_arrays` finds; the peak is arguments, results
and temporaries of one jitted, donated step by `compiled.memory_analysis`, gradients
included.
"""

import argparse
import json
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from rich.progress import track

from rmsprop_jax import master_weights, rmsprop

SHAPE = (1024, 1024)
RATE = 1e-3


def small(bits: int) -> optax.GradientTransformation:
    return master_weights(rmsprop(RATE, storage="uint8"), bits=bits)


# Name, dtype of the parameters and gradients, the transformation.
Contender = tuple[str, Any, Callable[[], optax.GradientTransformation]]
CONTENDERS: list[Contender] = [
    ("float32", jnp.float32, lambda: rmsprop(RATE)),
    ("float32, s in bfloat16", jnp.float32, lambda: rmsprop(RATE, storage="bfloat16")),
    ("float32, s in uint8", jnp.float32, lambda: rmsprop(RATE, storage="uint8")),
    ("bfloat16, s in float32", jnp.bfloat16, lambda: rmsprop(RATE)),
    ("bfloat16 + 16, s in uint8", jnp.bfloat16, lambda: small(32)),
    ("bfloat16 + 8, s in uint8", jnp.bfloat16, lambda: small(24)),
    ("optax.rmsprop, float32", jnp.float32, lambda: optax.rmsprop(RATE)),
    ("optax.rmsprop, bfloat16", jnp.bfloat16, lambda: optax.rmsprop(RATE)),
]


class Row(NamedTuple):
    """Bytes a parameter."""

    name: str
    params: float
    state: float
    kept: float
    peak: float


def measure(contender: Contender, leaves: int) -> Row:
    """Hold parameters and state, and compile the step."""
    name, dtype, make = contender
    tx, size = make(), leaves * SHAPE[0] * SHAPE[1]
    before = live_bytes()
    params = {f"{k:03d}": jnp.zeros(SHAPE, dtype) for k in range(leaves)}
    with_params = live_bytes()
    state = jax.block_until_ready(tx.init(params))
    with_state = live_bytes()

    def step(params: Any, state: Any, gradients: Any) -> Any:
        updates, state = tx.update(gradients, state, params)
        return optax.apply_updates(params, updates), state

    jitted = jax.jit(step, donate_argnums=(0, 1))
    memory = jitted.lower(params, state, params).compile().memory_analysis()
    peak = (
        memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        - memory.alias_size_in_bytes
        + memory.temp_size_in_bytes
    )
    sizes = (with_params - before, with_state - with_params, with_state - before, peak)
    return Row(name, *(x / size for x in sizes))


def live_bytes() -> int:
    return sum(x.nbytes for x in jax.live_arrays())


def table(rows: list[Row], size: int) -> str:
    """Write the rows as markdown."""
    lines = [
        f"Bytes a parameter, of {size / 1e6:.0f} million in leaves of 1024 x 1024:",
        "",
        "| parameters and state | parameters | state | both | peak of a step |",
        "|---|---|---|---|---|",
    ]
    for name, *sizes in rows:
        lines.append(f"| {name} | " + " | ".join(f"{x:.2f}" for x in sizes) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--leaves", type=int, default=96, help="of 1024 x 1024")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--table", type=Path, help="write the table here")
    arguments = parser.parse_args()
    rows = [measure(c, arguments.leaves) for c in track(CONTENDERS, "measuring")]
    size = arguments.leaves * SHAPE[0] * SHAPE[1]
    text = table(rows, size)
    print(text)
    if arguments.table:
        arguments.table.write_text(text)
    if arguments.json:
        machine = {
            "device": jax.devices()[0].device_kind,
            "machine": platform.machine(),
            "jax": jax.__version__,
            "optax": optax.__version__,
        }
        kept = {"parameters": size, **machine, "rows": [r._asdict() for r in rows]}
        arguments.json.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
