"""The options of the optimizer of one table, and its state."""

import dataclasses
from typing import NamedTuple

import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Float, Int32, UInt32

from .._arguments import is_traced
from .._placement import constant_like
from .._precision import arithmetic_dtype, real_dtype
from .._rule import Rule
from .._storage import Format, signed
from ._float_patterns import FloatPatterns
from ._idle_motion import Motion
from ._idle_schedule import ScheduleState, start_schedule


class TableState(NamedTuple):
    """The state of RMSProp for one table between steps.

    `s`, `m` and `trace` of a row are those of the step that last updated the row, and
    so is the row itself; `flush` brings all of them up to date.

    Attributes:
      step: number of updates so far; an int32 scalar that stops at its maximum.
      clock: number of updates so far, modulo 2**32; idle steps are counted by it.
      dropped: number of ids past the end of the table that were dropped under
        `jax.jit`.
      touched: the `clock` to which each row is up to date.
      s: second moment of each element, or of each row with `row_wise`. Where storage is
        bfloat16, it is kept as the uint16 of its pattern, and so are m and trace.
      m: mean gradient of each element; None unless centered.
      trace: momentum buffer of each element; None without momentum.
      schedule: a `ScheduleState`; None unless idle rows move by a schedule.
    """

    step: Int32[Array, "*tables"]
    clock: UInt32[Array, "*tables"]
    dropped: Int32[Array, "*tables"]
    touched: UInt32[Array, "*tables rows"]
    s: Array
    m: Array | None
    trace: Array | None
    schedule: ScheduleState | None


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """The options of `sparse.rmsprop`, checked."""

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
        return FloatPatterns(self.storage)

    @property
    def signed_format(self) -> Format:
        """The format of m and of the momentum buffer."""
        return FloatPatterns(signed(self.storage))


def start(optimizer: Optimizer, table: Array) -> TableState:
    """Return the state before the first step, in which all rows are up to date."""
    dtype = arithmetic_dtype(table.dtype)
    real = real_dtype(dtype)
    rows, motion = _number_per_row(table), optimizer.motion

    def buffer() -> Array:
        return optimizer.signed_format.init(table, 0.0, dtype)

    def zero(dtype: DTypeLike) -> Array:
        return jnp.zeros((), dtype)

    return TableState(
        step=zero(jnp.int32),
        clock=zero(jnp.uint32),
        dropped=zero(jnp.int32),
        touched=constant_like(rows, zero(jnp.uint32)),
        s=optimizer.s_format.init(
            rows if optimizer.row_wise else table, optimizer.initial_scale, real
        ),
        m=buffer() if optimizer.rule.centered else None,
        trace=None if motion.momentum is None else buffer(),
        schedule=start_schedule(motion, rows, real),
    )


def _number_per_row(table: Array) -> Float[Array, " rows"]:
    """Return one number per row, sharded as the rows are: for `constant_like`."""
    if is_traced(table):
        # XLA shards this as it shards the table, and later finds that it is not used.
        return jnp.max(table.real, axis=1, initial=0.0)
    sharding = getattr(table, "sharding", None)
    if isinstance(sharding, NamedSharding) and not sharding.mesh.empty:
        sharding = NamedSharding(sharding.mesh, PartitionSpec(*sharding.spec[:1]))
        return jnp.zeros(len(table), jnp.float32, device=sharding)
    return jnp.zeros(len(table), jnp.float32)
