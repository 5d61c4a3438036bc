"""Checks of tables, states, ids and row gradients."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from .._arguments import Call, check_state, is_traced
from ._table_state import TableState


def check_table(call: Call, table: Any) -> None:
    """Refuse what is not a floating point or complex matrix."""
    kind = getattr(table, "dtype", None)
    got = type(table).__name__ if kind is None else f"{kind} of shape {table.shape}"
    if kind is None or table.ndim != 2 or not jnp.issubdtype(kind, jnp.inexact):
        raise TypeError(
            f"`{call}`: the table must be a floating point or complex array of shape "
            f"(rows, dim); got {got}. Make one state per table, and train the other "
            "parameters with `rmsprop_jax.rmsprop`."
        )


def checked(
    call: Call, table: Any, state: Any, like: Callable[..., TableState]
) -> tuple[Array, TableState]:
    """Return a table and its state as JAX arrays, and refuse what does not fit.

    `like(shape, dtype)` returns the shapes and dtypes of the state of such a table.
    """
    check_table(call, table)
    check_state(call, state, TableState, method="", of="table")
    table, state = jax.tree.map(_as_array, (table, state))
    expected = like(table.shape, table.dtype)
    if _types(state) != _types(expected):
        raise ValueError(
            f"`{call}`: the state does not fit this table, {_name(table)}, and these "
            f"options: {'; '.join(_differences(state, expected))}. Use the options "
            "that the state was made with (`storage` decides on the dtypes, uint16 for "
            "16-bit floats; `row_wise`, `centered`, `momentum` and a schedule decide "
            "on the arrays), or call `init` on this table."
        )
    return table, state


def check_ids(call: Call, ids: Any, rows: int) -> None:
    """Refuse ids that are not integers or, where values are known, past the end."""
    if isinstance(ids, slice | tuple | None):
        raise TypeError(f"`{call}`: ids must be integers; got a {type(ids).__name__}.")
    kind = getattr(ids, "dtype", None)
    if kind is None:
        kind = np.asarray(ids).dtype if np.size(ids) else np.dtype(np.int32)
    if not jnp.issubdtype(kind, jnp.integer):
        raise TypeError(f"`{call}`: ids must be integers; got {kind}.")
    if is_traced(ids) or not np.size(ids):
        return
    largest = int(np.max(np.asarray(ids)))
    if largest >= rows:
        raise ValueError(
            f"`{call}`: ids must be below the number of rows, {rows}; got {largest}. "
            "Ids below 0 are padding. (Under `jax.jit`, where values are not known, "
            "ids past the end are dropped, and `state.dropped` counts them.)"
        )


def check_row_gradients(call: Call, table: Any, ids: Any, row_gradients: Any) -> None:
    """Refuse row gradients that are not one row per id, of the kind of the table."""
    expected = (*np.shape(ids), jnp.shape(table)[1])
    if jnp.shape(row_gradients) != expected:
        raise ValueError(
            f"`{call}`: the row gradients must have the shape of the ids followed by "
            f"that of a row, {expected}; got {jnp.shape(row_gradients)}."
        )
    kind = jnp.result_type(row_gradients)
    both = jnp.iscomplexobj(row_gradients) == jnp.iscomplexobj(table)
    if not jnp.issubdtype(kind, jnp.inexact) or not both:
        raise TypeError(
            f"`{call}`: the row gradients must be floating point for a real table and "
            f"complex for a complex one; got {kind} for {table.dtype}."
        )
    if jnp.shape(table)[0] + np.size(ids) >= 2**31:
        raise ValueError(
            f"`{call}`: there must be fewer than 2**31 rows and ids together; got "
            f"{jnp.shape(table)[0]} and {np.size(ids)}. Use several tables."
        )


def _as_array(x: Any) -> Array:
    return x if isinstance(x, jax.Array) else jnp.asarray(x)


def _types(state: TableState) -> Any:
    leaves, treedef = jax.tree.flatten(state)
    return treedef, [(x.shape, x.dtype) for x in leaves]


def _differences(got: Any, expected: Any, path: str = "") -> Iterator[str]:
    """Describe field by field how a state differs from what was expected."""
    for field, x, y in zip(expected._fields, got, expected, strict=True):
        if type(x) is type(y) and hasattr(x, "_fields"):
            yield from _differences(x, y, f"{path}{field}.")
        elif _name(x) != _name(y):
            yield f"{path}{field} is {_name(x)}, not {_name(y)}"


def _name(x: Any) -> str:
    if x is None:
        return "None"
    if not hasattr(x, "dtype"):
        return f"a {type(x).__name__}"
    return f"{x.dtype}[{','.join(map(str, x.shape))}]"
