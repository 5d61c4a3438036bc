"""One step of one table: its rows x the rule x how rows move x storage."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Inexact, Int32, UInt32

from .._dither import Dither
from .._placement import with_automatic_axes
from .._precision import arithmetic_dtype, lift, lower, real_dtype
from .._rule import advance, coefficients
from .._storage import Format, encoded
from ._idle import along_rows, decay_moments
from ._motion import Schedule, idle, later, move, next_schedule
from ._row_placement import spec
from ._rows import All, Some, distinct, total
from ._table_state import Optimizer, TableState


class Rows(NamedTuple):
    """Some rows, or all, up to date and in the dtype of the arithmetic.

    In narrow storage `s` and `m` have 32 bits where `p` and `b` have 64: a direction
    is as exact as they are, and nothing that does not move is rounded.
    """

    p: Inexact[Array, "n dim"]
    s: Float[Array, "n ..."]
    m: Inexact[Array, "n dim"] | None
    b: Inexact[Array, "n dim"] | None


def gather(
    optimizer: Optimizer, table: Array, state: TableState, ids: Int32[Array, "..."]
) -> Inexact[Array, "... dim"]:
    """Read rows as the dense optimizer would have them now."""

    def look_up(table: Array, state: TableState, ids: Array) -> Array:
        which = Some(ids.reshape(-1))
        if optimizer.motion.idles:
            p = _up_to_date(optimizer, table, state, which)[0].p
        else:
            p = which.read(table)
        return lower(p, table.dtype).reshape(*ids.shape, table.shape[1])

    return with_automatic_axes(look_up, lambda: spec(ids, None), table, state, ids)


def update(
    optimizer: Optimizer,
    table: Array,
    state: TableState,
    ids: Int32[Array, "..."],
    row_gradients: Inexact[Array, "... dim"],
) -> tuple[Array, TableState]:
    """Bring the rows of `ids` up to date and take one step."""

    def take_step(table: Array, state: TableState, ids: Array, gradients: Array):
        numbers, places = distinct(ids.reshape(-1), len(table))
        which = Some(numbers)
        rows, missed = _up_to_date(optimizer, table, state, which)
        gradients = gradients.reshape(ids.size, table.shape[1])
        g = total(lift(gradients, rows.s.dtype), places)
        rows = _step(optimizer, state.count, g, rows)
        past = jnp.sum(ids == len(table), dtype=jnp.int32)
        table, after = _keep(optimizer, table, state, which, rows)
        after = _count(optimizer, after, past)
        # XLA copies an array that it might write before all who read it have: the loss,
        # through the gradients, and this step. So what is written depends on them.
        never = jnp.any(rows.p.real[:, :1] < -jnp.inf, axis=1)
        return table, _mark(after, which, missed + jnp.uint32(1), never)

    return with_automatic_axes(
        take_step, lambda: spec((table, state)), table, state, ids, row_gradients
    )


def flush(
    optimizer: Optimizer, table: Array, state: TableState
) -> tuple[Array, TableState]:
    """Bring every row up to date."""
    rows, missed = _up_to_date(optimizer, table, state, All())
    table, state = _keep(optimizer, table, state, All(), rows)
    return table, _mark(state, All(), missed, jnp.zeros(len(table), bool))


def _up_to_date(
    optimizer: Optimizer, table: Array, state: TableState, which: Some | All
) -> tuple[Rows, UInt32[Array, " n"]]:
    """Read rows and make up for the steps that they missed; give how many."""
    missed = state.clock - which.read(state.touched)  # modulo 2**32
    s = optimizer.s_format.decode(which.read(state.s))
    real = real_dtype(arithmetic_dtype(table.dtype))
    p = lift(which.read(table), real)
    m, b = (
        None if x is None else optimizer.signed_format.decode(which.read(x))
        for x in (state.m, state.b)
    )
    b = None if b is None else lift(b, real)
    s, m = decay_moments(optimizer.rule, missed, state.count, s, m)
    if optimizer.motion.idles:
        known = _of_rows(state.schedule, which.read)
        effect = idle(optimizer.motion, missed, known, real)
        keep, reach, fade = (along_rows(x, p).astype(p.dtype) for x in effect)
        p = keep * p if b is None else keep * p + reach * b
        b = None if b is None else fade * b
    return Rows(p, s, m, b), missed


def _step(optimizer: Optimizer, count: Array, g: Array, rows: Rows) -> Rows:
    """Take the step of the dense optimizer, the one after `count`."""
    dtype, nonfinite = rows.s.dtype, optimizer.nonfinite
    at = coefficients(optimizer.rule, later(count, jnp.int32(1)), dtype)
    if optimizer.row_wise:
        r = _root_mean_square(g)
        u_r, s, m = advance(at, r, rows.s, None, nonfinite=nonfinite)
        still = u_r == 0  # no gradient, or one that is held
        scale = jnp.where(still, 0.0, u_r / jnp.where(still, 1.0, r))
        scaled = along_rows(scale, g).astype(g.dtype) * g
        u = jnp.where(along_rows(still, g), 0.0, scaled)
    else:
        u, s, m = advance(at, g, rows.s, rows.m, nonfinite=nonfinite)
    real = real_dtype(rows.p.dtype)
    rate = optimizer.motion.rate(count, real)
    p, b = move(optimizer.motion, rate, rows.p, lift(u, real), rows.b)
    return Rows(p, s, m, b)


def _root_mean_square(g: Inexact[Array, "n dim"]) -> Float[Array, " n"]:
    """Compute sqrt(mean(|g|**2)) of each row; no square overflows or underflows."""
    size = jnp.abs(g)
    largest = jnp.max(size, axis=1, keepdims=True, initial=0.0)
    part = size / jnp.where(largest == 0, 1.0, largest)
    mean = jnp.sum(part * part, axis=1) / max(g.shape[1], 1)
    return largest[:, 0] * jnp.sqrt(mean)


def _keep(
    optimizer: Optimizer,
    table: Array,
    state: TableState,
    which: Some | All,
    rows: Rows,
) -> tuple[Array, TableState]:
    """Write rows, each moment in its format."""

    def put(slot: str, format_: Format, kept: Any, x: Any) -> Any:
        # A flush takes other bits than the update after it, whose rounding must not
        # know of this one.
        letter = slot if which.numbers is not None else slot.upper()
        dither = Dither(optimizer.seed, state.count, letter, 0, which.numbers)
        return None if x is None else which.write(kept, encoded(format_, x, dither))

    return which.write(table, lower(rows.p, table.dtype)), state._replace(
        s=put("s", optimizer.s_format, state.s, rows.s),
        m=put("m", optimizer.signed_format, state.m, rows.m),
        b=put("b", optimizer.signed_format, state.b, rows.b),
    )


def _count(optimizer: Optimizer, state: TableState, past: Array) -> TableState:
    """Count one step and the ids past the end; both stop at their maximum."""
    return state._replace(
        count=later(state.count, jnp.int32(1)),
        clock=state.clock + jnp.uint32(1),
        dropped=later(state.dropped, past),
        schedule=next_schedule(optimizer.motion, state.schedule, state.count),
    )


def _mark(
    state: TableState,
    which: Some | All,
    steps: UInt32[Array, " n"],
    never: Bool[Array, " n"],
) -> TableState:
    """Note that rows are up to date, `steps` after they were last."""

    def note(now: Array, kept: Array | None) -> Array | None:
        return None if kept is None else which.write(kept, jnp.where(never, 0.0, now))

    schedule = state.schedule
    if schedule is not None:
        schedule = schedule._replace(
            log_keep_of_rows=note(schedule.log_keep, schedule.log_keep_of_rows),
            ahead_of_rows=note(schedule.ahead, schedule.ahead_of_rows),
        )
    touched = which.add(state.touched, steps + never.astype(jnp.uint32))
    return state._replace(touched=touched, schedule=schedule)


def _of_rows(
    schedule: Schedule | None, read: Callable[[Array], Array]
) -> Schedule | None:
    if schedule is None:
        return None
    of_rows = jax.tree.map(read, schedule[-2:])
    return Schedule(*schedule[:-2], *of_rows)
