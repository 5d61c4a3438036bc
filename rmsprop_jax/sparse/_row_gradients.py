"""Gradients of the rows that a loss looks up, without the gradient of a table."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Inexact, Int32, PyTree

from .._arguments import Call
from ._rows import as_int32
from ._sparse_rmsprop import SparseTransformation
from ._table_checks import check_ids, check_table, checked

_CALL = Call("sparse.value_and_row_grad")


class RowGradients(NamedTuple):
    """The ids and gradients of one table: `tx.update(table, state, *row_gradients)`.

    Attributes:
      ids: every id that the loss looked up, in order, with repetitions.
      gradients: the gradient of each of these lookups.
    """

    ids: Int32[Array, " n"]
    gradients: Inexact[Array, "n dim"]


class _Lookups:
    """Stands for a table in the loss: `lookups[ids]` returns rows plus a shift of 0.

    The derivative with respect to the shift is the gradient of these rows.
    """

    def __init__(
        self, table: Array, gather: Callable[[Any], Array], shifts: list[Array] | None
    ):
        self.table, self.gather, self.shifts = table, gather, shifts
        self.ids: list[Array] = []
        self.rows: list[Array] = []

    @property
    def shape(self) -> tuple[int, ...]:
        return self.table.shape

    @property
    def dtype(self) -> np.dtype:
        return self.table.dtype

    def __len__(self) -> int:
        return len(self.table)

    def __iter__(self):
        raise TypeError(
            f"`{_CALL}`: a table in the loss cannot be iterated over. Look up rows by "
            "their ids, `table[ids]`."
        )

    def __getitem__(self, ids: Any) -> Array:
        check_ids(_CALL, ids, len(self.table))
        rows = self.gather(ids)
        if self.shifts is not None:
            rows = rows + self.shifts[len(self.rows)]
        self.ids.append(as_int32(ids, len(self.table)).reshape(-1))
        self.rows.append(rows)
        return rows


def value_and_row_grad(
    loss: Callable[..., Any],
    tx: SparseTransformation | PyTree,
    *,
    has_aux: bool = False,
) -> Callable[..., Any]:
    """Differentiate a loss with respect to its parameters and the rows it looks up.

        value, (gradients, row_gradients) = f(params, tables, states, *args)
        table, state <- tx.update(table, state, *row_gradients)

    The loss is written as with dense tables: `loss(params, tables, *args)`, where
    `tables["user"][ids]` are rows, as `gather` returns them. The ids may have any
    shape, and a table may be looked up several times. The loss is traced twice, first
    for the shapes of its lookups. A lookup cannot be inside a `jax.vmap`,
    `jax.lax.scan` or `jax.checkpoint` of the loss: look up all rows outside of it.

    Args:
      loss: a function of `(params, tables, *args)` that returns a scalar.
      tx: the `SparseTransformation` of all tables, or a tree like `tables` of them.
      has_aux: whether the loss returns a pair `(value, aux)`.

    Returns:
      A function of `(params, tables, states, *args)` that returns
      `(value, (gradients, row_gradients))`, with `(value, aux)` in place of the value
      where `has_aux`. `gradients` is like `params`, which may be None or any tree;
      `row_gradients` is like `tables`, and holds one `RowGradients` per table.

    Raises:
      TypeError: for ids that are not integers, and for what is not a table.
      ValueError: for states that do not fit the tables; outside `jax.jit` for ids past
        the end.

    Example:
      >>> import jax.numpy as jnp
      >>> from rmsprop_jax import sparse
      >>> tx, table = sparse.rmsprop(0.1), jnp.ones((1000, 2))
      >>> loss = lambda params, table, ids: jnp.sum(table[ids] ** 2)
      >>> grad = sparse.value_and_row_grad(loss, tx)
      >>> value, (_, rows) = grad(None, table, tx.init(table), jnp.array([3, 8]))
      >>> table, state = tx.update(table, tx.init(table), *rows)

    Source: `IndexedSlices` of TensorFlow, in functional form.
    """

    def value_and_rows(params: PyTree, tables: PyTree, states: PyTree, *args: Any):
        sources, treedef = _sources(tx, tables, states)

        def run(params: PyTree, shifts: list[Any]):
            pairs = zip(sources, shifts, strict=True)
            lookups = [_Lookups(*source, x) for source, x in pairs]
            result = loss(params, treedef.unflatten(lookups), *args)
            value, aux = result if has_aux else (result, None)
            return value, aux, lookups

        def looked_up(params: PyTree) -> list[list[Array]]:
            return [x.rows for x in run(params, [None] * len(sources))[2]]

        def shifted(params: PyTree, shifts: list[list[Array]]):
            value, aux, lookups = run(params, shifts)
            return value, (aux, [x.ids for x in lookups])

        rows = jax.eval_shape(looked_up, params)
        shifts = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), rows)
        grad = jax.value_and_grad(shifted, argnums=(0, 1), has_aux=True)
        (value, (aux, ids)), (gradients, by_table) = grad(params, shifts)
        # XLA copies a table that it might write before the loss has used it. So the ids
        # are made to depend on the value, by a number that is always 0.
        never = (value < -jnp.inf).astype(jnp.int32)
        row_gradients = [
            _joined(table, [i + never for i in of_table], gradients)
            for (table, _), of_table, gradients in zip(
                sources, ids, by_table, strict=True
            )
        ]
        result = (value, aux) if has_aux else value
        return result, (gradients, treedef.unflatten(row_gradients))

    return value_and_rows


def _sources(
    tx: Any, tables: PyTree, states: PyTree
) -> tuple[list[tuple[Array, Callable[[Any], Array]]], Any]:
    """Pair each table with the function that looks up its rows."""
    leaves, treedef = jax.tree.flatten(tables)
    for table in leaves:
        check_table(_CALL, table)
    if isinstance(tx, SparseTransformation):
        tx = treedef.unflatten([tx] * len(leaves))
    try:
        txs, states = treedef.flatten_up_to(tx), treedef.flatten_up_to(states)
    except ValueError as error:
        raise ValueError(
            f"`{_CALL}`: the transformations and the states must be trees like the "
            f"tables, {treedef}. {error}"
        ) from error
    each = zip(txs, leaves, states, strict=True)
    return [_source(*one) for one in each], treedef


def _source(tx: Any, table: Any, state: Any) -> tuple[Array, Callable[[Any], Array]]:
    if not isinstance(tx, SparseTransformation):
        raise TypeError(
            f"{_CALL.given(tx=...)} must be a `SparseTransformation`, as "
            f"`sparse.rmsprop` returns it, or a tree of them; got {type(tx).__name__}."
        )
    like = lambda *x: jax.eval_shape(tx.init, jax.ShapeDtypeStruct(*x))  # noqa: E731
    table, state = checked(_CALL, table, state, like)
    return table, lambda ids: tx.gather(table, state, ids)


def _joined(table: Array, ids: list[Array], gradients: list[Array]) -> RowGradients:
    """Concatenate the lookups of one table."""
    dim = table.shape[1]
    return RowGradients(
        jnp.concatenate([jnp.zeros(0, jnp.int32), *ids]),
        jnp.concatenate(
            [
                jnp.zeros((0, dim), table.dtype),
                *(g.reshape(len(i), dim) for i, g in zip(ids, gradients, strict=True)),
            ]
        ),
    )
