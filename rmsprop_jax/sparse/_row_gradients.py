"""Gradients of the rows that a loss looks up, and never one of a table."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Inexact, Int32, PyTree

from .._arguments import Call
from ._rows import as_int32
from ._sparse_rmsprop import SparseTransformation
from ._table_checks import check_ids, check_table

_CALL = Call("sparse.value_and_grad")


class RowGradients(NamedTuple):
    """What `update` needs of one table: `tx.update(table, state, *row_gradients)`.

    Attributes:
      ids: every id that the loss looked up, in order; those that repeat are repeated.
      gradients: the gradient of each of these lookups.
    """

    ids: Int32[Array, " n"]
    gradients: Inexact[Array, "n dim"]


class _Lookups:
    """A table in a loss: `lookups[ids]` are rows, each with a shift of its own.

    The derivative in the shift is the gradient of the row.
    """

    def __init__(
        self, read: Callable[[Any], Array], table: Array, shifts: list[Array] | None
    ):
        self.read, self.table, self.shifts = read, table, shifts
        self.ids: list[Array] = []
        self.shapes: list[tuple[int, ...]] = []

    @property
    def shape(self) -> tuple[int, ...]:
        return self.table.shape

    @property
    def dtype(self) -> np.dtype:
        return self.table.dtype

    def __len__(self) -> int:
        return len(self.table)

    def __iter__(self):
        raise TypeError("`sparse.value_and_grad`: a table is not read row by row.")

    def __getitem__(self, ids: Any) -> Array:
        check_ids(_CALL, ids, len(self.table))
        rows = self.read(ids)
        number = len(self.ids)
        self.ids.append(as_int32(ids, len(self.table)).reshape(-1))
        self.shapes.append(rows.shape)
        return rows if self.shifts is None else rows + self.shifts[number]


def value_and_grad(
    loss: Callable[..., Any],
    tx: SparseTransformation | PyTree,
    *,
    has_aux: bool = False,
) -> Callable[..., Any]:
    """Differentiate a loss in its parameters and in the rows that it looks up.

        value, (gradients, row_gradients) = f(params, tables, states, *args)
        table, state <- tx.update(table, state, *row_gradients)

    The loss is written as with dense tables: `loss(params, tables, *args)`, where
    `tables["user"][ids]` are rows, as `gather` gives them. The ids may be of any shape,
    and a table may be looked up several times. The loss is traced twice: first for the
    shapes of its lookups. A lookup cannot be inside a `jax.vmap`, `jax.lax.scan` or
    `jax.checkpoint` of the loss: look up outside, all at once.

    Args:
      loss: a function of `(params, tables, *args)` to a scalar.
      tx: the `SparseTransformation` of all tables, or a tree like `tables` of them.
      has_aux: whether the loss gives a pair `(value, aux)`.

    Returns:
      A function of `(params, tables, states, *args)` to
      `(value, (gradients, row_gradients))`, with `(value, aux)` in place of the value
      where `has_aux`. `gradients` is like `params`, which may be None or any tree;
      `row_gradients` is like `tables`, and holds a `RowGradients` for each.

    Raises:
      TypeError: for a lookup by what is not an integer, and for what is no table.
      ValueError: outside `jax.jit` for ids past the end.

    Example:
      >>> import jax.numpy as jnp
      >>> from rmsprop_jax import sparse
      >>> tx, table = sparse.rmsprop(0.1), jnp.ones((1000, 2))
      >>> loss = lambda params, table, ids: jnp.sum(table[ids] ** 2)
      >>> grad = sparse.value_and_grad(loss, tx)
      >>> value, (_, rows) = grad(None, table, tx.init(table), jnp.array([3, 8]))
      >>> table, state = tx.update(table, tx.init(table), *rows)

    Source: the `IndexedSlices` of TensorFlow, in functions.
    """

    def differentiated(params: PyTree, tables: PyTree, states: PyTree, *args: Any):
        leaves, treedef = jax.tree.flatten(tables)
        for table in leaves:
            check_table(_CALL, table)
        leaves = [jnp.asarray(table) for table in leaves]  # NumPy's may be wider
        readers = [
            _reader(*each)
            for each in zip(
                _for_each(tx, treedef),
                leaves,
                treedef.flatten_up_to(states),
                strict=True,
            )
        ]

        def run(params: PyTree, shifts: list[Any]):
            lookups = [
                _Lookups(*each) for each in zip(readers, leaves, shifts, strict=True)
            ]
            result = loss(params, jax.tree.unflatten(treedef, lookups), *args)
            value, aux = result if has_aux else (result, None)
            return value, (aux, lookups)

        shapes: list[Any] = []

        def record(params: PyTree) -> None:
            _, (_, lookups) = run(params, [None] * len(leaves))
            shapes.extend(x.shapes for x in lookups)

        jax.eval_shape(record, params)
        shifts = [
            [jnp.zeros(shape, table.dtype) for shape in of_table]
            for of_table, table in zip(shapes, leaves, strict=True)
        ]

        def shifted(params: PyTree, shifts: list[Any]):
            value, (aux, lookups) = run(params, shifts)
            return value, (aux, [x.ids for x in lookups])

        grad = jax.value_and_grad(shifted, argnums=(0, 1), has_aux=True)
        (value, (aux, ids)), (gradients, by_table) = grad(params, shifts)
        # XLA copies a table that it might write before the loss has read it. So what is
        # written there depends on the value, by a number that is always 0.
        never = (value < -jnp.inf).astype(jnp.int32)
        rows = [
            _joined(table, [i + never for i in of_table], gradients)
            for table, of_table, gradients in zip(leaves, ids, by_table, strict=True)
        ]
        result = (value, aux) if has_aux else value
        return result, (gradients, jax.tree.unflatten(treedef, rows))

    return differentiated


def _for_each(tx: Any, treedef: Any) -> list[SparseTransformation]:
    if isinstance(tx, SparseTransformation):
        return [tx] * treedef.num_leaves
    return treedef.flatten_up_to(tx)


def _reader(
    tx: SparseTransformation, table: Array, state: Any
) -> Callable[[Any], Array]:
    return lambda ids: tx.gather(table, state, ids)


def _joined(table: Array, ids: list[Array], gradients: list[Array]) -> RowGradients:
    """Put the lookups of one table one after the other."""
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
