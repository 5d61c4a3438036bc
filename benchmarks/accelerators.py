"""Tables, host memory and whole training steps, compiled for accelerators.

    python benchmarks/accelerators.py tables|host|steps [--json FILE] [--markdown FILE]

None of the devices has to be here; see docs/accelerators.md.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.layout import Format, Layout
from jax.sharding import NamedSharding, PartitionSpec

from rmsprop_jax import rmsprop, sparse
from rmsprop_jax._text_tables import markdown_table
from rmsprop_jax.bench._compiled_steps import (
    Compiled,
    abstract,
    compile_for,
    mesh_of,
    single,
)
from rmsprop_jax.bench._contenders import Contender, step_of
from rmsprop_jax.bench._programs import HOST
from rmsprop_jax.bench._targets import TARGETS, compile_only_devices, missing_compiler
from rmsprop_jax.bench._whole_steps import WHOLE_CONTENDERS, measure_whole

Row = dict[str, str]
TITLE = ("model", "devices", "device")
HOST_COLUMNS = ("on the device, MB", "on the host, MB", "over the bus, MB")
ROWS, BATCH, RATE = 1_000_000, 4096, 1e-3
OPTIMIZERS = {
    "sparse.rmsprop": dict(),
    "momentum": dict(momentum=0.9),
    "uint8": dict(storage="uint8"),
    "row-wise": dict(row_wise=True),
}
# Each takes minutes to compile for a TPU.
ON_TPU = ("optax.adamw", "optax.rmsprop", "master_weights 24, uint8")
FEW = (*ON_TPU, "rmsprop", "rmsprop, uint8")
STEPS = (
    ("h100x8", "7B, FSDP, 1 x 1024 tokens per device", tuple(WHOLE_CONTENDERS)),
    ("tpu-v5e-16", "7B, FSDP, 1 x 1024 tokens per device", ON_TPU),
    ("h100", "GPT-2 124M, 4 x 1024 tokens", FEW),
)


def megabytes(count: float) -> str:
    return f"{count / 1e6:,.1f}"


def row_major(tree: Any) -> Any:
    """Ask for the last dimension to be the fastest one, where there are two."""
    return jax.tree.map(
        lambda x: (
            Format(Layout(tuple(range(x.ndim))), x.sharding)
            if x.ndim == 2
            else x.sharding
        ),
        tree,
    )


def table_step(target: str, options: Any, columns: int, ordered: bool) -> Compiled:
    """Compile a donated step of a table on one device."""
    tx, where = sparse.rmsprop(RATE, **options), single(target)
    table = abstract(jax.ShapeDtypeStruct((ROWS, columns), jnp.float32), where)
    state = abstract(jax.eval_shape(tx.init, table), where)
    ids = abstract(jax.ShapeDtypeStruct((BATCH,), jnp.int32), where)
    g = abstract(jax.ShapeDtypeStruct((BATCH, columns), jnp.float32), where)
    jit: dict[str, Any] = {"donate_argnums": (0, 1)}
    if ordered:
        kept = row_major((table, state))
        jit |= {"in_shardings": (*kept, where, where), "out_shardings": kept}
    return compile_for(target, tx.update, table, state, ids, g, assemble=False, **jit)


def table_rows() -> Iterator[Row]:
    """One device: temporaries and bytes, by columns and layout."""
    for target in ("h100", "tpu-v5e"):
        for columns, ordered in ((64, False), (64, True), (128, False)):
            if ordered and target == "h100":
                continue  # that is its layout
            for name, options in OPTIMIZERS.items():
                made = table_step(target, options, columns, ordered)
                memory = made.memory
                yield {
                    "device": TARGETS[target].device.name,
                    "columns": f"{columns}{', row-major' if ordered else ''}",
                    "optimizer": name,
                    "table and state, MB": megabytes(memory.argument_size_in_bytes),
                    "temporaries, MB": megabytes(memory.temp_size_in_bytes),
                    "moved, MB": megabytes(made.program.traffic()),
                }


def sharded_table_rows() -> Iterator[Row]:
    """Rows divided over the devices: the collectives of `gather` and `update`."""
    columns = 128
    for target in ("h100x8", "tpu-v5e-4"):
        mesh, tx = mesh_of(target), sparse.rmsprop(RATE)
        rows = NamedSharding(mesh, PartitionSpec("data"))
        whole = NamedSharding(mesh, PartitionSpec())
        table = abstract(jax.ShapeDtypeStruct((ROWS, columns), jnp.float32), rows)
        state = jax.eval_shape(tx.init, table)
        where = jax.tree.map(lambda x, r=rows, w=whole: r if x.ndim else w, state)
        state = abstract(state, where)
        ids = abstract(jax.ShapeDtypeStruct((BATCH,), jnp.int32), rows)
        g = abstract(jax.ShapeDtypeStruct((BATCH, columns), jnp.float32), rows)
        jit = {"donate_argnums": (0, 1), "out_shardings": (rows, where)}
        for name, made in (
            (
                "gather",
                compile_for(target, tx.gather, table, state, ids, assemble=False),
            ),
            (
                "update",
                compile_for(
                    target, tx.update, table, state, ids, g, assemble=False, **jit
                ),
            ),
        ):
            found = made.program.collectives()
            yield {
                "devices": f"{mesh.size} x {TARGETS[target].device.name}",
                "function": name,
                "collectives": ", ".join(
                    f"{count} {kind}, {megabytes(total)} MB"
                    for kind, (count, total) in sorted(found.items())
                ),
                "temporaries, MB": megabytes(made.memory.temp_size_in_bytes),
            }


def host_rows() -> Iterator[Row]:
    """State in the memory of the host, copied for the update and back."""
    for target in ("h100", "tpu-v5e"):
        for storage in ("float32", "bfloat16", "uint8"):
            for offloaded in (False, True):
                row = {
                    "device": TARGETS[target].device.name,
                    "storage": storage,
                    "state in": "host" if offloaded else "device",
                }
                try:
                    memory, bus = host_step(target, storage, offloaded)
                    held = memory.argument_size_in_bytes + memory.temp_size_in_bytes
                    on_host = memory.host_argument_size_in_bytes
                except jax.errors.JaxRuntimeError:
                    yield {**row, **dict.fromkeys(HOST_COLUMNS, "not compiled")}
                    continue
                numbers = map(megabytes, (held, on_host, bus))
                yield {**row, **dict(zip(HOST_COLUMNS, numbers, strict=True))}


def host_step(target: str, storage: str, offloaded: bool) -> tuple[Any, float]:
    """Compile a donated step of eight large leaves: its memory, and bytes of the bus.

    What `sharding.streamed` does is written out here, because devices that are only
    compiled for do not know the memories of a GPU.
    """
    mesh = jax.sharding.Mesh(np.asarray(compile_only_devices(TARGETS[target])), ("x",))
    here = NamedSharding(mesh, PartitionSpec())
    there = here.with_memory_kind("pinned_host") if offloaded else here
    init, update = step_of(Contender(lambda: rmsprop(RATE, storage=storage)))

    def step(params: Any, state: Any, gradients: Any) -> Any:
        if not offloaded:
            return update(params, state, gradients)
        state = jax.device_put(state, jax.memory.Space.Device)
        params, state = update(params, state, gradients)
        return params, jax.device_put(state, jax.memory.Space.Host)

    params = [jax.ShapeDtypeStruct((4096, 4096), jnp.float32)] * 8
    params = abstract(params, here)
    state = abstract(jax.eval_shape(init, params), there)
    jit = {"donate_argnums": (0, 1), "out_shardings": (here, there)}
    made = compile_for(target, step, params, state, params, assemble=False, **jit)
    return made.memory, made.program.traffic(HOST)


def step_rows() -> Iterator[Row]:
    """Whole training steps."""
    for target, model, names in STEPS:
        for name in (x for x in WHOLE_CONTENDERS if x in names):
            row = measure_whole(target, model, name, WHOLE_CONTENDERS[name])
            yield {
                "model": model,
                "devices": f"{TARGETS[target].count} x {TARGETS[target].device.name}",
                "optimizer": name,
                "arguments, GB": f"{row.arguments / 1e9:.2f}",
                "temporaries, GB": f"{row.temporaries / 1e9:.2f}",
                "peak, GB": f"{row.peak / 1e9:.2f}",
                "compile": f"{row.compile_seconds:.0f} s",
            }


STUDIES = {
    "tables": (table_rows, sharded_table_rows),
    "host": (host_rows,),
    "steps": (step_rows,),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("study", choices=list(STUDIES))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    arguments = parser.parse_args()
    jax.config.update("jax_platforms", "cpu")
    for target in ("h100", "tpu-v5e"):
        if sentence := missing_compiler(TARGETS[target]):
            raise SystemExit(sentence)
    found: list[list[Row]] = []
    for study in STUDIES[arguments.study]:
        found.append([])
        for row in study():
            print("  ".join(row.values()), flush=True)
            found[-1].append(row)
            write(arguments, found)


def write(arguments: Any, found: list[list[Row]]) -> None:
    """Write the rows so far, so that a run that is cut off leaves them."""
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")
    if arguments.markdown:
        arguments.markdown.write_text(page(found))


def page(found: list[list[Row]]) -> str:
    """Write each list as a table, and each device and model as one of its own."""
    parts = []
    for rows in found:
        for title in dict.fromkeys(map(heading, rows)):
            chosen = [row for row in rows if heading(row) == title]
            kept = [{k: v for k, v in x.items() if k not in TITLE} for x in chosen]
            numbers = [x for x in kept[0] if "MB" in x or "GB" in x]
            parts.append(f"**{title}**\n\n{markdown_table(kept, right=numbers)}\n")
    return "\n".join(parts)


def heading(row: Row) -> str:
    return ", ".join(row[k] for k in TITLE if k in row)


if __name__ == "__main__":
    main()
