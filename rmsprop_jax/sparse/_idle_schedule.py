"""How idle rows move under a schedule, at a cost that no schedule or momentum changes.

Under a schedule `keep` and `reach` of `_idle_motion` have no closed form, and a row may
have missed any number of steps. What it missed is split at a visit: every row is
visited once in `period` steps, when its sums until then are written down beside it.
The sums since any of the last `period` steps are kept for all rows together. Joined,

    log_keep = log_keep_of_row + log_keep_since
    reach    = keep_since*reach_of_row + momentum**k_of_row * reach_since

where `k_of_row` idle steps came before the visit. Only terms of one sign are added, and
nothing is divided by a product that may be small, so this is exact at any strength of
weight decay. A visit reads and writes two numbers of a row, and no entry of the table.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec
from jax.typing import DTypeLike
from jaxtyping import Array, Float, UInt32

from .._placement import constant_like
from ._idle_moments import logarithm, powers
from ._idle_motion import IdleSteps, Motion
from ._rows import AllRows, SomeRows

# One step extends `period` sums and visits rows/period rows. Each visit rounds once, so
# the period has a least length; it is a power of two, as is the period of the clock.
_LEAST_PERIOD = 4096


class IdleSums(NamedTuple):
    """Sums over idle steps; None where idle rows do not need them.

    Attributes:
      log_keep: sum of `log(1 - lr*weight_decay)`; None without weight decay.
      reach: motion per unit of the momentum buffer at the start; None without momentum.
    """

    log_keep: Float[Array, "..."] | None
    reach: Float[Array, "..."] | None


class ScheduleState(NamedTuple):
    """Sums over a schedule, from which the motion of each idle row is computed.

    Attributes:
      recent: sums from each of the last `period` steps to now. The place of a step is
        its `clock` modulo `period`; that of now has the sums of a whole period.
      rest: rounding errors of `recent`, to be added in the next step.
      of_rows: sums from the last update of each row to its last visit. Row `i` is
        visited when `clock` is `i` modulo `period`.
    """

    recent: IdleSums
    rest: IdleSums
    of_rows: IdleSums


def start_schedule(
    motion: Motion, rows: Float[Array, " rows"], dtype: DTypeLike
) -> ScheduleState | None:
    """Return the sums before the first step; `rows` is an array like those of rows."""
    if not motion.follows_schedule:
        return None
    period = _LEAST_PERIOD
    while period**2 < 8 * len(rows):  # extending costs less than visiting
        period *= 2
    sharding = getattr(rows, "sharding", None)
    if isinstance(sharding, NamedSharding) and not sharding.mesh.empty:
        sharding = NamedSharding(sharding.mesh, PartitionSpec())

    def sums(zeros: Callable[[], Array]) -> IdleSums:
        return IdleSums(  # of different arrays, since they are donated together
            log_keep=None if motion.weight_decay is None else zeros(),
            reach=None if motion.momentum is None else zeros(),
        )

    def recent() -> Array:
        return jnp.zeros(period, dtype, device=sharding)

    def of_rows() -> Array:
        return constant_like(rows, jnp.zeros((), dtype))

    return ScheduleState(sums(recent), sums(recent), sums(of_rows))


def missed_steps(
    motion: Motion,
    schedule: ScheduleState,
    which: SomeRows | AllRows,
    missed: UInt32[Array, " n"],
    clock: UInt32[Array, ""],
) -> IdleSteps:
    """Compute the effect of the last `missed` steps on some rows, or on all."""
    numbers = which.numbers
    if numbers is None:
        numbers = jnp.arange(len(missed), dtype=jnp.int32)
    since_visit = (clock - numbers.astype(jnp.uint32)) % _period(schedule)
    age = jnp.minimum(missed, since_visit)
    before = jax.tree.map(which.get, schedule.of_rows)
    log_keep, reach = _joined(motion, schedule, before, missed, age, clock)
    zeros = jnp.zeros(missed.shape, jax.tree.leaves(schedule.recent)[0].dtype)
    return IdleSteps(
        keep=zeros + 1 if log_keep is None else jnp.exp(log_keep),
        reach=zeros if reach is None else reach,
        fade=_fade(motion, missed, zeros.dtype),
    )


def next_schedule(
    motion: Motion,
    schedule: ScheduleState | None,
    rate: Float[Array, ""],
    clock: UInt32[Array, ""],
    touched: UInt32[Array, " rows"],
) -> ScheduleState | None:
    """Extend the sums by an update at this rate, and visit rows.

    `clock` and `touched` are those after the update.
    """
    if schedule is None:
        return None
    schedule = _extended(motion, schedule, rate, clock)
    period = _period(schedule)
    visits = jnp.arange(-(-len(touched) // period), dtype=jnp.int32)
    which = SomeRows((clock % period).astype(jnp.int32) + period * visits)
    missed = clock - which.get(touched)
    age = jnp.minimum(missed, period)  # the last visit was `period` steps ago
    before = jax.tree.map(which.get, schedule.of_rows)
    after = _joined(motion, schedule, before, missed, age, clock)
    return schedule._replace(of_rows=jax.tree.map(which.set, schedule.of_rows, after))


def _period(schedule: ScheduleState) -> int:
    return len(jax.tree.leaves(schedule.recent)[0])


def _extended(
    motion: Motion,
    schedule: ScheduleState,
    rate: Float[Array, ""],
    clock: UInt32[Array, ""],
) -> ScheduleState:
    """Extend the recent sums by an update at this rate."""
    like, period = jax.tree.leaves(schedule.recent)[0], _period(schedule)
    dtype, places = like.dtype, jnp.arange(period, dtype=jnp.uint32)
    age = (clock - jnp.uint32(1) - places) % period + jnp.uint32(1)
    recent, rest = jax.tree.map(
        lambda x: jnp.where(age == 1, 0.0, x), (schedule.recent, schedule.rest)
    )
    shrink = rate * jnp.asarray(motion.weight_decay or 0.0, dtype)
    log_keep, reach = recent
    if log_keep is not None:
        log_keep = jnp.full_like(log_keep, jnp.log1p(-shrink))
    if reach is not None:
        push = jnp.asarray(motion.momentum if motion.nesterov else 1.0, dtype)
        push = push if motion.lr_in_momentum else -rate * push
        reach = push * _fade(motion, age, dtype) - shrink * reach
    # In two parts, so that long sums of small numbers are not rounded away.
    more = jax.tree.map(jnp.add, rest, IdleSums(log_keep, reach))
    after = jax.tree.map(jnp.add, recent, more)
    rest = jax.tree.map(lambda old, x, new: x - (new - old), recent, more, after)
    return schedule._replace(recent=after, rest=rest)


def _joined(
    motion: Motion,
    schedule: ScheduleState,
    of_rows: IdleSums,
    missed: UInt32[Array, " n"],
    age: UInt32[Array, " n"],
    clock: UInt32[Array, ""],
) -> IdleSums:
    """Add the sums over the last `age` steps to those of rows until then."""
    places = (clock - age) % _period(schedule)
    log_keep, reach = jax.tree.map(
        lambda recent: jnp.where(age == 0, 0.0, recent[places]), schedule.recent
    )
    if reach is not None and of_rows.reach is not None:
        before = of_rows.reach
        if log_keep is not None:
            before = jnp.exp(log_keep) * before
        reach = before + _fade(motion, missed - age, reach.dtype) * reach
    if log_keep is not None and of_rows.log_keep is not None:
        log_keep = of_rows.log_keep + log_keep
    return IdleSums(log_keep, reach)


def _fade(motion: Motion, k: UInt32[Array, " n"], dtype: DTypeLike) -> Array:
    return powers(logarithm(motion.momentum or 0.0, dtype), k, dtype)[0]
