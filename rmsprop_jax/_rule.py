"""The algebra of RMSProp for one parameter, without trees and without storage.

    W  = 1 - decay**t  with bias_correction, else 1
    d  = g                                                     uncentered
    m <- m + (1-decay)/W * (g - m);   d = g - m                centered, with the new m
    s <- decay*s + (1-decay)/L * |d|**2,   L = 1 - (1-decay)/W centered, 1 otherwise
    u  = g / sqrt(s/W + eps)       eps_in_sqrt;      g / (sqrt(s/W) + eps)   otherwise

The root is taken of `s` in both forms. Centered, `s` is `E[|g|**2] - |E[g]|**2` in
exact arithmetic, and a sum of terms that cannot be negative. Momentum and weight decay:

    b <- momentum*b + x;   the update is b, or x + momentum*b with nesterov
    g <- g + weight_decay*p                          coupled
    u <- u - learning_rate*weight_decay*p            decoupled
"""

import dataclasses
import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Float, Inexact

Scalar = float | Array


@dataclasses.dataclass(frozen=True)
class Rule:
    """The numbers and switches of one RMSProp, as `scale_by_rmsprop` documents them."""

    decay: ArrayLike
    eps: ArrayLike
    eps_in_sqrt: bool
    centered: bool
    bias_correction: bool


class Coefficients(NamedTuple):
    """The scalars of one step, which are the same for all elements of a parameter."""

    decay: Scalar
    pull: Scalar  # (1-decay)/W
    fresh: Scalar  # (1-decay)/L
    weight: Scalar  # W
    floor: Scalar  # sqrt(s/W) >= floor * |d| in exact arithmetic
    eps_inside: Scalar
    eps_outside: Scalar


class Advanced(NamedTuple):
    """The update of one step, and the moments after it."""

    u: Inexact[Array, "*shape"]
    s: Float[Array, "*shape"]
    m: Inexact[Array, "*shape"] | None


def coefficients(rule: Rule, t: Array, dtype: DTypeLike) -> Coefficients:
    """Compute the scalars of step `t` = 1, 2, ... in real `dtype`."""
    decay, eps = _in_dtype(rule.decay, dtype), _in_dtype(rule.eps, dtype)
    weight, fresh = 1.0, 1 - decay
    if rule.bias_correction:
        weight = _weight(decay, t, dtype)
    if rule.centered:
        # As a product L is exactly 0 at t = 1, where the mean is the gradient.
        before = _weight(decay, t - 1, dtype) if rule.bias_correction else 1.0
        fresh = _divide(1 - decay, jnp.asarray(decay * before / weight, dtype))
    return Coefficients(
        decay=decay,
        pull=(1 - decay) / weight,
        fresh=fresh,
        weight=weight,
        floor=_root(jnp.asarray(fresh / weight, dtype), 0.0),
        eps_inside=eps if rule.eps_in_sqrt else 0.0,
        eps_outside=0.0 if rule.eps_in_sqrt else eps,
    )


# Jitted, so that it is traced once for all leaves of one shape.
@functools.partial(jax.jit, static_argnames="nonfinite")
def advance(
    c: Coefficients,
    g: Inexact[Array, "*shape"],
    s: Float[Array, "*shape"],
    m: Inexact[Array, "*shape"] | None,
    *,
    nonfinite: str,
) -> Advanced:
    """Advance the moments of one parameter by one gradient, all of one precision."""
    finite, held = jnp.isfinite(g), nonfinite == "hold"
    # |g - m|**2 must not overflow: 2**62 in float32, 2**510 in float64.
    # Times 0 it is NaN where it is not finite, and adds nothing where it is.
    nothing = _times_zero(g)
    g = d = _limit(g, math.sqrt(float(jnp.finfo(g.dtype).max)) / 4)
    if m is not None:
        new_m = m + jnp.asarray(c.pull, m.dtype) * (g - m)
        m = jnp.where(finite, new_m, m) if held else new_m + nothing
        d = g - m
    new_s = c.decay * s + c.fresh * _square(d)
    s = jnp.where(finite, new_s, s) if held else new_s + (nothing.real + nothing.imag)
    # The square underflows below 1e-19 in float32; the floor is what it stands for.
    root = _root(s / c.weight + c.eps_inside, c.floor * jnp.abs(d))
    u = _limit(_divide(g, root + c.eps_outside))
    return Advanced(jnp.where(finite, u, 0.0) if held else u, s, m)


def accumulate(
    x: Inexact[Array, "*shape"],
    b: Inexact[Array, "*shape"],
    momentum: Scalar,
    nesterov: bool,
) -> tuple[Inexact[Array, "*shape"], Inexact[Array, "*shape"]]:
    """Add `x` to a momentum buffer; return the update and the new buffer."""
    # So the sum of all steps stays finite. A limit of the sum would do the same, but
    # XLA for CPU would then keep one more array.
    largest = float(jnp.finfo(x.dtype).max)
    x = _limit(x, (1 - jnp.real(momentum)) * (largest * (1 - 1e-6)))
    b = momentum * b + x
    return (x + momentum * b if nesterov else b), b


def step_down(x: Inexact[Array, "*shape"], rate: Scalar) -> Inexact[Array, "*shape"]:
    """Compute -rate*x, rounded and finite.

    Compilers contract a product and a sum into one operation in some programs and not
    in others: where a mesh has a gather between them they cannot. They do not look for
    the product behind a limit, so a step is the same on one device and on many.
    """
    return _limit(-rate * x)


def decay_weights(
    x: Inexact[Array, "*shape"],
    p: Inexact[Array, "*shape"],
    weight_decay: Scalar,
    rate: Scalar | None = None,
) -> Inexact[Array, "*shape"]:
    """Add weight decay to a gradient, or to an update where a rate is given."""
    return x + (weight_decay if rate is None else weight_decay * -rate) * p


def _in_dtype(value: ArrayLike, dtype: DTypeLike) -> Scalar:
    # A Python number stays one, so that 1 - decay is rounded once.
    return float(value) if isinstance(value, float) else jnp.asarray(value, dtype)


def _weight(decay: Scalar, t: Array, dtype: DTypeLike) -> Array:
    """Compute 1 - decay**t without cancellation."""
    tiny = 1e-37  # log of 0 would make the derivative NaN; here 1 - tiny**t is 1
    if isinstance(decay, float):
        log_decay = math.log(max(decay, tiny))
    else:
        log_decay = jnp.log(jnp.maximum(decay, tiny))
    return -jnp.expm1(jnp.asarray(t, dtype) * log_decay)


def _limit(
    x: Inexact[Array, "*shape"], bound: Scalar | None = None
) -> Inexact[Array, "*shape"]:
    """Limit the size to `bound`, by default to the largest finite number."""
    if jnp.iscomplexobj(x):
        return lax.complex(_limit(x.real, bound), _limit(x.imag, bound))
    bound = float(jnp.finfo(x.dtype).max) if bound is None else bound
    return jnp.clip(x, -bound, bound)


def _times_zero(x: Inexact[Array, "*shape"]) -> Inexact[Array, "*shape"]:
    return lax.complex(0 * x.real, 0 * x.imag) if jnp.iscomplexobj(x) else 0 * x


def _square(x: Inexact[Array, "*shape"]) -> Float[Array, "*shape"]:
    return x.real**2 + x.imag**2 if jnp.iscomplexobj(x) else x * x


def _root(v: Float[Array, "*shape"], otherwise: Scalar) -> Float[Array, "*shape"]:
    """Compute sqrt(v), or `otherwise` where v underflowed; finite derivatives."""
    small = v < jnp.finfo(v.dtype).tiny
    return jnp.where(small, otherwise, jnp.sqrt(jnp.where(small, 1.0, v)))


def _divide(g: Scalar, denominator: Float[Array, "*shape"]) -> Inexact[Array, "*shape"]:
    """Compute g / denominator with 0/0 = 0; finite derivatives."""
    if isinstance(g, Array) and jnp.iscomplexobj(g):
        return lax.complex(_divide(g.real, denominator), _divide(g.imag, denominator))
    zero = denominator == 0
    return jnp.where(zero, 0.0, g / jnp.where(zero, 1.0, denominator))
