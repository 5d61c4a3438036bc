"""What an optimizer of one table is told, and what it keeps."""

import dataclasses
from typing import NamedTuple

import jax.numpy as jnp
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Int32, UInt32

from .._placement import constant_like
from .._precision import arithmetic_dtype, real_dtype
from .._rule import Rule
from .._storage import Format, signed
from ._float_patterns import Bits
from ._motion import Motion, Schedule, start_schedule
from ._row_placement import by_row


class TableState(NamedTuple):
    """What RMSProp keeps of a table between steps.

    `s`, `m` and `b` of a row are as they were when it was last touched, and so is the
    row itself; `flush` brings all up to date.

    Attributes:
      count: number of updates so far; an int32 scalar that stops at its maximum.
      clock: number of updates so far, modulo 2**32; idle steps are counted by it.
      dropped: number of ids past the end of the table that came under `jax.jit`.
      touched: the `clock` to which each row is up to date.
      s: second moment of each element, or of each row with `row_wise`. Stored in
        bfloat16 it is the bits of that as uint16, and so are m and b.
      m: mean gradient; None unless centered.
      b: momentum buffer; None without momentum.
      schedule: a `Schedule`; None unless idle rows move by one.
    """

    count: Int32[Array, "*tables"]
    clock: UInt32[Array, "*tables"]
    dropped: Int32[Array, "*tables"]
    touched: UInt32[Array, "*tables rows"]
    s: Array
    m: Array | None
    b: Array | None
    schedule: Schedule | None


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """What `sparse.rmsprop` was given, checked."""

    rule: Rule
    motion: Motion
    initial_scale: float
    row_wise: bool
    storage: Format
    nonfinite: str
    seed: ArrayLike

    @property
    def s_format(self) -> Format:
        """The format of s."""
        return Bits(self.storage)

    @property
    def signed_format(self) -> Format:
        """The format of what may be negative: m and b."""
        return Bits(signed(self.storage))


def init(optimizer: Optimizer, table: Array) -> TableState:
    """Start: no row is touched, and so all are up to date."""
    dtype = arithmetic_dtype(table.dtype)
    real = real_dtype(dtype)
    rows, motion = by_row(table), optimizer.motion

    def buffer() -> Array:
        return optimizer.signed_format.init(table, 0.0, dtype)

    def zero(dtype: DTypeLike) -> Array:
        return jnp.zeros((), dtype)

    return TableState(
        count=zero(jnp.int32),
        clock=zero(jnp.uint32),
        dropped=zero(jnp.int32),
        touched=constant_like(rows, zero(jnp.uint32)),
        s=optimizer.s_format.init(
            rows if optimizer.row_wise else table, optimizer.initial_scale, real
        ),
        m=buffer() if optimizer.rule.centered else None,
        b=None if motion.momentum is None else buffer(),
        schedule=start_schedule(motion, lambda: constant_like(rows, zero(real)), real),
    )
