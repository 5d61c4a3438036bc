"""RMSProp as an optax transformation: trees x rule x storage."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, Inexact, Int32, PyTree

from ._cached import cached
from ._checks import (
    check_choice,
    check_injected,
    check_number,
    check_state,
    is_traced,
)
from ._dither import Dither
from ._leaves import check_kinds, check_parameters, map_leaves
from ._rule import Rule, coefficients, step
from ._storage import (
    Format,
    arithmetic_dtype,
    find_format,
    lift,
    lower,
    read,
    real_dtype,
    signed,
    store,
)


class RMSPropState(NamedTuple):
    """What RMSProp keeps between steps, whatever its options.

    Attributes:
      count: number of updates so far; an int32 scalar that stops at its maximum.
      s: second moment of each parameter: what the root is taken of. Centered, it is
        the variance, and not the mean square that other frameworks keep.
      m: mean gradient of each parameter; None unless centered.
    """

    count: Int32[Array, ""]
    s: PyTree
    m: PyTree


@cached
def scale_by_rmsprop(
    decay: ArrayLike = 0.9,
    eps: ArrayLike = 1e-8,
    initial_scale: ArrayLike = 0.0,
    eps_in_sqrt: bool = True,
    centered: bool = False,
    bias_correction: bool = False,
    *,
    storage: str | Format = "float32",
    nonfinite: str = "propagate",
    seed: ArrayLike = 0,
) -> optax.GradientTransformationExtraArgs:
    """Divide gradients by the root of the moving average of their squares.

        W   = 1 - decay**t   with bias_correction, else 1
        s  <- decay*s + (1-decay)*|g|**2                                     uncentered
        d   = g - m;  m <- m + (1-decay)/W*d                                 centered
        s  <- decay*s + (1-decay)*Re(conj(d)*(g - m))                        centered
        u   = g / sqrt(s/W + eps)       eps_in_sqrt, else  g / (sqrt(s/W) + eps)

    The updates `u` point along the gradient: follow with `optax.scale(-learning_rate)`.
    Arithmetic is float32 (float64 for float64 parameters, unless `storage` is narrow)
    whatever the dtype of parameters and gradients; a zero gradient gives a zero update,
    also where eps is 0.
    Gradients above 2**62 in size (2**510 in float64) count as that size. An update that
    would overflow is the largest finite number, in each part of a complex one.

    Args:
      decay: weight of the past in the moving averages, in [0, 1); memory of about
        `1/(1-decay)` steps. May be scheduled with `optax.inject_hyperparams`.
      eps: added to the denominator, >= 0, in the unit of |g|**2 inside the root and
        of |g| outside it. May be scheduled with `optax.inject_hyperparams`.
      initial_scale: `s` before the first step, >= 0: 0 in PyTorch and Keras, 1 in
        TensorFlow 1. Not together with `bias_correction`.
      eps_in_sqrt: whether eps is added under the root (TensorFlow, JAX) or to the
        root (PyTorch).
      centered: whether to divide by the standard deviation of the gradient instead
        of its root mean square.
      bias_correction: whether to undo the start of the averages at zero.
      storage: how `s` and `m` are kept between steps: "float32" (4 bytes), "bfloat16"
        (2 bytes), "uint8" (1 byte for s, m in bfloat16), or a `Format`. The arithmetic
        is float32 all the same, and an update uses `s` before it is rounded.
      nonfinite: what a NaN or inf in the gradient does to its own coordinate:
        "propagate" makes update and state NaN at once; "hold" gives a zero update
        and leaves `s` and `m` as they are.
      seed: an integer; seed of the stochastic rounding of narrow storage.

    Returns:
      An `optax.GradientTransformationExtraArgs` with an `RMSPropState`.

    Raises:
      ValueError: at construction for a number outside its range, an unknown string,
        or `initial_scale` with `bias_correction`; at `update` for gradients whose
        tree or shapes do not fit the state.
      TypeError: for an argument of the wrong kind; at `init` and `update` for leaves
        that are not floating point or complex arrays.

    Example:
      >>> import jax.numpy as jnp, optax, rmsprop_jax
      >>> tx = optax.chain(rmsprop_jax.scale_by_rmsprop(), optax.scale(-0.1))
      >>> params = {"w": jnp.array([1.0, -2.0])}
      >>> updates, state = tx.update(params, tx.init(params))  # gradient of |w|**2/2
      >>> updates["w"].round(4)
      Array([-0.3162,  0.3162], dtype=float32)

    Source: Tieleman and Hinton, Lecture 6.5, COURSERA: Neural Networks for Machine
      Learning, 2012. Centered: Graves, Generating Sequences With Recurrent Neural
      Networks, 2013, eq. 38-45.
    """
    call = "scale_by_rmsprop"
    check_rule(call, decay, eps, initial_scale, bias_correction, nonfinite)
    s_format = find_format(call, storage)
    m_format = signed(s_format)
    rule = Rule(decay, eps, eps_in_sqrt, centered, bias_correction)

    def init(params: PyTree) -> RMSPropState:
        check_parameters(call, params)
        check_injected(call, "decay", decay)
        check_injected(call, "eps", eps)
        check_injected(call, "initial_scale", initial_scale)
        check_start(call, initial_scale, bias_correction)

        def second_moment(p):
            dtype = real_dtype(arithmetic_dtype(jnp.result_type(p)))
            return s_format.init(p, initial_scale, dtype)

        def mean(p):
            return m_format.init(p, 0.0, arithmetic_dtype(jnp.result_type(p)))

        return RMSPropState(
            count=jnp.zeros((), jnp.int32),
            s=jax.tree.map(second_moment, params),
            m=jax.tree.map(mean, params) if centered else None,
        )

    def update(
        updates: PyTree, state: RMSPropState, params: PyTree = None, **extra_args: Any
    ) -> tuple[PyTree, RMSPropState]:
        del extra_args
        check_state(call, state, RMSPropState)
        if jax.tree.leaves(state.s) and bool(jax.tree.leaves(state.m)) != centered:
            raise ValueError(
                f"`{call}(centered={centered}).update`: the state is that of centered="
                f"{not centered}. Use the options that it was made with."
            )
        check_kinds(call, updates, state.m if params is None else params)
        count = jnp.asarray(optax.safe_increment(state.count))
        at = functools.cache(lambda dtype: coefficients(rule, count, dtype))

        def leaf_step(
            leaf: int, g: Inexact[Array, "*shape"], s: Array, m: Array | None
        ):
            s, m = (
                read(call, s_format, s),
                None if m is None else read(call, m_format, m),
            )
            u, s, m = step(at(s.dtype), lift(g, s.dtype), s, m, nonfinite=nonfinite)
            s = store(s_format, s, Dither(seed, state.count, "s", leaf))
            if m is not None:
                m = store(m_format, m, Dither(seed, state.count, "m", leaf))
            return lower(u, g.dtype), s, m

        updates, s, m = map_leaves(call, leaf_step, updates, state.s, state.m)
        return updates, RMSPropState(count, s, m)

    return optax.GradientTransformationExtraArgs(init, update)  # pyright: ignore


def check_rule(
    call: str,
    decay: ArrayLike,
    eps: ArrayLike,
    initial_scale: ArrayLike,
    bias_correction: bool,
    nonfinite: str,
) -> None:
    """Check the arguments that every RMSProp takes, in the name of `call`."""
    check_number(
        call,
        "decay",
        decay,
        below=1.0,
        hint=" For no decay use `optax.scale_by_rss`.",
    )
    check_number(call, "eps", eps)
    check_number(call, "initial_scale", initial_scale)
    check_choice(call, "nonfinite", nonfinite, ("propagate", "hold"))
    if not isinstance(initial_scale, jax.Array):
        check_start(call, initial_scale, bias_correction)


def check_start(call: str, initial_scale: ArrayLike, bias_correction: bool) -> None:
    """Refuse a start other than 0 with bias correction, where its value is known."""
    if not bias_correction or is_traced(initial_scale):
        return
    if np.asarray(initial_scale) != 0:
        raise ValueError(
            f"`{call}(initial_scale={initial_scale}, bias_correction=True)`: bias "
            "correction undoes a start at 0 and means nothing with another. Drop one."
        )
