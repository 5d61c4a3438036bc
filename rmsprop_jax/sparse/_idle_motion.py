"""How a row moves in idle steps, which are steps with a zero gradient.

In `k` of them `u` is 0, and only momentum and decoupled weight decay act:

    p <- keep*p + reach*b;   b <- momentum**k * b
    keep  = prod_i (1 - lr_i*weight_decay)
    reach = sum_i momentum**i * prod_{j>i} (1 - lr_j*weight_decay)     lr_in_momentum
    reach = -sum_i lr_i * momentum**i * prod_{j>i} (1 - lr_j*weight_decay)  otherwise

With nesterov `reach` has another factor `momentum`. As in `optax.chain`, a buffer that
contains the learning rate holds updates, which are added to `p`. At a constant rate
both are geometric series. Under a schedule they are differences of sums that all rows
share: see `ScheduleState`.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int32, UInt32

from ._idle_moments import logarithm, powers


@dataclasses.dataclass(frozen=True)
class Motion:
    """The options that turn `u` into updates, as `sparse.rmsprop` documents them."""

    learning_rate: Any  # a number, an array or a schedule
    momentum: float | None
    nesterov: bool
    lr_in_momentum: bool
    weight_decay: float | None

    @property
    def moves_idle_rows(self) -> bool:
        """Whether a row moves in steps that do not use it."""
        return self.momentum is not None or self.weight_decay is not None

    @property
    def rate_after_momentum(self) -> bool:
        """Whether the learning rate multiplies what comes out of the buffer."""
        return self.momentum is not None and not self.lr_in_momentum

    @property
    def depends_on_rate(self) -> bool:
        """Whether the motion of an idle row depends on the learning rate."""
        return self.rate_after_momentum or self.weight_decay is not None

    @property
    def follows_schedule(self) -> bool:
        """Whether the motion of an idle row depends on a schedule."""
        return callable(self.learning_rate) and self.depends_on_rate

    def rate(self, step: Int32[Array, ""], dtype: DTypeLike) -> Float[Array, ""]:
        """Return the learning rate of the update that follows `step` updates."""
        if callable(self.learning_rate):
            return jnp.asarray(self.learning_rate(step)).astype(dtype)
        return jnp.asarray(self.learning_rate, dtype)


class ScheduleState(NamedTuple):
    """Sums over a schedule, from which the motion of each idle row is computed.

        keep  = exp(log_keep - log_keep_of_row)
        reach = keep*ahead_of_row - momentum**k * ahead

    Attributes:
      log_keep: `log(prod_i (1 - lr_i*weight_decay))` over all steps so far.
      rest: rounding error of `log_keep`, to be added in the next step.
      ahead: `reach/keep` of all future steps, if no gradient came any more.
      log_keep_of_rows: `log_keep` when each row was last up to date; None without
        weight decay.
      ahead_of_rows: `ahead` when each row was last up to date; None without momentum.
    """

    log_keep: Float[Array, "*tables"]
    rest: Float[Array, "*tables"]
    ahead: Float[Array, "*tables"]
    log_keep_of_rows: Float[Array, "*tables rows"] | None
    ahead_of_rows: Float[Array, "*tables rows"] | None


class IdleSteps(NamedTuple):
    """The effect of idle steps, as one number per row."""

    keep: Float[Array, " rows"]
    reach: Float[Array, " rows"]
    fade: Float[Array, " rows"]


def start_schedule(
    motion: Motion, zeros: Callable[[], Float[Array, " rows"]], dtype: DTypeLike
) -> ScheduleState | None:
    """Return the sums before the first step; `zeros()` makes one number per row."""
    if not motion.follows_schedule:
        return None
    return ScheduleState(
        log_keep=jnp.zeros((), dtype),
        rest=jnp.zeros((), dtype),
        ahead=_ahead(motion, jnp.zeros((), jnp.int32), dtype),
        log_keep_of_rows=None if motion.weight_decay is None else zeros(),
        ahead_of_rows=None if motion.momentum is None else zeros(),
    )


def next_schedule(
    motion: Motion, schedule: ScheduleState | None, step: Int32[Array, ""]
) -> ScheduleState | None:
    """Extend the sums by the update that follows `step` updates."""
    if schedule is None:
        return None
    dtype = schedule.log_keep.dtype
    # In two parts, so that a long sum of small numbers is not rounded away.
    y = _log_keep(motion, motion.rate(step, dtype)) + schedule.rest
    log_keep = schedule.log_keep + y
    return schedule._replace(
        log_keep=log_keep,
        rest=y - (log_keep - schedule.log_keep),
        ahead=_ahead(motion, saturating_add(step, jnp.int32(1)), dtype),
    )


def map_rows(
    function: Callable[[Array, Array], Array], schedule: ScheduleState | None
) -> ScheduleState | None:
    """Replace the numbers of the rows by `function(sum of now, numbers of rows)`."""

    def replaced(now: Array, kept: Array | None) -> Array | None:
        return None if kept is None else function(now, kept)

    return schedule and schedule._replace(
        log_keep_of_rows=replaced(schedule.log_keep, schedule.log_keep_of_rows),
        ahead_of_rows=replaced(schedule.ahead, schedule.ahead_of_rows),
    )


def idle_steps(
    motion: Motion,
    k: UInt32[Array, " rows"],
    schedule: ScheduleState | None,
    dtype: DTypeLike,
) -> IdleSteps:
    """Compute the effect of `k` idle steps on rows, those of `schedule` if not None."""
    mu = motion.momentum or 0.0
    fade, _ = powers(logarithm(mu, dtype), k, dtype)
    if schedule is None:
        keep, reach = _at_constant_rate(motion, k, dtype)
        return IdleSteps(keep, mu * reach if motion.nesterov else reach, fade)
    keep, reach = jnp.ones(k.shape, dtype), jnp.zeros(k.shape, dtype)
    if schedule.log_keep_of_rows is not None:
        keep = jnp.exp(schedule.log_keep - schedule.log_keep_of_rows)
    if schedule.ahead_of_rows is not None:
        reach = keep * schedule.ahead_of_rows - fade * schedule.ahead
    return IdleSteps(keep, reach, fade)


def saturating_add(
    count: Int32[Array, "*n"], more: Int32[Array, "*m"]
) -> Int32[Array, "..."]:
    """Add to a count, which stops at its maximum."""
    return count + jnp.minimum(more, jnp.int32(jnp.iinfo(jnp.int32).max) - count)


def _log_keep(motion: Motion, rate: Float[Array, "*n"]) -> Float[Array, "*n"]:
    weight_decay = motion.weight_decay or 0.0
    return jnp.log1p(-rate * jnp.asarray(weight_decay, rate.dtype))


def _at_constant_rate(
    motion: Motion, k: UInt32[Array, " rows"], dtype: DTypeLike
) -> tuple[Array, Array]:
    """Compute keep = c**k and reach = sum_i mu**i * c**(k-i), times -lr if after it."""
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


def _ahead(motion: Motion, step: Array, dtype: DTypeLike) -> Float[Array, ""]:
    """Sum the motion after `step` updates, up to terms that rounding removes."""
    mu = motion.momentum
    if not mu:
        return jnp.zeros((), dtype)
    negligible = float(jnp.finfo(dtype).eps) * (1 - mu) / 8
    k = jnp.arange(math.ceil(math.log(negligible) / math.log(mu)), dtype=jnp.int32)
    # A schedule may be written for one count at a time.
    rates = jax.vmap(lambda step: motion.rate(step, dtype))(saturating_add(step, k))
    terms, _ = powers(logarithm(mu, dtype), k.astype(jnp.uint32) + 1, dtype)
    terms = mu * terms if motion.nesterov else terms
    if not motion.lr_in_momentum:
        terms = -rates * terms
    return jnp.sum(terms * jnp.exp(-jnp.cumsum(_log_keep(motion, rates))))
