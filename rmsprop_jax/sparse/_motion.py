"""How a row moves: in the step that touches it, and in the idle ones between.

In `k` idle steps `u` is 0, and momentum and decoupled weight decay go on alone:

    p <- keep*p + reach*b;   b <- momentum**k * b
    keep  = prod_i (1 - lr_i*weight_decay)
    reach = sum_i momentum**i * prod_{j>i} (1 - lr_j*weight_decay)     lr_in_momentum
    reach = -sum_i lr_i * momentum**i * prod_{j>i} (1 - lr_j*weight_decay)  otherwise

times another `momentum` with nesterov. As in `optax.chain`, a buffer with the learning
rate inside holds updates, which are added. At a constant rate these are geometric sums.
Under a schedule, which is a function of the count, they are differences of sums that
all rows share: see `Schedule`.
"""

import dataclasses
import math
from collections.abc import Callable
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
    def follows(self) -> bool:
        """Whether how an idle row moves depends on a schedule."""
        return callable(self.learning_rate) and self.depends_on_rate

    def rate(self, count: Int32[Array, ""], dtype: DTypeLike) -> Float[Array, ""]:
        """Give the learning rate of the step after `count` steps."""
        if callable(self.learning_rate):
            return jnp.asarray(self.learning_rate(count)).astype(dtype)
        return jnp.asarray(self.learning_rate, dtype)


class Schedule(NamedTuple):
    """What the steps that a row missed did to it, where they followed a schedule.

        keep  = exp(log_keep - log_keep_of_row)
        reach = keep*ahead_of_row - momentum**k * ahead

    Attributes:
      log_keep: `log(prod_i (1 - lr_i*weight_decay))` over all steps so far.
      rest: what rounding left out of `log_keep`.
      ahead: `reach/keep` of all steps to come, as if no gradient came any more.
      log_keep_of_rows: `log_keep` when each row was last touched; None without weight
        decay.
      ahead_of_rows: `ahead` when each row was last touched; None without momentum.
    """

    log_keep: Float[Array, "*tables"]
    rest: Float[Array, "*tables"]
    ahead: Float[Array, "*tables"]
    log_keep_of_rows: Float[Array, "*tables rows"] | None
    ahead_of_rows: Float[Array, "*tables rows"] | None


class Idle(NamedTuple):
    """What idle steps do to a row: one number each."""

    keep: Float[Array, " rows"]
    reach: Float[Array, " rows"]
    fade: Float[Array, " rows"]


def move(
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


def start_schedule(
    motion: Motion, zeros: Callable[[], Float[Array, " rows"]], dtype: DTypeLike
) -> Schedule | None:
    """Give what `idle` has to know before the first step; arrays of their own each."""
    if not motion.follows:
        return None
    return Schedule(
        log_keep=jnp.zeros((), dtype),
        rest=jnp.zeros((), dtype),
        ahead=_ahead(motion, jnp.zeros((), jnp.int32), dtype),
        log_keep_of_rows=None if motion.weight_decay is None else zeros(),
        ahead_of_rows=None if motion.momentum is None else zeros(),
    )


def next_schedule(
    motion: Motion, schedule: Schedule | None, count: Int32[Array, ""]
) -> Schedule | None:
    """Go on by the step after `count`."""
    if schedule is None:
        return None
    dtype = schedule.log_keep.dtype
    # In two parts, so that a long sum of small numbers loses nothing.
    y = _log_keep(motion, motion.rate(count, dtype)) + schedule.rest
    log_keep = schedule.log_keep + y
    return schedule._replace(
        log_keep=log_keep,
        rest=y - (log_keep - schedule.log_keep),
        ahead=_ahead(motion, later(count, jnp.int32(1)), dtype),
    )


def idle(
    motion: Motion,
    k: UInt32[Array, " rows"],
    schedule: Schedule | None,
    dtype: DTypeLike,
) -> Idle:
    """Compute what `k` idle steps did; `schedule` holds what is known of each row."""
    mu = motion.momentum or 0.0
    fade, _ = powers(logarithm(mu, dtype), k, dtype)
    if schedule is None:
        keep, reach = _at_constant_rate(motion, k, dtype)
        return Idle(keep, mu * reach if motion.nesterov else reach, fade)
    keep, reach = jnp.ones(k.shape, dtype), jnp.zeros(k.shape, dtype)
    if schedule.log_keep_of_rows is not None:
        keep = jnp.exp(schedule.log_keep - schedule.log_keep_of_rows)
    if schedule.ahead_of_rows is not None:
        reach = keep * schedule.ahead_of_rows - fade * schedule.ahead
    return Idle(keep, reach, fade)


def later(count: Int32[Array, "*n"], steps: Int32[Array, "*m"]) -> Int32[Array, "..."]:
    """Add to a count, which stops at its maximum."""
    return count + jnp.minimum(steps, jnp.int32(jnp.iinfo(jnp.int32).max) - count)


def _log_keep(motion: Motion, rate: Float[Array, "*n"]) -> Float[Array, "*n"]:
    weight_decay = motion.weight_decay or 0.0
    return jnp.log1p(-rate * jnp.asarray(weight_decay, rate.dtype))


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


def _ahead(
    motion: Motion, count: Int32[Array, ""], dtype: DTypeLike
) -> Float[Array, ""]:
    """Sum what momentum does from `count` on, until it is below rounding."""
    mu = motion.momentum
    if not mu:
        return jnp.zeros((), dtype)
    negligible = float(jnp.finfo(dtype).eps) * (1 - mu) / 8
    steps = jnp.arange(math.ceil(math.log(negligible) / math.log(mu)), dtype=jnp.int32)
    # A schedule may be written for one count at a time.
    rates = jax.vmap(lambda count: motion.rate(count, dtype))(later(count, steps))
    terms, _ = powers(logarithm(mu, dtype), steps.astype(jnp.uint32) + 1, dtype)
    terms = mu * terms if motion.nesterov else terms
    if not motion.lr_in_momentum:
        terms = -rates * terms
    return jnp.sum(terms * jnp.exp(-jnp.cumsum(_log_keep(motion, rates))))
