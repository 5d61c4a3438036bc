"""Looking up, updating and flushing the rows of one table."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
from jaxtyping import Array, Bool, Float, Inexact, Int32, PyTree, UInt32

from .._dither import Dither
from .._placement import with_automatic_axes
from .._precision import arithmetic_dtype, lift, lower, real_dtype
from .._rule import accumulate, advance, coefficients, decay_weights
from .._storage import Format, encoded
from ._idle_moments import decay_moments
from ._idle_motion import Motion, idle_steps, saturating_add
from ._idle_schedule import missed_steps, next_schedule
from ._rows import AllRows, SomeRows, along_rows, distinct
from ._table_state import Optimizer, TableState


class Rows(NamedTuple):
    """Some rows of a table, or all, up to date and in the dtype of the arithmetic.

    In narrow storage `s` and `m` have 32 bits where `p` and `b` have 64: an update is
    as exact as its moments, and a row that does not move is not rounded.
    """

    p: Inexact[Array, "n dim"]
    s: Float[Array, "n ..."]
    m: Inexact[Array, "n dim"] | None
    b: Inexact[Array, "n dim"] | None


def look_up(
    optimizer: Optimizer, table: Array, state: TableState, ids: Int32[Array, "..."]
) -> Inexact[Array, "... dim"]:
    """Return rows as the dense optimizer would have them now."""

    def rows_of(table: Array, state: TableState, ids: Array) -> Array:
        which = SomeRows(ids.reshape(-1))
        if optimizer.motion.moves_idle_rows:
            p = _up_to_date(optimizer, table, state, which)[0].p
        else:
            p = which.get(table)
        return lower(p, table.dtype).reshape(*ids.shape, table.shape[1])

    return with_automatic_axes(rows_of, lambda: _specs(ids, None), table, state, ids)


def take_step(
    optimizer: Optimizer,
    table: Array,
    state: TableState,
    ids: Int32[Array, "..."],
    row_gradients: Inexact[Array, "... dim"],
) -> tuple[Array, TableState]:
    """Bring the rows of `ids` up to date and take one step."""

    def stepped(table: Array, state: TableState, ids: Array, gradients: Array):
        numbers, places = distinct(ids.reshape(-1), len(table))
        which = SomeRows(numbers)
        rows, missed = _up_to_date(optimizer, table, state, which)
        gradients = lift(gradients.reshape(ids.size, table.shape[1]), rows.s.dtype)
        g = jax.ops.segment_sum(gradients, places, len(places))
        rate = optimizer.motion.rate(state.step, real_dtype(rows.p.dtype))
        rows = _step(optimizer, rate, state.step, g, rows)
        past = jnp.sum(ids == len(table), dtype=jnp.int32)
        table, after = _written(optimizer, table, state, which, rows)
        after = _counted(after, past)
        # XLA copies an array that it might write before its last use: in this step, or
        # in the loss that gave the gradients. So what is written depends on both.
        never = jnp.any(rows.p.real[:, :1] < -jnp.inf, axis=1)
        after = _marked(after, which, missed + jnp.uint32(1), never)
        schedule = next_schedule(
            optimizer.motion, after.schedule, rate, after.clock, after.touched
        )
        return table, after._replace(schedule=schedule)

    return with_automatic_axes(
        stepped, lambda: _specs((table, state)), table, state, ids, row_gradients
    )


def catch_up(
    optimizer: Optimizer, table: Array, state: TableState
) -> tuple[Array, TableState]:
    """Bring every row up to date."""
    rows, missed = _up_to_date(optimizer, table, state, AllRows())
    table, state = _written(optimizer, table, state, AllRows(), rows)
    return table, _marked(state, AllRows(), missed, jnp.zeros(len(table), bool))


def _up_to_date(
    optimizer: Optimizer, table: Array, state: TableState, which: SomeRows | AllRows
) -> tuple[Rows, UInt32[Array, " n"]]:
    """Apply the idle steps that rows missed; return the rows and their number."""
    missed = state.clock - which.get(state.touched)  # modulo 2**32
    s = optimizer.s_format.decode(which.get(state.s))
    real = real_dtype(arithmetic_dtype(table.dtype))
    p = lift(which.get(table), real)
    m, b = (
        None if x is None else optimizer.signed_format.decode(which.get(x))
        for x in (state.m, state.trace)
    )
    b = None if b is None else lift(b, real)
    s, m = decay_moments(optimizer.rule, missed, state.step, s, m)
    if optimizer.motion.moves_idle_rows:
        if state.schedule is None:
            effect = idle_steps(optimizer.motion, missed, real)
        else:
            effect = missed_steps(
                optimizer.motion, state.schedule, which, missed, state.clock
            )
        keep, reach, fade = (along_rows(x, p).astype(p.dtype) for x in effect)
        p = keep * p if b is None else keep * p + reach * b
        b = None if b is None else fade * b
    return Rows(p, s, m, b), missed


def _step(optimizer: Optimizer, rate: Array, step: Array, g: Array, rows: Rows) -> Rows:
    """Take the step of the dense optimizer that follows `step` updates."""
    dtype, real = rows.s.dtype, real_dtype(rows.p.dtype)
    c = coefficients(optimizer.rule, saturating_add(step, jnp.int32(1)), dtype)
    if optimizer.row_wise:
        u, s, m = *_advance_rows(c, g, rows.s, optimizer.nonfinite), None
    else:
        u, s, m = advance(c, g, rows.s, rows.m, nonfinite=optimizer.nonfinite)
    p, b = _moved(optimizer.motion, rate.astype(rows.p.dtype), rows, lift(u, real))
    return Rows(p, s, m, b)


def _advance_rows(
    c: Any, g: Inexact[Array, "n dim"], s: Float[Array, " n"], nonfinite: str
) -> tuple[Inexact[Array, "n dim"], Float[Array, " n"]]:
    """Advance one second moment per row by the root mean square of its gradient."""
    r = _root_mean_square(g)
    u_r, s, _ = advance(c, r, s, None, nonfinite=nonfinite)
    still = u_r == 0  # the gradient is zero, or was held
    scale = jnp.where(still, 0.0, u_r / jnp.where(still, 1.0, r))
    u = along_rows(scale, g).astype(g.dtype) * g
    return jnp.where(along_rows(still, g), 0.0, u), s


def _root_mean_square(g: Inexact[Array, "n dim"]) -> Float[Array, " n"]:
    """Compute sqrt(mean(|g|**2)) of each row; no square overflows or underflows."""
    size = jnp.abs(g)
    largest = jnp.max(size, axis=1, keepdims=True, initial=0.0)
    part = size / jnp.where(largest == 0, 1.0, largest)
    mean = jnp.sum(part * part, axis=1) / max(g.shape[1], 1)
    return largest[:, 0] * jnp.sqrt(mean)


def _moved(
    motion: Motion, rate: Inexact[Array, ""], rows: Rows, u: Inexact[Array, "n dim"]
) -> tuple[Inexact[Array, "n dim"], Inexact[Array, "n dim"] | None]:
    """Add the update to rows, as the chain of `rmsprop` does; return p and b."""
    p, b = rows.p, rows.b
    x = u if motion.rate_after_momentum else -rate * u
    if b is not None:
        mu = jnp.asarray(motion.momentum, b.dtype)
        x, b = accumulate(x, b, mu, motion.nesterov)
    x = -rate * x if motion.rate_after_momentum else x
    if motion.weight_decay is not None:
        x = decay_weights(x, p, jnp.asarray(motion.weight_decay, p.dtype), rate)
    return p + x, b


def _written(
    optimizer: Optimizer,
    table: Array,
    state: TableState,
    which: SomeRows | AllRows,
    rows: Rows,
) -> tuple[Array, TableState]:
    """Write rows, each moment in its format."""

    def put(slot: str, format_: Format, kept: Any, x: Any) -> Any:
        # A flush rounds by other random bits than the update after it: otherwise the
        # two roundings would be correlated.
        letter = slot if isinstance(which, SomeRows) else slot.upper()
        dither = Dither(optimizer.seed, state.step, letter, 0, which.numbers)
        return None if x is None else which.set(kept, encoded(format_, x, dither))

    return which.set(table, lower(rows.p, table.dtype)), state._replace(
        s=put("s", optimizer.s_format, state.s, rows.s),
        m=put("m", optimizer.signed_format, state.m, rows.m),
        trace=put("b", optimizer.signed_format, state.trace, rows.b),
    )


def _counted(state: TableState, past: Array) -> TableState:
    """Count one step, and the ids past the end."""
    return state._replace(
        step=saturating_add(state.step, jnp.int32(1)),
        clock=state.clock + jnp.uint32(1),
        dropped=saturating_add(state.dropped, past),
    )


def _marked(
    state: TableState,
    which: SomeRows | AllRows,
    steps: UInt32[Array, " n"],
    never: Bool[Array, " n"],
) -> TableState:
    """Record that rows are up to date, `steps` after they last were."""

    touched = which.add(state.touched, steps + never.astype(jnp.uint32))
    schedule = state.schedule and state.schedule._replace(
        of_rows=jax.tree.map(
            lambda x: which.set(x, never.astype(x.dtype)), state.schedule.of_rows
        )
    )
    return state._replace(touched=touched, schedule=schedule)


def _specs(tree: PyTree, *more: Any) -> PyTree:
    """Return the partitions of arrays whose sharding is part of their type."""
    return jax.tree.map(
        lambda x: PartitionSpec(*jax.typeof(x).sharding.spec, *more), tree
    )
