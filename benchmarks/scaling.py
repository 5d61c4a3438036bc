"""Bytes a device and over the network for models past this machine, on paper.

    python benchmarks/scaling.py [--json FILE] [--table FILE] [--figure FILE]

The formulas are checked against programs compiled from abstract arrays: a training
step for 8 virtual devices, and updates of whole models for up to 512 of them. The bytes
of state are checked against arrays that are there.
"""

import argparse
import json
import math
import os
import re
import time
from pathlib import Path
from typing import Any, NamedTuple

if __name__ == "__main__":
    os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=512"
    os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding, PartitionSpec

from rmsprop_jax import master_weights, rmsprop, scale_by_rmsprop, sharding
from rmsprop_jax._palette import COLORS

RATE = 1e-3
SCHEMES = ("replicated", "ZeRO-1", "FSDP")
DEVICES = (8, 64, 512, 4096)


class Storage(NamedTuple):
    """Bytes a parameter takes as parameter, as gradient and in the state."""

    param: int
    gradient: int
    state: int


STORAGES = {
    "float32": Storage(4, 4, 4),
    "float32, s in bfloat16": Storage(4, 4, 2),
    "float32, s in uint8": Storage(4, 4, 1),
    "bfloat16 + 8, s in uint8": Storage(2, 2, 2),
}


class Model(NamedTuple):
    """A transformer as of Llama: gated, with grouped queries."""

    layers: int
    width: int
    hidden: int
    keys: int
    vocabulary: int


MODELS = {
    "7B": Model(32, 4096, 11008, 4096, 32000),
    "70B": Model(80, 8192, 28672, 1024, 32000),
    "1T": Model(136, 24576, 81920, 1024, 128256),
}


def shapes(model: Model) -> dict[str, tuple[int, ...]]:
    """Give the parameters of a model, those of all layers stacked."""
    n, d, h, k, v = model
    return {
        "embed": (v, d),
        "query": (n, d, d),
        "key": (n, d, k),
        "value": (n, d, k),
        "out": (n, d, d),
        "gate": (n, d, h),
        "up": (n, d, h),
        "down": (n, h, d),
        "norms": (n, 2, d),
        "norm": (d,),
        "head": (d, v),
    }


def size(model: Model) -> int:
    return sum(math.prod(shape) for shape in shapes(model).values())


def kept(storage: Storage, scheme: str, n: int, devices: int) -> float:
    """Give the bytes of parameters and state on a device."""
    split_param = devices if scheme == "FSDP" else 1
    split_state = 1 if scheme == "replicated" else devices
    return n * (storage.param / split_param + storage.state / split_state)


def gradients(storage: Storage, scheme: str, n: int, devices: int) -> float:
    """Give the bytes of the gradients on a device, where all are there at once."""
    return n * storage.gradient / (devices if scheme == "FSDP" else 1)


def sent(storage: Storage, scheme: str, n: int, devices: int) -> float:
    """Give the bytes that a device sends in a step, around a ring."""
    gathers = {"replicated": 0, "ZeRO-1": 1, "FSDP": 2}[scheme]
    reduces = 2 if scheme == "replicated" else 1
    share = (devices - 1) / devices
    return n * share * (reduces * storage.gradient + gathers * storage.param)


def optimizer(name: str) -> optax.GradientTransformation:
    if name.startswith("bfloat16"):
        return master_weights(rmsprop(RATE, storage="uint8"), bits=24)
    return rmsprop(RATE, storage=name.rpartition(" ")[2])


def dtype_of(name: str) -> Any:
    return jnp.bfloat16 if name.startswith("bfloat16") else jnp.float32


def placements(tx: Any, params: Any, mesh: Any, scheme: str) -> tuple[Any, Any]:
    """Give the shardings of parameters and state; FSDP splits both in one way."""
    split = sharding.zero1_shardings(scale_by_rmsprop(), params, mesh).s
    whole = jax.tree.map(lambda _: NamedSharding(mesh, PartitionSpec()), params)
    if scheme == "ZeRO-1":
        return whole, sharding.zero1_shardings(tx, params, mesh)
    where = split if scheme == "FSDP" else whole
    return where, sharding.state_shardings(tx, params, where)


def abstract(tree: Any, shardings: Any) -> Any:
    return jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), tree, shardings
    )


def mesh_of(devices: int) -> jax.sharding.Mesh:
    return jax.sharding.Mesh(np.asarray(jax.devices()[:devices]), ("data",))


LAYERS, WIDTH, ROWS = 2, 256, 64


def lower(name: str, scheme: str, mesh: Any) -> Any:
    """Lower a training step of a small network on arrays that do not exist."""
    tx, dtype = optimizer(name), dtype_of(name)
    params = [jax.ShapeDtypeStruct((WIDTH, WIDTH), dtype)] * LAYERS
    where, state_where = placements(tx, params, mesh, scheme)
    rows = NamedSharding(mesh, PartitionSpec("data"))

    def layer(x: Any, w: Any) -> Any:
        return jax.lax.with_sharding_constraint(jnp.tanh(x @ w), rows)

    if scheme == "FSDP":  # the gathered weights are dropped, and gathered again
        layer = jax.checkpoint(layer)

    def loss(params: Any, x: Any) -> Any:
        for w in params:
            x = layer(x, w)
        return jnp.mean(x.astype(jnp.float32) ** 2)

    def step(params: Any, state: Any, x: Any) -> Any:
        updates, state = tx.update(jax.grad(loss)(params, x), state, params)
        return optax.apply_updates(params, updates), state

    jitted = jax.jit(step, donate_argnums=(0, 1), out_shardings=(where, state_where))
    state = abstract(jax.eval_shape(tx.init, params), state_where)
    x = jax.ShapeDtypeStruct((ROWS, WIDTH), dtype, sharding=rows)
    return jitted.lower(abstract(params, where), state, x)


def collectives(text: str) -> dict[str, int]:
    """Count the elements of what the collectives of a compiled program give."""
    found = {"all-gather": 0, "all-reduce": 0, "reduce-scatter": 0, "other": 0}
    kinds = r"all-gather|all-reduce|reduce-scatter|all-to-all|collective-\w+"
    pattern = rf"= (.*?) ({kinds})(?:-start)?\("
    for result, kind in re.findall(pattern, text):
        elements = sum(
            math.prod(int(d) for d in dims.split(",") if d)
            for dims in re.findall(r"\w+\[([\d,]*)\]", result)
        )
        found[kind if kind in found else "other"] += elements
    return found


def check(name: str, scheme: str, mesh: Any) -> dict[str, Any]:
    """Compile the small step and set what XLA says beside the formulas."""
    devices, n = mesh.size, LAYERS * WIDTH * WIDTH
    compiled = lower(name, scheme, mesh).compile()
    memory = compiled.memory_analysis()
    storage = STORAGES[name]
    rows = ROWS * WIDTH // devices * storage.param
    counts = 8 if name.startswith("bfloat16") else 4
    found = collectives(compiled.as_text())
    return {
        "storage": name,
        "scheme": scheme,
        "kept": kept(storage, scheme, n, devices),
        "compiled_arguments": memory.argument_size_in_bytes - rows - counts,
        "compiled_results": memory.output_size_in_bytes,
        "gathered": {"replicated": 0, "ZeRO-1": n, "FSDP": 2 * n}[scheme],
        "compiled_gathered": found["all-gather"],
        "reduced": n,
        "compiled_reduced": found["all-reduce"] + found["reduce-scatter"],
        "compiled_other": found["other"],
    }


def agrees(row: dict[str, Any]) -> bool:
    """Compare; the loss, the counts and what XLA aligns are a few bytes."""
    close = abs(row["compiled_results"] - row["kept"]) <= 128
    return (
        row["compiled_arguments"] == row["kept"]
        and close
        and row["compiled_gathered"] == row["gathered"]
        and row["compiled_reduced"] == row["reduced"]
        and row["compiled_other"] == 0
    )


def trace_update(model: Model, name: str, scheme: str, mesh: Any) -> Any:
    """Trace the update of a whole model on arrays that do not exist."""
    tx, dtype = optimizer(name), dtype_of(name)
    params = {k: jax.ShapeDtypeStruct(v, dtype) for k, v in shapes(model).items()}
    where, state_where = placements(tx, params, mesh, scheme)

    def update(grads: Any, state: Any, params: Any) -> Any:
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    state = abstract(jax.eval_shape(tx.init, params), state_where)
    params = abstract(params, where)
    jitted = jax.jit(update, donate_argnums=(1, 2), out_shardings=(where, state_where))
    return jitted.trace(params, state, params)


def compile_whole(key: str, name: str, scheme: str, mesh: Any) -> dict[str, Any]:
    model, storage, began = MODELS[key], STORAGES[name], time.perf_counter()
    compiled = trace_update(model, name, scheme, mesh).lower().compile()
    arguments = compiled.memory_analysis().argument_size_in_bytes
    found, n = collectives(compiled.as_text()), size(model)
    formula = kept(storage, scheme, n, mesh.size)
    return {
        "model": key,
        "storage": name,
        "scheme": scheme,
        "devices": mesh.size,
        "kept_and_gradients": formula + gradients(storage, scheme, n, mesh.size),
        "compiled_arguments": arguments,
        "compiled_gathered": found["all-gather"],
        "seconds": round(time.perf_counter() - began, 1),
    }


def lower_on_paper(devices: int) -> dict[str, Any]:
    """Lower the update of 1T parameters for a mesh of devices that do not exist."""
    axis = jax.sharding.AxisType.Auto
    mesh = jax.sharding.AbstractMesh((devices,), ("data",), axis_types=(axis,))
    traced = trace_update(MODELS["1T"], "bfloat16 + 8, s in uint8", "FSDP", mesh)
    text = traced.lower(lowering_platforms=("cpu",)).as_text()
    return {"model": "1T", "devices": devices, "stablehlo_lines": text.count("\n")}


def measure(name: str, scheme: str, devices: int) -> dict[str, Any]:
    """Put parameters and state on devices; give the bytes that the first one holds."""
    mesh = mesh_of(devices)
    tx = optimizer(name)
    params = {k: jnp.zeros((512, 512), dtype_of(name)) for k in "abcd"}
    where, state_where = placements(tx, params, mesh, scheme)
    params = jax.device_put(params, where)
    state = sharding.init_sharded(tx, params, state_where)
    first = mesh.devices.ravel()[0]
    held = sum(
        part.data.nbytes
        for x in jax.tree.leaves(state)
        for part in x.addressable_shards
        if part.device == first
    )
    n = 4 * 512 * 512
    return {
        "storage": name,
        "scheme": scheme,
        "devices": devices,
        "bytes_a_parameter": held / n,
    }


def tables() -> str:
    """Write what the formulas give as markdown."""
    return "\n".join(_table(key, model) for key, model in MODELS.items())


def _table(key: str, model: Model) -> str:
    n = size(model)
    heads = " | ".join(f"{d:,} devices" for d in DEVICES)
    lines = [
        f"{key}: {n / 1e9:,.2f}e9 parameters. GB on a device, of parameters and "
        "state + gradients; GB that it sends in a step:",
        "",
        f"| parameters and state | scheme | {heads} |",
        "|---|---|" + "---|" * len(DEVICES),
    ]
    for name, storage in STORAGES.items():
        for scheme in SCHEMES:
            cells = [_cell(storage, scheme, n, d) for d in DEVICES]
            lines.append(f"| {name} | {scheme} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _cell(storage: Storage, scheme: str, n: int, devices: int) -> str:
    case = (storage, scheme, n, devices)
    held, grads, network = (_gigabytes(f(*case)) for f in (kept, gradients, sent))
    return f"{held} + {grads}; {network}"


def _gigabytes(x: float) -> str:
    return f"{x / 1e9:,.0f}" if x >= 1e10 else f"{x / 1e9:.2g}"


def draw(points: list[dict[str, Any]], path: Path) -> None:
    """Draw measured bytes of state as points on the lines of the formula."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 4.5), dpi=150, layout="constrained")
    axes = figure.subplots()
    colors = COLORS[:4]
    line = np.geomspace(1, 8, 50)
    widths = (7, 11, 7, 5)  # two formats take two bytes each: one lies upon the other
    for (name, storage), color, width in zip(
        STORAGES.items(), colors, widths, strict=True
    ):
        for scheme, dash, mark in (("replicated", ":", "o"), ("ZeRO-1", "-", "s")):
            whole = scheme == "replicated"
            y = storage.state / line ** (not whole)
            axes.plot(line, y, dash, color=color, lw=width / 3)
            found = [p for p in points if (p["storage"], p["scheme"]) == (name, scheme)]
            x = [p["devices"] for p in found]
            y = [p["bytes_a_parameter"] for p in found]
            face = "none" if whole else color
            label = f"{name}, {scheme}"
            axes.plot(x, y, mark, color=color, mfc=face, ms=width, label=label)
    axes.set(xscale="log", yscale="log", xlabel="devices")
    axes.set_ylabel("bytes of state on a device, a parameter")
    axes.set_title("Measured (marks) and by the formula (lines)")
    axes.set_xticks([1, 2, 4, 8], ["1", "2", "4", "8"])
    axes.set_yticks([0.125, 0.25, 0.5, 1, 2, 4], ["1/8", "1/4", "1/2", "1", "2", "4"])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=7, loc="lower left")
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--table", type=Path, help="write the tables here")
    parser.add_argument("--figure", type=Path, help="draw the bytes of state here")
    arguments = parser.parse_args()
    print(tables())
    if arguments.table:
        arguments.table.write_text(tables())
    mesh = mesh_of(8)
    checks = [check(name, scheme, mesh) for name in STORAGES for scheme in SCHEMES]
    for row in checks:
        print("agrees" if agrees(row) else "DIFFERS", row)
    narrow = "bfloat16 + 8, s in uint8"
    wholes = [
        compile_whole(key, name, scheme, mesh_of(devices))
        for key, name, scheme, devices in (
            ("7B", narrow, "ZeRO-1", 64),
            ("70B", "float32", "FSDP", 64),
            ("1T", "float32", "FSDP", 512),
            ("1T", narrow, "FSDP", 512),
            ("1T", narrow, "ZeRO-1", 8),
        )
    ]
    paper = [lower_on_paper(devices) for devices in DEVICES]
    print(*wholes, *paper, sep="\n")
    points = [
        measure(name, scheme, devices)
        for name in STORAGES
        for scheme in SCHEMES
        for devices in (1, 2, 4, 8)
    ]
    if arguments.figure:
        draw(points, arguments.figure)
    if arguments.json:
        kept_results = {
            "jax": jax.__version__,
            "parameters": {key: size(model) for key, model in MODELS.items()},
            "checks": checks,
            "compiled_whole": wholes,
            "lowered": paper,
            "measured": points,
        }
        arguments.json.write_text(json.dumps(kept_results, indent=1) + "\n")


if __name__ == "__main__":
    main()
