"""Momentum with a buffer that goes through storage."""

from typing import NamedTuple

import jax.numpy as jnp
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, Inexact, Int32, PyTree

from ._arguments import (
    Call,
    cached,
    check_arrays,
    check_flags,
    check_numbers,
    check_state,
)
from ._boundary import bounded
from ._dither import Dither
from ._placement import resharded
from ._precision import arithmetic_dtype, lift, lower
from ._rule import accumulate
from ._storage import Format, decoded, encoded, find_format, signed
from ._trees import map_inexact, map_leaves


class MomentumState(NamedTuple):
    """The state of momentum between steps.

    Attributes:
      step: number of updates so far; an int32 scalar.
      trace: momentum buffer of each parameter.
    """

    step: Int32[Array, ""]
    trace: PyTree


@cached
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

    It is `optax.trace` with float32 arithmetic (float64 for float64 parameters) and a
    buffer whose dtype never changes.

    Args:
      momentum: weight of the past, in [0, 1). May be scheduled with
        `optax.inject_hyperparams`.
      nesterov: whether to look one step ahead.
      storage: how `b` is kept between steps, as `m` in `scale_by_rmsprop`.
      seed: an integer; seed of the stochastic rounding of narrow storage.

    Returns:
      An `optax.GradientTransformationExtraArgs` with a `MomentumState`.

    Raises:
      ValueError: for momentum outside [0, 1), or gradients that do not fit the state.
      TypeError: for leaves that are not floating point or complex arrays.

    Example:
      >>> import jax.numpy as jnp, optax, rmsprop_jax
      >>> rule, buffer = rmsprop_jax.scale_by_rmsprop(), rmsprop_jax.trace(0.9)
      >>> tx = optax.chain(rule, buffer, optax.scale(-0.1))
      >>> params = jnp.array([1.0, -2.0])
      >>> updates, state = tx.update(params, tx.init(params))
      >>> updates.round(4)
      Array([-0.3162,  0.3162], dtype=float32)

    Source: Sutskever, Martens, Dahl and Hinton, On the importance of initialization
      and momentum in deep learning, 2013.
    """
    call = Call("trace", injectable=True)
    return bounded(call, keep_trace(call, momentum, nesterov, storage, seed))


def keep_trace(
    call: Call,
    momentum: ArrayLike,
    nesterov: bool,
    storage: str | Format,
    seed: ArrayLike,
) -> optax.GradientTransformation:
    """Make the link of a chain that accumulates with momentum."""
    check_numbers(call, momentum=momentum, seed=seed)
    check_flags(call, nesterov=nesterov)
    format_ = signed(find_format(call, storage))

    def init(params: PyTree) -> MomentumState:
        check_arrays(call, momentum=momentum)

        def buffer(p):
            return format_.init(p, 0.0, arithmetic_dtype(jnp.result_type(p)))

        return MomentumState(jnp.zeros((), jnp.int32), map_inexact(buffer, params))

    def update(
        updates: PyTree, state: MomentumState, params: PyTree = None
    ) -> tuple[PyTree, MomentumState]:
        del params
        check_state(call, state, MomentumState)

        def accumulate_leaf(leaf: int, u: Inexact[Array, "*shape"], b: Array):
            b = decoded(call, format_, b)
            mu = jnp.asarray(momentum, b.dtype)
            x = lift(resharded(u, b), b.real.dtype)
            out, b = accumulate(x, b, mu, nesterov)
            dither = Dither(seed, state.step, "b", leaf)
            return lower(out, u.dtype), encoded(format_, b, dither)

        updates, buffer = map_leaves(call, accumulate_leaf, updates, state.trace)
        step = jnp.asarray(optax.safe_increment(state.step))
        return updates, MomentumState(step, buffer)

    return optax.GradientTransformation(init, update)  # pyright: ignore
