"""`sparse.rmsprop`: arguments checked, and the four functions of a transformation."""

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
    check_choice,
    check_learning_rate,
    check_numbers,
    check_start,
    is_traced,
)
from .._rule import Rule
from .._storage import Format, find_format
from . import _table_state as _state
from . import _table_step as _table
from ._motion import Motion
from ._rows import as_int32
from ._table_checks import check_gradients, check_ids, check_table, checked
from ._table_state import Optimizer, TableState

CALL = Call("sparse.rmsprop")


class SparseTransformation(NamedTuple):
    """An optimizer of one table: four pure functions.

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
    """RMSProp for a table of which a step touches a few rows: equal to `rmsprop`.

    A row that has been idle for k steps is first brought up to date:

        s <- decay**k * s
        s <- a*s + a*(1-a)*m**2;  m <- a*m;  a = decay**k                      centered
        p <- p - b*momentum*(1 - momentum**k)/(1 - momentum);  b <- momentum**k * b

    and then takes the step of `rmsprop_jax.rmsprop` with the sum of the gradients that
    it got. Rows that a step does not name cost it nothing. With momentum or weight
    decay rows move while they are idle: read them with `gather`, and all of them after
    `flush`. Jit with the table and the state donated, or every step copies them.

    Args:
      learning_rate: step size: a number or an optax schedule. With weight decay, or
        with momentum and `lr_in_momentum=False`, idle rows move by it: then it cannot
        be traced, and under a schedule each row keeps a number or two more.
      decay, eps, initial_scale, eps_in_sqrt, centered, bias_correction: as in
        `scale_by_rmsprop`, the same for ever: what an idle row missed is computed
        later.
      momentum: weight of the past in the buffer `b`, in [0, 1); None keeps no buffer.
      nesterov: whether momentum looks one step ahead.
      lr_in_momentum: whether the buffer accumulates steps or directions.
      weight_decay: strength of decoupled weight decay; None for none. The learning
        rate times it must stay below 1.
      decoupled_weight_decay: must be True with `weight_decay`. Coupled weight decay
        is refused: it is a gradient, and every row has one in every step.
      row_wise: whether a row has one second moment, the moving average of the mean of
        g**2 over the row: memory of 1/dim. This is another rule, FBGEMM's.
      storage, nonfinite, seed: as in `scale_by_rmsprop`. A narrow moment is rounded
        once when its row is touched, where the dense optimizer rounds it in every
        step: the same mean, less noise. Give each table its own seed.

    Returns:
      A `SparseTransformation`:

      - `init(table)`: the `TableState` of a table of shape (rows, dim).
      - `gather(table, state, ids)`: rows of shape (..., dim) as the dense optimizer
        would have them now, and zeros for padding, for ids of shape (...).
      - `update(table, state, ids, row_gradients)`: table and state after one step. Ids
        are of any integer dtype and shape and may repeat; those below 0 are padding.
      - `flush(table, state)`: table and state with every row brought up to date.

    Raises:
      ValueError: for a number outside its range; for coupled weight decay; for
        `row_wise` with `centered`; outside `jax.jit` for ids past the end.
      TypeError: for numbers that are traced or scheduled other than the learning rate;
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
    check_choice(CALL, "nonfinite", nonfinite, NONFINITE)
    rule = Rule(
        _constant("decay", decay),
        _constant("eps", eps),
        eps_in_sqrt,
        centered,
        bias_correction,
    )
    start = _constant("initial_scale", initial_scale)
    check_start(CALL, start, bias_correction)
    if row_wise and centered:
        raise ValueError(
            f"`{CALL}(row_wise=True, centered=True)`: the mean gradient would need "
            "the memory of the table again. Drop one."
        )
    motion = Motion(
        learning_rate,
        None if momentum is None else _constant("momentum", momentum),
        nesterov,
        lr_in_momentum,
        None if weight_decay is None else _constant("weight_decay", weight_decay),
    )
    _check_motion(motion, decoupled_weight_decay)
    format_ = find_format(CALL, storage)
    optimizer = Optimizer(rule, motion, start, row_wise, format_, nonfinite, seed)

    def init(table: Array | np.ndarray) -> TableState:
        check_table(Call("sparse.rmsprop.init"), table)
        if isinstance(table, np.ndarray):
            table = jnp.asarray(table)
        return _state.init(optimizer, table)

    @functools.cache
    def like(shape: tuple[int, ...], dtype: DTypeLike) -> TableState:
        return jax.eval_shape(init, jax.ShapeDtypeStruct(shape, dtype))

    def gather(table: Array | np.ndarray, state: TableState, ids: Any) -> Array:
        call = Call("sparse.rmsprop.gather")
        table, state = checked(call, table, state, like)
        check_ids(call, ids, len(table))
        return _table.gather(optimizer, table, state, as_int32(ids, len(table)))

    def update(
        table: Array | np.ndarray,
        state: TableState,
        ids: Any,
        row_gradients: ArrayLike,
    ) -> tuple[Array, TableState]:
        call = Call("sparse.rmsprop.update")
        table, state = checked(call, table, state, like)
        check_ids(call, ids, len(table))
        check_gradients(call, table, ids, row_gradients)
        numbers = as_int32(ids, len(table))
        return _table.update(
            optimizer, table, state, numbers, jnp.asarray(row_gradients)
        )

    def flush(table: Array | np.ndarray, state: TableState) -> tuple[Array, TableState]:
        table, state = checked(Call("sparse.rmsprop.flush"), table, state, like)
        return _table.flush(optimizer, table, state)

    return SparseTransformation(init, gather, update, flush)


def _constant(name: str, value: Any) -> float:
    """Read a number that is the same in all steps."""
    if callable(value) or is_traced(value):
        kind = "a function" if callable(value) else "traced"
        raise TypeError(
            f"`{CALL}({name}=...)` must be a number known at construction and the same "
            f"in all steps: what idle rows missed is computed later. It is {kind}; "
            "only `learning_rate` may be a schedule."
        )
    check_numbers(CALL, **{name: value})
    return float(value)


def _check_motion(motion: Motion, decoupled_weight_decay: bool) -> None:
    rate, strength = motion.learning_rate, motion.weight_decay
    check_learning_rate(CALL, rate)
    if strength is not None and not decoupled_weight_decay:
        raise ValueError(
            f"`{CALL}(weight_decay={strength})` would be part of the gradient, and so "
            "give every row one in every step: no row is idle. Pass "
            "`decoupled_weight_decay=True`, or use `rmsprop_jax.rmsprop`."
        )
    if is_traced(rate) and motion.depends_on_rate:
        raise TypeError(
            f"`{CALL}(learning_rate=...)` is traced, and with `weight_decay` or "
            "`lr_in_momentum=False` idle rows move by it. Pass a number, or a schedule "
            "of the count."
        )
    if strength is None or callable(rate):
        return
    if float(rate) * strength >= 1:  # pyright: ignore
        raise ValueError(
            f"`{CALL}`: learning_rate * weight_decay must be below 1, where a row is "
            f"all gone in one step; got {rate} * {strength}."
        )
