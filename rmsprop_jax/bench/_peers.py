"""Optimizers of other packages, timed where these are installed."""

import importlib.util
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ._contenders import RATE
from ._measure import CHECKED_STEPS, Timed, arrays, flat
from ._shapes import Shapes

INSTALL = {
    "torch": "pip install torch==2.13.0",
    "bitsandbytes": "pip install bitsandbytes (with torch)",
    "keras": "pip install keras, and KERAS_BACKEND=jax",
    "flashoptim_jax": "pip install flashoptim-jax",
}


class PeerStep:
    """A step of another framework and its times; its memory is not measured.

    Args:
      step: takes one step and waits for its end; the first one compiles.
      params: returns the parameters.
    """

    state_bytes, temporary_bytes = float("nan"), -1

    def __init__(self, step: Callable[[], Any], params: Callable[[], Iterable[Any]]):
        self.step, self.params = step, params
        self.seconds: list[float] = []
        self.start = flat(params())
        self.run()
        self.compile_seconds = self.seconds.pop()

    def run(self) -> None:
        start = time.perf_counter()
        self.step()
        self.seconds.append(time.perf_counter() - start)

    def displacement(self) -> np.ndarray:
        """Take the remaining steps; `__init__` took the first."""
        for _ in range(CHECKED_STEPS - 1):
            self.run()
        return flat(self.params()) - self.start


def torch_peer(shapes: Shapes, **options: Any) -> PeerStep:
    """`torch.optim.RMSprop`, on the GPU if torch has one."""
    import torch  # pyright: ignore[reportMissingImports]

    compiled = options.pop("compiled", False)
    params = _parameters(torch, shapes)
    optimizer = torch.optim.RMSprop(params, RATE, alpha=0.9, **options)
    step = torch.compile(optimizer.step) if compiled else optimizer.step
    return _synchronized(torch, params, step)


def bitsandbytes_peer(shapes: Shapes) -> PeerStep:
    """`bitsandbytes.optim.RMSprop8bit`."""
    import bitsandbytes  # pyright: ignore[reportMissingImports]
    import torch  # pyright: ignore[reportMissingImports]

    params = _parameters(torch, shapes)
    optimizer = bitsandbytes.optim.RMSprop8bit(params, RATE, alpha=0.9)
    return _synchronized(torch, params, optimizer.step)


def keras_peer(shapes: Shapes) -> PeerStep:
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

    jitted = jax.jit(apply, donate_argnums=(0, 1))

    def step() -> None:
        kept[:] = jax.block_until_ready(jitted(*kept))

    return PeerStep(step, lambda: kept[0])


def flashoptim_peer(shapes: Shapes, name: str) -> Timed:
    """An optimizer of flashoptim-jax with 8-bit state and 24-bit master weights."""
    import flashoptim_jax  # pyright: ignore[reportMissingImports]

    fused = jax.default_backend() == "gpu"  # its kernels need one
    tx = getattr(flashoptim_jax, name)(RATE, fused=fused)
    return Timed(tx.init, tx.step, shapes, jnp.bfloat16)


class Peer(NamedTuple):
    """An optimizer of another package.

    Attributes:
      package: the package, as it is imported.
      make: builds its step.
      within: the largest distance from the reference, as in `Contender`; None for
        another algorithm.
    """

    package: str
    make: Callable[[Shapes], PeerStep | Timed]
    within: float | None = 0.01


PEERS: dict[str, Peer] = {
    "torch, single": Peer("torch", lambda shapes: torch_peer(shapes, foreach=False)),
    "torch, foreach": Peer("torch", lambda shapes: torch_peer(shapes, foreach=True)),
    "torch.compile": Peer("torch", lambda shapes: torch_peer(shapes, compiled=True)),
    "bitsandbytes 8-bit": Peer("bitsandbytes", bitsandbytes_peer, 0.3),
    "keras on JAX": Peer("keras", keras_peer),
    "flashoptim SGD, 24": Peer(
        "flashoptim_jax", lambda shapes: flashoptim_peer(shapes, "flash_sgd"), None
    ),
    "flashoptim AdamW, 24": Peer(
        "flashoptim_jax", lambda shapes: flashoptim_peer(shapes, "flash_adamw"), None
    ),
}


def missing(names: list[str]) -> dict[str, str]:
    """Return the peers that are not installed, and how to install them."""
    packages = {name: PEERS[name].package for name in names}
    return {
        name: INSTALL[package]
        for name, package in packages.items()
        if importlib.util.find_spec(package) is None
    }


def _parameters(torch: Any, shapes: Shapes) -> list[Any]:
    """Make the parameters with their gradients, on the GPU if torch has one."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    params, gradients = (
        [
            torch.from_numpy(np.array(x)).to(device)
            for x in arrays(shapes, "float32", seed).values()
        ]
        for seed in (0, 1)
    )
    for p, g in zip(params, gradients, strict=True):
        p.grad = g
    return params


def _synchronized(torch: Any, params: list[Any], step: Callable[[], Any]) -> PeerStep:
    def run() -> None:
        step()
        if params[0].is_cuda:
            torch.cuda.synchronize()

    return PeerStep(run, lambda: [p.cpu() for p in params])
