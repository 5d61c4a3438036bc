"""`rmsprop`: one optax chain."""

from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, PyTree

from ._arguments import (
    Call,
    cached,
    check_arrays,
    check_flags,
    check_learning_rate,
    check_numbers,
    check_state,
    check_unused,
)
from ._boundary import bounded
from ._momentum import keep_trace
from ._placement import resharded
from ._precision import lift
from ._rule import Rule, decay_weights, step_down
from ._scale_by_rmsprop import divide
from ._storage import Format
from ._trees import is_inexact, map_leaves

ScalarOrSchedule = ArrayLike | np.generic | optax.Schedule
Mask = PyTree | Callable[[PyTree], PyTree] | None
RateState = optax.ScaleByScheduleState | optax.EmptyState


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
    weight_decay_mask: Mask = None,
    storage: str | Format = "float32",
    nonfinite: str = "propagate",
    seed: ArrayLike = 0,
) -> optax.GradientTransformationExtraArgs:
    """RMSProp with the arguments of `optax.rmsprop`, weight decay and narrow storage.

        g <- g + weight_decay*p                          coupled weight decay
        s <- decay*s + (1-decay)*|g|**2                  see `scale_by_rmsprop`
        u  = g / sqrt(s + eps)
        b <- momentum*b + lr*u;   p <- p - b             lr_in_momentum
        b <- momentum*b + u;      p <- p - lr*b          otherwise
        p <- p - lr*weight_decay*p                       decoupled weight decay

    The two orders of momentum are equal only while the learning rate is constant.

    Args:
      learning_rate: step size `lr`: a number, an array or an optax schedule.
      decay, eps, initial_scale, eps_in_sqrt, centered, bias_correction: as in
        `scale_by_rmsprop`.
      momentum: weight of the past in the buffer `b`, in [0, 1); None keeps no buffer.
        May be scheduled with `optax.inject_hyperparams`.
      nesterov: whether momentum looks one step ahead: p <- p - (lr*u + momentum*b).
      lr_in_momentum: whether the buffer accumulates steps `lr*u` (TensorFlow, Keras,
        optax) or directions `u` (PyTorch).
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
    call = Call("rmsprop", injectable=True)
    if momentum is None:
        check_unused(call, "momentum", nesterov=nesterov, lr_in_momentum=lr_in_momentum)
    if weight_decay is None:
        check_unused(
            call,
            "weight_decay",
            decoupled_weight_decay=decoupled_weight_decay,
            weight_decay_mask=weight_decay_mask,
        )
    return rmsprop_chain(
        call,
        learning_rate,
        Rule(decay, eps, eps_in_sqrt, centered, bias_correction),
        initial_scale=initial_scale,
        momentum=momentum,
        nesterov=nesterov,
        lr_in_momentum=lr_in_momentum,
        weight_decay=weight_decay,
        decoupled_weight_decay=decoupled_weight_decay,
        weight_decay_mask=weight_decay_mask,
        storage=storage,
        nonfinite=nonfinite,
        seed=seed,
    )


def rmsprop_chain(
    call: Call,
    learning_rate: ScalarOrSchedule,
    rule: Rule,
    *,
    initial_scale: ArrayLike,
    storage: str | Format,
    nonfinite: str,
    seed: ArrayLike,
    lr_in_momentum: bool,
    momentum: ArrayLike | None = None,
    nesterov: bool = False,
    weight_decay: ArrayLike | None = None,
    decoupled_weight_decay: bool = False,
    weight_decay_mask: Mask = None,
    first: Iterable[optax.GradientTransformation] = (),
) -> optax.GradientTransformationExtraArgs:
    """Chain the links of one RMSProp after those in `first`, in the words of `call`."""
    check_learning_rate(call, learning_rate)
    check_flags(
        call,
        lr_in_momentum=lr_in_momentum,
        decoupled_weight_decay=decoupled_weight_decay,
    )
    rate = _scale_by_learning_rate(call, learning_rate)
    links = [divide(call, rule, initial_scale, storage, nonfinite, seed), rate]
    if momentum is not None:
        buffer = keep_trace(call, momentum, nesterov, storage, seed)
        links.insert(2 if lr_in_momentum else 1, buffer)
    if weight_decay is not None:
        by_rate = learning_rate if decoupled_weight_decay else None
        decay = weight_decay_link(call, weight_decay, weight_decay_mask, by_rate)
        links.insert(len(links) if decoupled_weight_decay else 0, decay)
    links = [*first, *links]
    return bounded(call, optax.chain(*links), links=len(links))


def rate_in_momentum(second_moment: int, buffer: int) -> bool:
    """Tell from their places in a chain whether the buffer accumulates steps.

    A buffer right after the second moment accumulates directions.
    """
    return buffer != second_moment + 1


def _scale_by_learning_rate(
    call: Call, learning_rate: ScalarOrSchedule
) -> optax.GradientTransformation:
    """Make `optax.scale_by_learning_rate` for a rate of any dtype."""

    def init(params: PyTree) -> RateState:
        del params
        return _start_rate(learning_rate)

    def update(updates: PyTree, state: RateState, params: PyTree = None):
        del params
        rate, state = _next_rate(call, learning_rate, state)

        def scale(u: Any) -> Any:
            return step_down(u, _scalar(rate, u.dtype)) if is_inexact(u) else u

        return jax.tree.map(scale, updates), state

    return optax.GradientTransformation(init, update)  # pyright: ignore


def _start_rate(learning_rate: ScalarOrSchedule) -> RateState:
    if callable(learning_rate):
        return optax.ScaleByScheduleState(jnp.zeros((), jnp.int32))
    return optax.EmptyState()


def _next_rate(
    call: Call, learning_rate: ScalarOrSchedule, state: Any
) -> tuple[ArrayLike | np.generic, RateState]:
    """Return the rate of this step and the state of its schedule after it."""
    if not callable(learning_rate):
        return learning_rate, state
    check_state(call, state, optax.ScaleByScheduleState)
    after = jnp.asarray(optax.safe_increment(state.count))
    return learning_rate(state.count), optax.ScaleByScheduleState(after)


def _scalar(rate: ArrayLike | np.generic, dtype: DTypeLike) -> Array:
    rate = jnp.asarray(rate, dtype)
    return rate if rate.ndim == 0 else rate.reshape(())


def weight_decay_link(
    call: Call,
    weight_decay: ArrayLike,
    mask: Mask = None,
    rate: ScalarOrSchedule | None = None,
) -> optax.GradientTransformation:
    """Make the link that adds weight decay: decoupled where a rate is given."""
    check_numbers(call, weight_decay=weight_decay)

    def init(params: PyTree) -> RateState:
        del params
        check_arrays(call, weight_decay=weight_decay)
        return optax.EmptyState() if rate is None else _start_rate(rate)

    def update(updates: PyTree, state: RateState, params: PyTree = None):
        if params is None:
            raise ValueError(
                f"`{call}.update` needs the parameters for weight decay: call "
                "`update(updates, state, params)`."
            )
        now, state = (None, state) if rate is None else _next_rate(call, rate, state)

        def decay_leaf(leaf: int, u: Array, p: ArrayLike):
            del leaf
            strength = jnp.asarray(weight_decay, u.dtype)
            by_rate = None if now is None else _scalar(now, u.dtype)
            return decay_weights(u, _as(p, u), strength, by_rate), p

        return map_leaves(call, decay_leaf, updates, params)[0], state

    link = optax.GradientTransformation(init, update)  # pyright: ignore
    if mask is None:
        return link
    masked = optax.masked(link, mask)

    def init_masked(params: PyTree) -> Any:
        _check_mask(call, mask(params) if callable(mask) else mask, params)
        return masked.init(params)

    return optax.GradientTransformationExtraArgs(init_masked, masked.update)


def _check_mask(call: Call, mask: PyTree, params: PyTree) -> None:
    try:
        jax.tree.map(lambda _, inside: None, mask, params)
    except ValueError as error:
        raise ValueError(
            f"{call.given(weight_decay_mask=...)} must be a tree like the parameters, "
            f"or the top of one, {jax.tree.structure(params)}; got "
            f"{jax.tree.structure(mask)}."
        ) from error


def _as(p: ArrayLike, u: Array) -> Array:
    x = resharded(jnp.asarray(p), u)
    return lift(x, u.real.dtype).astype(u.dtype)
