"""Optimizers outside JAX and optax, where they are installed."""

import importlib.util
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ._contenders import RATE
from ._measure import Timed, arrays
from ._trees import Shapes

# Name: the package it needs, how to get that, and what builds its step.
INSTALL = {
    "torch": "pip install torch==2.13.0",
    "bitsandbytes": "pip install bitsandbytes (with torch; CUDA)",
    "keras": "pip install keras, and KERAS_BACKEND=jax",
    "flashoptim_jax": "pip install flashoptim-jax",
}


class Peer:
    """A step of another framework, and its times; its memory is not measured."""

    state_bytes, temporary_bytes = float("nan"), -1

    def __init__(self, step: Callable[[], Any], compile_seconds: float = 0.0):
        self.step, self.compile_seconds = step, compile_seconds
        self.seconds: list[float] = []

    def run(self) -> None:
        start = time.perf_counter()
        self.step()
        self.seconds.append(time.perf_counter() - start)


def torch_peer(shapes: Shapes, **options: Any) -> Peer:
    """`torch.optim.RMSprop` on the device that torch has."""
    import torch  # pyright: ignore[reportMissingImports]

    compiled = options.pop("compiled", False)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    params, gradients = (_tensors(torch, shapes, seed, device) for seed in (0, 1))
    for p, g in zip(params, gradients, strict=True):
        p.grad = g
    optimizer = torch.optim.RMSprop(params, RATE, alpha=0.9, **options)
    step = torch.compile(optimizer.step) if compiled else optimizer.step
    return _synchronized(torch, device, step)


def bitsandbytes_peer(shapes: Shapes) -> Peer:
    """`bitsandbytes.optim.RMSprop8bit`."""
    import bitsandbytes  # pyright: ignore[reportMissingImports]
    import torch  # pyright: ignore[reportMissingImports]

    params, gradients = (_tensors(torch, shapes, seed, "cuda") for seed in (0, 1))
    for p, g in zip(params, gradients, strict=True):
        p.grad = g
    optimizer = bitsandbytes.optim.RMSprop8bit(params, RATE, alpha=0.9)
    return _synchronized(torch, "cuda", optimizer.step)


def keras_peer(shapes: Shapes) -> Peer:
    """`keras.optimizers.RMSprop` on JAX: its stateless step, jitted and donated."""
    import keras  # pyright: ignore[reportMissingImports]

    if keras.backend.backend() != "jax":
        raise RuntimeError("set KERAS_BACKEND=jax")
    variables = [keras.Variable(x) for x in arrays(shapes, "float32", 0).values()]
    gradients = list(arrays(shapes, "float32", 1).values())
    optimizer = keras.optimizers.RMSprop(RATE)
    optimizer.build(variables)
    kept = [[v.value for v in variables], [v.value for v in optimizer.variables]]

    def apply(values: Any, state: Any) -> Any:
        return optimizer.stateless_apply(state, gradients, values)

    start = time.perf_counter()
    jitted = jax.jit(apply, donate_argnums=(0, 1)).lower(*kept).compile()

    def step() -> None:
        kept[:] = jax.block_until_ready(jitted(*kept))

    return Peer(step, time.perf_counter() - start)


def flashoptim_peer(shapes: Shapes, name: str) -> Timed:
    """An optimizer of flashoptim-jax: 8-bit state, bfloat16 parameters, 24 bits."""
    import flashoptim_jax  # pyright: ignore[reportMissingImports]

    fused = jax.default_backend() == "gpu"  # its kernels need one
    tx = getattr(flashoptim_jax, name)(RATE, fused=fused)
    return Timed(tx.init, tx.step, shapes, jnp.bfloat16)


PEERS: dict[str, tuple[str, Callable[[Shapes], Peer | Timed]]] = {
    "torch, single": ("torch", lambda shapes: torch_peer(shapes, foreach=False)),
    "torch, foreach": ("torch", lambda shapes: torch_peer(shapes, foreach=True)),
    "torch.compile": ("torch", lambda shapes: torch_peer(shapes, compiled=True)),
    "bitsandbytes 8-bit": ("bitsandbytes", bitsandbytes_peer),
    "keras on JAX": ("keras", keras_peer),
    "flashoptim SGD, 24": (
        "flashoptim_jax",
        lambda shapes: flashoptim_peer(shapes, "flash_sgd"),
    ),
    "flashoptim AdamW, 24": (
        "flashoptim_jax",
        lambda shapes: flashoptim_peer(shapes, "flash_adamw"),
    ),
}


def missing(names: list[str]) -> dict[str, str]:
    """Name the peers that are not installed, and how to get them."""
    packages = {name: PEERS[name][0] for name in names}
    return {
        name: INSTALL[package]
        for name, package in packages.items()
        if importlib.util.find_spec(package) is None
    }


def _tensors(torch: Any, shapes: Shapes, seed: int, device: str) -> list[Any]:
    made = arrays(shapes, "float32", seed).values()
    return [torch.from_numpy(np.array(x)).to(device) for x in made]


def _synchronized(torch: Any, device: str, step: Callable[[], Any]) -> Peer:
    def run() -> None:
        step()
        if device == "cuda":
            torch.cuda.synchronize()

    start = time.perf_counter()
    run()  # makes the state, and compiles
    return Peer(run, time.perf_counter() - start)
