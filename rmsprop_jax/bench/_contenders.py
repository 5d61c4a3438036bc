"""The contenders: transformations of ours and of optax, and two bandwidths."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from .._master_weights import master_weights
from .._rmsprop import rmsprop
from .._storage import Format, UInt8

RATE = 1e-3
REFERENCE = "optax.rmsprop"


class Contender(NamedTuple):
    """One optimizer, the dtype of its parameters, and what a step must move.

    Attributes:
      make: builds the transformation.
      dtype: dtype of parameters and gradients.
      state_bytes: bytes per parameter that it keeps between steps.
      like: the contender with the same equations in float32; None for another
        algorithm.
      within: the largest distance from it that is allowed, relative to the distance
        that it moved.
    """

    make: Callable[[], optax.GradientTransformation]
    dtype: Any = jnp.float32
    state_bytes: float = 4
    like: str | None = REFERENCE
    within: float = 1e-5

    @property
    def bytes_moved(self) -> float:
        """Bytes per parameter to read gradient, parameter, state, and write the two."""
        size = jnp.dtype(self.dtype).itemsize
        return 3.0 * size + 2 * self.state_bytes


@dataclasses.dataclass(frozen=True)
class ToNearest(UInt8):
    """One byte rounded to nearest, to show what stochastic rounding costs."""

    stochastic = False


def _ours(**options: Any) -> Callable[[], optax.GradientTransformation]:
    return lambda: rmsprop(RATE, **options)


def _narrow(
    like: str, storage: str | Format, state_bytes: int, **options: Any
) -> Contender:
    make = _ours(storage=storage, **options)
    within = 0.003 if storage == "bfloat16" else 0.03
    return Contender(make, state_bytes=state_bytes, like=like, within=within)


def _master(bits: int) -> Callable[[], optax.GradientTransformation]:
    return lambda: master_weights(rmsprop(RATE, storage="uint8"), bits=bits)


half = jnp.bfloat16
CENTERED, MOMENTUM = "optax.rmsprop, centered", "optax.rmsprop, momentum"
CONTENDERS: dict[str, Contender] = {
    REFERENCE: Contender(lambda: optax.rmsprop(RATE)),
    "optax.rmsprop again": Contender(lambda: optax.rmsprop(RATE)),
    "rmsprop": Contender(_ours()),
    "rmsprop, uint8": _narrow(REFERENCE, "uint8", 1),
    "rmsprop, bfloat16 p, uint8": Contender(
        _ours(storage="uint8"), half, 1, within=0.03
    ),
    "optax.sgd": Contender(lambda: optax.sgd(RATE), state_bytes=0, like=None),
    "rmsprop, bfloat16": _narrow(REFERENCE, "bfloat16", 2),
    "rmsprop, uint8 to nearest": _narrow(REFERENCE, ToNearest(), 1),
    "rmsprop, eps outside": Contender(_ours(eps_in_sqrt=False), within=0.01),
    "rmsprop, centered": Contender(_ours(centered=True), state_bytes=8, like=CENTERED),
    CENTERED: Contender(
        lambda: optax.rmsprop(RATE, centered=True), state_bytes=8, like=CENTERED
    ),
    "rmsprop, momentum": Contender(_ours(momentum=0.9), state_bytes=8, like=MOMENTUM),
    MOMENTUM: Contender(
        lambda: optax.rmsprop(RATE, momentum=0.9), state_bytes=8, like=MOMENTUM
    ),
    "rmsprop, centered, bfloat16": _narrow(CENTERED, "bfloat16", 4, centered=True),
    "rmsprop, centered, uint8": _narrow(CENTERED, "uint8", 3, centered=True),
    "rmsprop, momentum, bfloat16": _narrow(MOMENTUM, "bfloat16", 4, momentum=0.9),
    "rmsprop, momentum, uint8": _narrow(MOMENTUM, "uint8", 3, momentum=0.9),
    "rmsprop, bfloat16 p": Contender(_ours(), half, within=0.01),
    "optax.rmsprop, bfloat16 p": Contender(
        lambda: optax.rmsprop(RATE), half, 2, within=0.01
    ),
    "master_weights 24, uint8": Contender(_master(24), half, 2, within=0.03),
    "master_weights 32, uint8": Contender(_master(32), half, 3, within=0.03),
    "optax.flatten(optax.rmsprop)": Contender(
        lambda: optax.flatten(optax.rmsprop(RATE))
    ),
}
QUICK = tuple(CONTENDERS)[:6]


def step_of(contender: Contender) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return `init(params)` and `step(params, state, gradients)`."""
    tx = contender.make()

    def step(params: Any, state: Any, gradients: Any) -> Any:
        updates, state = tx.update(gradients, state, params)
        return optax.apply_updates(params, updates), state

    return tx.init, step


# Two bandwidths of the machine as steps of the same form, with bytes per element.
BANDWIDTHS: dict[str, tuple[float, Callable[..., Any]]] = {
    "scale in place": (
        8.0,
        lambda params, state, gradients: (
            jax.tree.map(lambda p: (1 - RATE) * p, params),
            state,
        ),
    ),
    "update in place": (
        12.0,
        lambda params, state, gradients: (
            jax.tree.map(lambda p, g: p - RATE * g, params, gradients),
            state,
        ),
    ),
}
