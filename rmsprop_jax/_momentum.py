"""A momentum trace whose buffer goes through storage."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, Inexact, Int32, PyTree

from ._checks import check_injected, check_number, check_state
from ._dither import Dither
from ._leaves import check_parameters, map_leaves
from ._storage import (
    Format,
    arithmetic_dtype,
    find_format,
    lift,
    lower,
    read,
    signed,
    store,
)


class MomentumState(NamedTuple):
    """What momentum keeps between steps.

    Attributes:
      step: number of updates so far; an int32 scalar. Not named `count`, so that
        `optax.tree.get(state, "count")` finds the one of `RMSPropState`.
      trace: momentum buffer of each parameter.
    """

    step: Int32[Array, ""]
    trace: PyTree


def trace(
    momentum: ArrayLike,
    nesterov: bool = False,
    *,
    storage: str | Format = "float32",
    seed: ArrayLike = 0,
) -> optax.GradientTransformationExtraArgs:
    """Accumulate updates with momentum.

        b <- momentum*b + u
        update = b,   or   u + momentum*b   with nesterov

    `optax.trace` with float32 arithmetic (float64 for float64 parameters) and a buffer
    of the same dtype for ever.

    Args:
      momentum: weight of the past, in [0, 1). May be scheduled with
        `optax.inject_hyperparams`.
      nesterov: whether to look one step ahead.
      storage: how `b` is kept between steps, as `m` in `scale_by_rmsprop`.
      seed: as in `scale_by_rmsprop`.

    Returns:
      An `optax.GradientTransformationExtraArgs` with a `MomentumState`.

    Raises:
      ValueError: for momentum outside [0, 1), or gradients that do not fit the state.
      TypeError: for leaves that are not floating point or complex arrays.

    Source: Sutskever, Martens, Dahl and Hinton, On the importance of initialization
      and momentum in deep learning, 2013.
    """
    call = "rmsprop"  # where its arguments come from
    check_number(call, "momentum", momentum, below=1.0)
    format_ = signed(find_format(call, storage))

    def init(params: PyTree) -> MomentumState:
        check_parameters(call, params)
        check_injected(call, "momentum", momentum)

        def buffer(p):
            return format_.init(p, 0.0, arithmetic_dtype(jnp.result_type(p)))

        return MomentumState(jnp.zeros((), jnp.int32), jax.tree.map(buffer, params))

    def update(
        updates: PyTree, state: MomentumState, params: PyTree = None, **extra_args: Any
    ) -> tuple[PyTree, MomentumState]:
        del params, extra_args
        check_state(call, state, MomentumState)

        def leaf_step(leaf: int, u: Inexact[Array, "*shape"], b: Array):
            b = read(call, format_, b)
            mu = jnp.asarray(momentum, b.dtype)
            x = lift(u, b.real.dtype)
            dither = Dither(seed, state.step, "b", leaf)
            b = mu * b + x
            out = x + mu * b if nesterov else b
            return lower(out, u.dtype), store(format_, b, dither)

        updates, buffer = map_leaves(call, leaf_step, updates, state.trace)
        step = jnp.asarray(optax.safe_increment(state.step))
        return updates, MomentumState(step, buffer)

    return optax.GradientTransformationExtraArgs(init, update)  # pyright: ignore
