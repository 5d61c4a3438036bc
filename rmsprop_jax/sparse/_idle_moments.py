"""The moments of a row after idle steps, which are steps with a zero gradient.

After `k` of them, with `a = decay**k`, and `r = W/W'` for the weights `1 - decay**t`
`W` before and `W'` after them under bias correction, else 1:

    s <- a*s                                       uncentered
    s <- a*s + a*(1-a)*r*|m|**2;   m <- a*r*m      centered

This is what `_rule.advance` computes when it is applied `k` times. Centered without
bias correction `s + |m|**2` decays by `a`; with it `s + W*|m|**2` and `W*m` do.
"""

import math
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Inexact, Int32, UInt32

from .._rule import Rule
from ._rows import along_rows


def logarithm(base: Any, dtype: DTypeLike) -> float:
    """Compute the logarithm of a number in [0, 1], rounded to `dtype` first."""
    rounded = float(np.dtype(dtype).type(base))
    return math.log(rounded) if rounded > 0 else -math.inf


def powers(
    log_base: float, k: UInt32[Array, "*rows"], dtype: DTypeLike
) -> tuple[Float[Array, "*rows"], Float[Array, "*rows"]]:
    """Compute base**k and 1 - base**k without cancellation; 0**0 is 1."""
    exponent = jnp.where(k == 0, 0.0, k.astype(dtype) * jnp.asarray(log_base, dtype))
    return jnp.exp(exponent), -jnp.expm1(exponent)


def decay_moments(
    rule: Rule,
    k: UInt32[Array, " rows"],
    step: Int32[Array, ""],
    s: Float[Array, "rows ..."],
    m: Inexact[Array, "rows ..."] | None,
) -> tuple[Float[Array, "rows ..."], Inexact[Array, "rows ..."] | None]:
    """Return the moments of rows that were idle in the last `k` of `step` updates."""
    log_decay = logarithm(rule.decay, s.dtype)
    a, rest = (along_rows(x, s) for x in powers(log_decay, k, s.dtype))
    if m is None:
        return a * s, None
    r = jnp.ones((), s.dtype)
    if rule.bias_correction:
        now = step.astype(jnp.uint32)
        before = now - jnp.minimum(k, now)  # past 2**31 steps both weights are 1
        weights = [powers(log_decay, t, s.dtype)[1] for t in (before, now)]
        # Before the first step both are 0, and so is m.
        r = along_rows(weights[0] / jnp.where(now == 0, 1.0, weights[1]), s)
    return a * s + a * rest * r * jnp.real(m * jnp.conj(m)), (a * r).astype(m.dtype) * m
