"""`sparse.rmsprop`: its arguments, and the four functions that it returns."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array

from .._arguments import (
    NONFINITE,
    Call,
    cached,
    check_choice,
    check_learning_rate,
    check_numbers,
    check_start,
    is_traced,
)
from .._rule import Rule
from .._storage import Format, find_format
from ._idle_motion import Motion
from ._rows import as_int32
from ._table_checks import check_ids, check_row_gradients, check_table, checked
from ._table_state import Optimizer, TableState, start
from ._table_step import catch_up, look_up, take_step

_CALL = Call("sparse.rmsprop")
_INIT, _GATHER = Call("sparse.rmsprop.init"), Call("sparse.rmsprop.gather")
_UPDATE, _FLUSH = Call("sparse.rmsprop.update"), Call("sparse.rmsprop.flush")


class SparseTransformation(NamedTuple):
    """An optimizer of one table, as four pure functions.

    Attributes:
      init: `init(table) -> state`.
      gather: `gather(table, state, ids) -> rows`.
      update: `update(table, state, ids, row_gradients) -> (table, state)`.
      flush: `flush(table, state) -> (table, state)`.
    """

    init: Callable[..., TableState]
    gather: Callable[..., Array]
    update: Callable[..., tuple[Array, TableState]]
    flush: Callable[..., tuple[Array, TableState]]


@cached
def rmsprop(
    learning_rate: ArrayLike | np.generic | optax.Schedule,
    decay: ArrayLike = 0.9,
    eps: ArrayLike = 1e-8,
    initial_scale: ArrayLike = 0.0,
    eps_in_sqrt: bool = True,
    centered: bool = False,
    momentum: ArrayLike | None = None,
    nesterov: bool = False,
    bias_correction: bool = False,
    *,
    lr_in_momentum: bool = True,
    weight_decay: ArrayLike | None = None,
    decoupled_weight_decay: bool = False,
    row_wise: bool = False,
    storage: str | Format = "float32",
    nonfinite: str = "propagate",
    seed: ArrayLike = 0,
) -> SparseTransformation:
    """Optimize a table by updating only the rows that a step uses.

    The result is that of `rmsprop_jax.rmsprop`, to rounding. A row that was idle for
    `k` steps is first brought up to date:

        s <- decay**k * s
        s <- a*s + a*(1-a)*|m|**2;  m <- a*m;  a = decay**k                    centered
        p <- p - b*momentum*(1 - momentum**k)/(1 - momentum);  b <- momentum**k * b

    and then updated with the sum of its gradients. A step takes no time for the other
    rows. With momentum or weight decay rows also move while they are idle: look them
    up with `gather`, and use the whole table only after `flush`. Jit `update` with the
    table and the state donated; otherwise every step copies them.

    Args:
      learning_rate: step size: a number or an optax schedule. With weight decay, or
        with momentum and `lr_in_momentum=False`, the motion of idle rows depends on
        it: then it cannot be traced, and under a schedule the state has one or two
        more numbers per row, and the sums of the last 4,096 steps.
      decay, eps, initial_scale, eps_in_sqrt, centered, bias_correction: as in
        `scale_by_rmsprop`, but fixed: idle steps are computed later.
      momentum: weight of the past in the buffer `b`, in [0, 1); None keeps no buffer.
      nesterov: whether momentum looks one step ahead.
      lr_in_momentum: whether the buffer accumulates steps or directions, as in
        `rmsprop`.
      weight_decay: strength of decoupled weight decay; None for none. Its product with
        the learning rate must be below 1.
      decoupled_weight_decay: must be True with `weight_decay`. Coupled weight decay
        is refused, because it gives every row a gradient in every step.
      row_wise: whether a row has one second moment, the moving average of the mean of
        |g|**2 over the row, which takes 1/dim of the memory. This is a different rule,
        that of FBGEMM.
      storage, nonfinite, seed: as in `scale_by_rmsprop`. A narrow moment is rounded
        once when its row is updated, where the dense optimizer rounds it in every
        step: the mean is the same, with less noise. Give each table its own seed.

    Returns:
      A `SparseTransformation`:

      - `init(table)`: the `TableState` of a table of shape (rows, dim).
      - `gather(table, state, ids)`: the rows as the dense optimizer would have them
        now, of shape (..., dim) for ids of shape (...); zeros for padding.
      - `update(table, state, ids, row_gradients)`: table and state after one step. Ids
        may have any integer dtype and shape, and may repeat; those below 0 are padding.
      - `flush(table, state)`: table and state with every row brought up to date.

    Raises:
      ValueError: for a number outside its range; for coupled weight decay; for
        `row_wise` with `centered`; outside `jax.jit` for ids past the end.
      TypeError: for numbers other than the learning rate that are traced or scheduled;
        for a table, ids or gradients of the wrong kind.

    Example:
      >>> import jax.numpy as jnp
      >>> from rmsprop_jax import sparse
      >>> tx = sparse.rmsprop(0.1)
      >>> table = jnp.zeros((1000, 2))
      >>> ids, gradients = jnp.array([7, 7, -1]), jnp.ones((3, 2))
      >>> table, state = tx.update(table, tx.init(table), ids, gradients)
      >>> table[7].round(4)
      Array([-0.3162, -0.3162], dtype=float32)

    Source: as `rmsprop`. Catching up on idle steps: TensorFlow issue 23668 (for Adam,
      where it is inexact). Row-wise: FBGEMM, `ROWWISE_RMSPROP_AR`.
    """
    motion = Motion(
        learning_rate,
        None if momentum is None else _constant("momentum", momentum),
        nesterov,
        lr_in_momentum,
        None if weight_decay is None else _constant("weight_decay", weight_decay),
    )
    _check_motion(motion, decoupled_weight_decay)
    optimizer = Optimizer(
        Rule(
            _constant("decay", decay),
            _constant("eps", eps),
            eps_in_sqrt,
            centered,
            bias_correction,
        ),
        motion,
        _constant("initial_scale", initial_scale),
        row_wise,
        find_format(_CALL, storage),
        nonfinite,
        seed,
    )
    _check_choices(optimizer)

    def init(table: Array | np.ndarray) -> TableState:
        check_table(_INIT, table)
        if isinstance(table, np.ndarray):
            table = jnp.asarray(table)
        return start(optimizer, table)

    @functools.cache
    def like(shape: tuple[int, ...], dtype: DTypeLike) -> TableState:
        return jax.eval_shape(init, jax.ShapeDtypeStruct(shape, dtype))

    def gather(table: Array | np.ndarray, state: TableState, ids: Any) -> Array:
        table, state = checked(_GATHER, table, state, like)
        check_ids(_GATHER, ids, len(table))
        return look_up(optimizer, table, state, as_int32(ids, len(table)))

    def update(
        table: Array | np.ndarray,
        state: TableState,
        ids: Any,
        row_gradients: ArrayLike,
    ) -> tuple[Array, TableState]:
        table, state = checked(_UPDATE, table, state, like)
        check_ids(_UPDATE, ids, len(table))
        check_row_gradients(_UPDATE, table, ids, row_gradients)
        gradients = jnp.asarray(row_gradients)
        return take_step(optimizer, table, state, as_int32(ids, len(table)), gradients)

    def flush(table: Array | np.ndarray, state: TableState) -> tuple[Array, TableState]:
        return catch_up(optimizer, *checked(_FLUSH, table, state, like))

    return SparseTransformation(init, gather, update, flush)


def _constant(name: str, value: Any) -> float:
    """Return a number that is known, and the same in all steps."""
    if callable(value) or is_traced(value):
        kind = "a function" if callable(value) else "traced"
        raise TypeError(
            f"{_CALL.given(**{name: ...})} must be known at construction and the same "
            f"in all steps, because idle steps are computed later; it is {kind}. Only "
            "`learning_rate` may be a schedule."
        )
    check_numbers(_CALL, **{name: value})
    value = float(value)
    check_numbers(_CALL, **{name: value})  # also the value of an array
    return value


def _check_choices(optimizer: Optimizer) -> None:
    rule = optimizer.rule
    check_choice(_CALL, "nonfinite", optimizer.nonfinite, NONFINITE)
    check_numbers(_CALL, seed=optimizer.seed)
    check_start(_CALL, optimizer.initial_scale, rule.bias_correction)
    if optimizer.row_wise and rule.centered:
        raise ValueError(
            f"{_CALL.given(row_wise=True, centered=True)}: the mean gradient would "
            "take as much memory as the table. Drop one of the two."
        )


def _check_motion(motion: Motion, decoupled_weight_decay: bool) -> None:
    rate, strength = motion.learning_rate, motion.weight_decay
    check_learning_rate(_CALL, rate)
    if strength is not None and not decoupled_weight_decay:
        raise ValueError(
            f"{_CALL.given(weight_decay=strength)} would be part of the gradient, and "
            "give every row a gradient in every step. Pass "
            "`decoupled_weight_decay=True`, or use `rmsprop_jax.rmsprop`."
        )
    if is_traced(rate) and motion.depends_on_rate:
        raise TypeError(
            f"{_CALL.given(learning_rate=...)} is traced, but with `weight_decay` or "
            "`lr_in_momentum=False` the motion of idle rows depends on it. Pass a "
            "number or a schedule."
        )
    if strength is None or callable(rate):
        return
    if float(rate) * strength >= 1:  # pyright: ignore
        raise ValueError(
            f"`{_CALL}`: learning_rate * weight_decay must be below 1, where one step "
            f"would remove the whole row; got {rate} * {strength}."
        )
