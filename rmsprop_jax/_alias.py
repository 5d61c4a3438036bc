"""`rmsprop`: one optax chain."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, PyTree

from ._cached import cached
from ._checks import check_injected, check_number
from ._leaves import is_inexact, map_leaves
from ._momentum import trace
from ._storage import Format, arithmetic_dtype, find_format, lift, lower, real_dtype
from ._transform import check_rule, scale_by_rmsprop

ScalarOrSchedule = ArrayLike | np.generic | optax.Schedule


@cached
def rmsprop(
    learning_rate: ScalarOrSchedule,
    decay: ArrayLike = 0.9,
    eps: ArrayLike = 1e-8,
    initial_scale: ArrayLike = 0.0,
    eps_in_sqrt: bool = True,
    centered: bool = False,
    momentum: ArrayLike | None = None,
    nesterov: bool = False,
    bias_correction: bool = False,
    *,
    lr_in_momentum: bool = True,
    weight_decay: ArrayLike | None = None,
    decoupled_weight_decay: bool = False,
    weight_decay_mask: PyTree | Callable[[PyTree], PyTree] | None = None,
    storage: str | Format = "float32",
    nonfinite: str = "propagate",
    seed: ArrayLike = 0,
) -> optax.GradientTransformationExtraArgs:
    """RMSProp, with the arguments of `optax.rmsprop` and what it lacks.

        g <- g + weight_decay*p                          coupled weight decay
        u  = g / sqrt(s + eps)                           see `scale_by_rmsprop`
        b <- momentum*b + lr*u;   p <- p - b             lr_in_momentum
        b <- momentum*b + u;      p <- p - lr*b          otherwise
        p <- p - lr*weight_decay*p                       decoupled weight decay

    The two momentum orders are the same only while the learning rate is constant.

    Args:
      learning_rate: step size `lr`: a number, an array or an optax schedule.
      decay, eps, initial_scale, eps_in_sqrt, centered, bias_correction: as in
        `scale_by_rmsprop`.
      momentum: weight of the past in the buffer `b`, in [0, 1); None keeps no buffer.
        May be scheduled with `optax.inject_hyperparams`.
      nesterov: whether momentum looks one step ahead: p <- p - (lr*u + momentum*b).
      lr_in_momentum: whether the buffer accumulates steps (TensorFlow, Keras, optax)
        or directions (PyTorch).
      weight_decay: strength of weight decay, >= 0; None for none. May be scheduled
        with `optax.inject_hyperparams`.
      decoupled_weight_decay: whether weight decay acts on the parameter, times the
        learning rate and outside the buffer, instead of on the gradient.
      weight_decay_mask: a tree of booleans, or a function from the parameters to one,
        as in `optax.masked`: True where weight decay applies. A function must be
        named in `static_args` of `optax.inject_hyperparams`.
      storage, nonfinite, seed: as in `scale_by_rmsprop`.

    Returns:
      An `optax.GradientTransformationExtraArgs`: an `optax.chain`.

    Raises:
      ValueError: at construction for a number outside its range, an unknown string,
        or `initial_scale` with `bias_correction`; at `update` for weight decay
        without `params`, or gradients whose tree or shapes do not fit the state.
      TypeError: for an argument of the wrong kind; at `init` and `update` for leaves
        that are not floating point or complex arrays.

    Example:
      >>> import jax.numpy as jnp, optax, rmsprop_jax
      >>> tx = rmsprop_jax.rmsprop(optax.linear_schedule(0.1, 0.0, 100), momentum=0.9)
      >>> params = jnp.array([1.0, -2.0])
      >>> updates, state = tx.update(params, tx.init(params), params)
      >>> optax.apply_updates(params, updates).round(4)
      Array([ 0.6838, -1.6838], dtype=float32)

    Source: as `scale_by_rmsprop`; decoupled weight decay: Loshchilov and Hutter,
      Decoupled Weight Decay Regularization, 2019.
    """
    call = "rmsprop"
    check_rule(call, decay, eps, initial_scale, bias_correction, nonfinite)
    if not callable(learning_rate):
        check_number(call, "learning_rate", learning_rate, at_least=-float("inf"))
    if momentum is not None:
        check_number(call, "momentum", momentum, below=1.0)
    if weight_decay is not None:
        check_number(call, "weight_decay", weight_decay)

    format_ = find_format(call, storage)
    scale = _scale_by_learning_rate(learning_rate)
    links = [
        scale_by_rmsprop(
            decay,
            eps,
            initial_scale,
            eps_in_sqrt,
            centered,
            bias_correction,
            storage=format_,
            nonfinite=nonfinite,
            seed=seed,
        ),
        scale,
    ]
    if momentum is not None:
        buffer = trace(momentum, nesterov, storage=format_, seed=seed)
        links.insert(2 if lr_in_momentum else 1, buffer)
    if weight_decay is not None and decoupled_weight_decay:
        decayed = _add_decayed_weights(weight_decay, learning_rate)
        links.append(_masked(decayed, weight_decay_mask))
    elif weight_decay is not None:
        decayed = _add_decayed_weights(weight_decay)
        links.insert(0, _masked(decayed, weight_decay_mask))
    return in_arithmetic(optax.chain(*links))


def _scale_by_learning_rate(
    learning_rate: ScalarOrSchedule,
) -> optax.GradientTransformation:
    """`optax.scale_by_learning_rate`, for a rate of any dtype."""
    if callable(learning_rate):
        return optax.scale_by_schedule(lambda count: -jnp.asarray(learning_rate(count)))

    def scaled(updates: PyTree, params: PyTree) -> PyTree:
        del params
        return jax.tree.map(lambda u: -jnp.asarray(learning_rate, u.dtype) * u, updates)

    return optax.stateless(scaled)


def _add_decayed_weights(
    weight_decay: ArrayLike, learning_rate: ScalarOrSchedule | None = None
) -> optax.GradientTransformation:
    """Add `weight_decay*p` to a gradient, or `-lr*weight_decay*p` to an update."""

    def init(params: PyTree) -> optax.ScaleByScheduleState | optax.EmptyState:
        del params
        check_injected("rmsprop", "weight_decay", weight_decay)
        if callable(learning_rate):
            return optax.ScaleByScheduleState(jnp.zeros((), jnp.int32))
        return optax.EmptyState()

    def update(updates: PyTree, state: Any, params: PyTree = None):
        if params is None:
            raise ValueError(
                "`rmsprop(weight_decay=...).update` needs the parameters: call "
                "`update(updates, state, params)`."
            )
        rate = learning_rate
        if callable(learning_rate):
            rate = learning_rate(state.count)
            state = optax.ScaleByScheduleState(optax.safe_increment(state.count))

        def leaf_step(leaf: int, u: Array, p: Array):
            del leaf
            factor = jnp.asarray(weight_decay, u.dtype)
            if rate is not None:
                factor *= -jnp.asarray(rate, u.dtype)
            return u + factor * p.astype(u.dtype), p

        return map_leaves("rmsprop", leaf_step, updates, params)[0], state

    return optax.GradientTransformation(init, update)


def _masked(
    tx: optax.GradientTransformation, mask: PyTree | Callable[[PyTree], PyTree] | None
) -> optax.GradientTransformation:
    return tx if mask is None else optax.masked(tx, mask)


def in_arithmetic(
    tx: optax.GradientTransformation,
) -> optax.GradientTransformationExtraArgs:
    """Run the whole of `tx` in the dtype of the arithmetic, then cast once."""

    def update(updates: PyTree, state: Any, params: PyTree = None, **extra_args: Any):
        wide, state = tx.update(_lifted(updates), state, _lifted(params), **extra_args)
        return jax.tree.map(
            lambda u, g: lower(u, jnp.result_type(g)), wide, updates
        ), state

    return optax.GradientTransformationExtraArgs(tx.init, update)


def _lifted(tree: PyTree) -> PyTree:
    def leaf(x: Any) -> Any:
        if not is_inexact(x):
            return x  # for `map_leaves` to refuse
        x = jnp.asarray(x)
        return lift(x, real_dtype(arithmetic_dtype(x.dtype)))

    return jax.tree.map(leaf, tree)
