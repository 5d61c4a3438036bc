"""RMSProp of one table: which rows x the rule x how rows move x storage."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import optax
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Float, Inexact, Int32, UInt32

from .._dither import Dither
from .._rule import Rule, coefficients, step
from .._storage import (
    Format,
    arithmetic_dtype,
    lift,
    lower,
    real_dtype,
    signed,
    store,
)
from . import _rows
from ._idle import along_rows, decay_moments
from ._mesh import automatic, spec, zeros_by_row
from ._motion import Motion, Shrink, advance, idle, shrink_once


class TableState(NamedTuple):
    """What RMSProp keeps of a table between steps.

    `s`, `m` and `b` of a row are as they were when it was last touched, and so is the
    row itself; `flush` brings all up to date.

    Attributes:
      count: number of updates so far; an int32 scalar that stops at its maximum.
      clock: number of updates so far, modulo 2**32; idle steps are counted by it.
      dropped: number of ids past the end of the table that came under `jax.jit`.
      touched: the `clock` to which each row is up to date.
      s: second moment of each element, or of each row with `row_wise`.
      m: mean gradient; None unless centered.
      b: momentum buffer; None without momentum.
      shrink: `Shrink`; None unless decoupled weight decay follows a schedule.
    """

    count: Int32[Array, "*tables"]
    clock: UInt32[Array, "*tables"]
    dropped: Int32[Array, "*tables"]
    touched: UInt32[Array, "*tables rows"]
    s: Array
    m: Array | None
    b: Array | None
    shrink: Shrink | None


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """What `sparse.rmsprop` was given, checked."""

    rule: Rule
    motion: Motion
    initial_scale: float
    row_wise: bool
    s_format: Format
    nonfinite: str
    seed: ArrayLike

    @property
    def signed_format(self) -> Format:
        """The format of what may be negative: m and b."""
        return signed(self.s_format)


class Rows(NamedTuple):
    """Some rows, or all, up to date and in the dtype of the arithmetic."""

    p: Inexact[Array, "n dim"]
    s: Float[Array, "n ..."]
    m: Inexact[Array, "n dim"] | None
    b: Inexact[Array, "n dim"] | None


def init(optimizer: Optimizer, table: Array) -> TableState:
    """Start: no row is touched, and so all are up to date."""
    dtype = arithmetic_dtype(table.dtype)
    real = real_dtype(dtype)
    touched = zeros_by_row(table, jnp.uint32)
    motion, like = optimizer.motion, touched if optimizer.row_wise else table

    def buffer() -> Array:
        return optimizer.signed_format.init(table, 0.0, dtype)

    def zero(dtype: DTypeLike) -> Array:
        return jnp.zeros((), dtype)

    return TableState(
        count=zero(jnp.int32),
        clock=zero(jnp.uint32),
        dropped=zero(jnp.int32),
        touched=touched,
        s=optimizer.s_format.init(like, optimizer.initial_scale, real),
        m=buffer() if optimizer.rule.centered else None,
        b=None if motion.momentum is None else buffer(),
        shrink=Shrink(zero(real), zero(real), zeros_by_row(table, real))
        if motion.sums and motion.weight_decay is not None
        else None,
    )


def gather(
    optimizer: Optimizer, table: Array, state: TableState, ids: Int32[Array, "..."]
) -> Inexact[Array, "... dim"]:
    """Read rows as the dense optimizer would have them now."""

    def look_up(table: Array, state: TableState, ids: Array) -> Array:
        if not optimizer.motion.idles:
            return _rows.read(table, ids)
        flat = ids.reshape(-1)
        rows = _up_to_date(optimizer, table, state, lambda x: _rows.read(x, flat))
        return lower(rows.p, table.dtype).reshape(*ids.shape, table.shape[1])

    return automatic(look_up, lambda: spec(ids, None), table, state, ids)


def update(
    optimizer: Optimizer,
    table: Array,
    state: TableState,
    ids: Int32[Array, "..."],
    row_gradients: Inexact[Array, "... dim"],
) -> tuple[Array, TableState]:
    """Bring the rows of `ids` up to date and take one step."""

    def take_step(table: Array, state: TableState, ids: Array, gradients: Array):
        numbers, places = _rows.distinct(ids.reshape(-1), len(table))
        rows = _up_to_date(optimizer, table, state, lambda x: _rows.read(x, numbers))
        gradients = gradients.reshape(-1, table.shape[1])
        g = _rows.total(lift(gradients, rows.s.dtype), places)
        after = _step(optimizer, state.count, g, rows)
        past = jnp.sum(ids == len(table), dtype=jnp.int32)
        return _keep(
            optimizer,
            table,
            _next(optimizer, state, past, rows.s.dtype),
            after,
            lambda slot: Dither(optimizer.seed, state.count, slot, 0, numbers),
            lambda kept, x: _rows.write(kept, numbers, x),
        )

    return automatic(
        take_step, lambda: spec((table, state)), table, state, ids, row_gradients
    )


def flush(
    optimizer: Optimizer, table: Array, state: TableState
) -> tuple[Array, TableState]:
    """Bring every row up to date."""
    return _keep(
        optimizer,
        table,
        state,
        _up_to_date(optimizer, table, state, lambda x: x),
        # Not the bits of the update that follows: its rounding must not know of this.
        lambda slot: Dither(optimizer.seed, state.count, slot.upper(), 0),
        lambda kept, x: jnp.broadcast_to(x, kept.shape),
    )


def _up_to_date(
    optimizer: Optimizer,
    table: Array,
    state: TableState,
    pick: Callable[[Array], Array],
) -> Rows:
    """Read rows and make up for the steps that they missed."""
    rule, motion = optimizer.rule, optimizer.motion
    k = state.clock - pick(state.touched)  # modulo 2**32
    s = optimizer.s_format.decode(pick(state.s))
    p = lift(pick(table), s.dtype)
    m, b = (
        None if x is None else optimizer.signed_format.decode(pick(x))
        for x in (state.m, state.b)
    )
    s, m = decay_moments(rule, k, state.count, s, m)
    if motion.idles:
        shrink = state.shrink
        log_keep = None if shrink is None else shrink.total - pick(shrink.rows)
        missed = idle(motion, k, state.count, log_keep, s.dtype)
        keep, reach, fade = (along_rows(x, p).astype(p.dtype) for x in missed)
        p = keep * p if b is None else keep * p + reach * b
        b = None if b is None else fade * b
    return Rows(p, s, m, b)


def _step(optimizer: Optimizer, count: Array, g: Array, rows: Rows) -> Rows:
    """Take the step of the dense optimizer, the one after `count`."""
    dtype = rows.s.dtype
    at = coefficients(optimizer.rule, jnp.asarray(optax.safe_increment(count)), dtype)
    if optimizer.row_wise:
        r = _root_mean_square(g)
        u_r, s, m = step(at, r, rows.s, None, nonfinite=optimizer.nonfinite)
        still = u_r == 0  # no gradient, or one that is held
        scale = jnp.where(still, 0.0, u_r / jnp.where(still, 1.0, r))
        scale = along_rows(scale, g).astype(g.dtype)
        u = jnp.where(along_rows(still, g), 0.0, scale * g)
    else:
        u, s, m = step(at, g, rows.s, rows.m, nonfinite=optimizer.nonfinite)
    rate = optimizer.motion.rate(count, dtype)
    p, b = advance(optimizer.motion, rate, rows.p, u, rows.b)
    return Rows(p, s, m, b)


def _root_mean_square(g: Inexact[Array, "n dim"]) -> Float[Array, " n"]:
    """Compute sqrt(mean(|g|**2)) of each row; no square overflows or underflows."""
    size = jnp.abs(g)
    largest = jnp.max(size, axis=1, keepdims=True, initial=0.0)
    part = size / jnp.where(largest == 0, 1.0, largest)
    mean = jnp.sum(part * part, axis=1) / max(g.shape[1], 1)
    return largest[:, 0] * jnp.sqrt(mean)


def _next(
    optimizer: Optimizer, state: TableState, past: Array, dtype: DTypeLike
) -> TableState:
    """Count one step."""
    rate = optimizer.motion.rate(state.count, dtype)
    room = jnp.int32(jnp.iinfo(jnp.int32).max) - state.dropped
    return state._replace(
        count=jnp.asarray(optax.safe_increment(state.count)),
        clock=state.clock + jnp.uint32(1),
        dropped=state.dropped + jnp.minimum(past, room),
        shrink=shrink_once(optimizer.motion, state.shrink, rate),
    )


def _keep(
    optimizer: Optimizer,
    table: Array,
    state: TableState,
    rows: Rows,
    dither: Callable[[str], Dither],
    put: Callable[[Array, Array], Array],
) -> tuple[Array, TableState]:
    """Write rows, which are up to date at the clock of `state`."""

    def put_moment(slot: str, format_: Format, kept: Any, x: Any) -> Any:
        return None if x is None else put(kept, store(format_, x, dither(slot)))

    shrink = state.shrink
    if shrink is not None:
        shrink = shrink._replace(rows=put(shrink.rows, shrink.total))
    return put(table, lower(rows.p, table.dtype)), state._replace(
        touched=put(state.touched, state.clock),
        s=put_moment("s", optimizer.s_format, state.s, rows.s),
        m=put_moment("m", optimizer.signed_format, state.m, rows.m),
        b=put_moment("b", optimizer.signed_format, state.b, rows.b),
        shrink=shrink,
    )
