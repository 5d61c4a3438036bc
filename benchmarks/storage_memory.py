"""Bytes per parameter: parameters, state, and the peak of a step.

    python benchmarks/storage_memory.py [--leaves N] [--out STEM]

Parameters and state are the sizes that `jax.live_arrays` finds. The peak is the size of
arguments, gradients included, results and temporaries of one jitted, donated step, as
`compiled.memory_analysis` returns them.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from rich.progress import track

from rmsprop_jax import master_weights, rmsprop
from rmsprop_jax._text_tables import markdown_table
from rmsprop_jax.bench._results import machine

OUT = Path(__file__).with_name("storage-memory")
SHAPE = (1024, 1024)
RATE = 1e-3


def small(bits: int) -> optax.GradientTransformation:
    return master_weights(rmsprop(RATE, storage="uint8"), bits=bits)


# Name, dtype of parameters and gradients, transformation.
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
    """Bytes per parameter."""

    name: str
    params: float
    state: float
    kept: float
    peak: float


def measure(contender: Contender, leaves: int) -> Row:
    """Make parameters and state, and compile the step."""
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
    """Write the rows as Markdown."""
    heads = ("parameters", "state", "both", "peak of a step")
    cells = [
        {"parameters and state": name}
        | {head: f"{x:.2f}" for head, x in zip(heads, sizes, strict=True)}
        for name, *sizes in rows
    ]
    count = f"{size / 1e6:.0f} million parameters in leaves of 1024 x 1024"
    return f"Bytes per parameter, for {count}:\n\n{markdown_table(cells)}\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--leaves", type=int, default=96, help="of 1024 x 1024")
    parser.add_argument("--out", type=Path, default=OUT, help="files without suffix")
    arguments = parser.parse_args()
    rows = [measure(c, arguments.leaves) for c in track(CONTENDERS, "measuring")]
    size = arguments.leaves * SHAPE[0] * SHAPE[1]
    text = table(rows, size)
    print(text)
    arguments.out.with_suffix(".md").write_text(text)
    kept = {"machine": machine(), "parameters": size, "rows": [*map(Row._asdict, rows)]}
    arguments.out.with_suffix(".json").write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
