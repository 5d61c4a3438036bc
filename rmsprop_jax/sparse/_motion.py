"""How a row moves: in the step that touches it, and in the idle ones between.

In `k` idle steps `u` is 0, and momentum and decoupled weight decay go on alone:

    p <- keep*p + reach*b;   b <- momentum**k * b
    keep  = prod_i (1 - lr_i*weight_decay)
    reach = sum_i momentum**i * prod_{j>i} (1 - lr_j*weight_decay)     lr_in_momentum
    reach = -sum_i lr_i * momentum**i * prod_{j>i} (1 - lr_j*weight_decay)  otherwise

times another `momentum` with nesterov. As in `optax.chain`, a buffer with the learning
rate inside holds updates, which are added. At a constant rate these are geometric sums;
under a schedule `keep` is a quotient of running products and `reach` is summed until
what is left is below rounding.
"""

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Inexact, Int32, UInt32

from ._idle import logarithm, powers


@dataclasses.dataclass(frozen=True)
class Motion:
    """What turns `u` into steps, as `rmsprop` documents it."""

    learning_rate: Any  # a number, an array or a schedule
    momentum: float | None
    nesterov: bool
    lr_in_momentum: bool
    weight_decay: float | None

    @property
    def idles(self) -> bool:
        """Whether a row moves in steps that do not touch it."""
        return self.momentum is not None or self.weight_decay is not None

    @property
    def depends_on_rate(self) -> bool:
        """Whether how an idle row moves depends on the learning rate."""
        outside = self.momentum is not None and not self.lr_in_momentum
        return outside or self.weight_decay is not None

    @property
    def sums(self) -> bool:
        """Whether idle steps have no closed form: they depend on a schedule."""
        return callable(self.learning_rate) and self.depends_on_rate

    def rate(self, count: Int32[Array, ""], dtype: DTypeLike) -> Float[Array, ""]:
        """Give the learning rate of the step after `count` steps."""
        if callable(self.learning_rate):
            return jnp.asarray(self.learning_rate(count)).astype(dtype)
        return jnp.asarray(self.learning_rate, dtype)


class Shrink(NamedTuple):
    """Decoupled weight decay under a schedule: `log(prod_i (1 - lr_i*weight_decay))`.

    Attributes:
      total: over all steps so far.
      rest: what rounding left out of `total`.
      rows: `total` as it was when each row was last touched.
    """

    total: Float[Array, ""]
    rest: Float[Array, ""]
    rows: Float[Array, " rows"]


class Idle(NamedTuple):
    """What idle steps do to a row: one number each."""

    keep: Float[Array, " rows"]
    reach: Float[Array, " rows"]
    fade: Float[Array, " rows"]


def advance(
    motion: Motion,
    rate: Float[Array, ""],
    p: Inexact[Array, "rows dim"],
    u: Inexact[Array, "rows dim"],
    b: Inexact[Array, "rows dim"] | None,
) -> tuple[Inexact[Array, "rows dim"], Inexact[Array, "rows dim"] | None]:
    """Move rows by the step that touches them."""
    outside = motion.momentum is not None and not motion.lr_in_momentum
    rate = rate.astype(p.dtype)
    x = u if outside else -rate * u
    if b is not None:
        mu = jnp.asarray(motion.momentum, p.dtype)
        b = mu * b + x
        x = x + mu * b if motion.nesterov else b
    x = -rate * x if outside else x
    if motion.weight_decay is not None:
        x = x - rate * jnp.asarray(motion.weight_decay, p.dtype) * p
    return p + x, b


def shrink_once(
    motion: Motion, shrink: Shrink | None, rate: Float[Array, ""]
) -> Shrink | None:
    """Add one step to the running product; a sum in two parts, which loses nothing."""
    if shrink is None:
        return None
    y = jnp.log1p(-rate * jnp.asarray(motion.weight_decay, rate.dtype)) + shrink.rest
    total = shrink.total + y
    return Shrink(total, y - (total - shrink.total), shrink.rows)


def idle(
    motion: Motion,
    k: UInt32[Array, " rows"],
    count: Int32[Array, ""],
    log_keep: Float[Array, " rows"] | None,
    dtype: DTypeLike,
) -> Idle:
    """Compute what `k` idle steps up to `count` did."""
    mu = motion.momentum or 0.0
    fade, _ = powers(logarithm(mu, dtype), k, dtype)
    if motion.sums:
        keep = jnp.ones(k.shape, dtype) if log_keep is None else jnp.exp(log_keep)
        reach = _sum_of_schedule(motion, k, count, log_keep, dtype)
    else:
        keep, reach = _at_constant_rate(motion, k, dtype)
    return Idle(keep, mu * reach if motion.nesterov else reach, fade)


def _at_constant_rate(
    motion: Motion, k: UInt32[Array, " rows"], dtype: DTypeLike
) -> tuple[Array, Array]:
    """Compute keep = c**k and reach = sum_i mu**i * c**(k-i), times -lr if outside."""
    mu = float(np.dtype(dtype).type(motion.momentum or 0.0))
    c = 1.0
    if motion.weight_decay is not None:
        c -= float(motion.learning_rate) * motion.weight_decay
    small, big = sorted((mu, c))
    gap = big - small
    keep, _ = powers(math.log(c), k, dtype)
    power, _ = powers(math.log(big), k, dtype)
    if gap == 0:
        ratio = k.astype(dtype) / jnp.asarray(big, dtype)
    else:
        log_ratio = math.log1p(-gap / big) if small > 0 else -math.inf
        ratio = powers(log_ratio, k, dtype)[1] / jnp.asarray(gap, dtype)
    reach = mu * power * ratio
    if not motion.lr_in_momentum:
        reach = -jnp.asarray(motion.learning_rate, dtype) * reach
    return keep, reach


def _sum_of_schedule(
    motion: Motion,
    k: UInt32[Array, " rows"],
    count: Int32[Array, ""],
    log_keep: Float[Array, " rows"] | None,
    dtype: DTypeLike,
) -> Array:
    """Sum over the idle steps, from the first, until momentum**i is below rounding."""
    total = jnp.zeros(k.shape, dtype)
    if not motion.momentum:
        return total
    mu = jnp.asarray(motion.momentum, dtype)
    # What is left out is less than that part of the largest momentum.
    negligible = float(jnp.finfo(dtype).eps) * (1 - motion.momentum) / 8
    most = math.ceil(math.log(negligible) / math.log(motion.momentum))
    last = jnp.minimum(jnp.max(k, initial=0), jnp.uint32(most))
    now = count.astype(jnp.uint32)
    first = (now - jnp.minimum(k, now)).astype(jnp.int32)
    # A schedule may be written for one count at a time.
    rates = jax.vmap(lambda count: motion.rate(count, dtype))

    def step(carry):
        i, weight, log_done, total = carry
        rate, weight = rates(first + i.astype(jnp.int32)), weight * mu
        term = jnp.full(k.shape, weight)
        if not motion.lr_in_momentum:
            term = -rate * term
        if log_keep is not None:
            log_done += jnp.log1p(-rate * jnp.asarray(motion.weight_decay, dtype))
            term *= jnp.exp(log_keep - log_done)
        return i + 1, weight, log_done, total + jnp.where(i < k, term, 0.0)

    start = (jnp.uint32(0), jnp.ones((), dtype), jnp.zeros_like(total), total)
    return jax.lax.while_loop(lambda carry: carry[0] < last, step, start)[3]
