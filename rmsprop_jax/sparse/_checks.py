"""What `sparse` refuses: tables, states, ids and gradients that do not fit."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from .._checks import is_traced
from ._state import TableState


def check_table(call: str, table: Any) -> None:
    """Refuse what is not a table of numbers."""
    shape, dtype = jnp.shape(table), getattr(table, "dtype", None)
    if dtype is None or len(shape) != 2 or not jnp.issubdtype(dtype, jnp.inexact):
        raise TypeError(
            f"`{call}`: the table must be a floating point or complex array of shape "
            f"(rows, dim); got {dtype or type(table).__name__} of shape {shape}. Give "
            "each table a state of its own, and the other parameters to "
            "`rmsprop_jax.rmsprop`."
        )


def check_state(call: str, table: Any, state: TableState) -> None:
    """Refuse a state of another table."""
    check_table(call, table)
    rows = jnp.shape(state.touched)[0]
    if jnp.shape(table)[0] != rows or jnp.shape(state.s)[1:] not in (
        (),
        jnp.shape(table)[1:],
    ):
        raise ValueError(
            f"`{call}`: the state is that of a table of {rows} rows, with s of shape "
            f"{jnp.shape(state.s)}; got a table of shape {jnp.shape(table)}. Call "
            "`init` on this table."
        )


def check_ids(call: str, ids: Any, rows: int) -> None:
    """Refuse ids that are no integers or, where values are known, past the end."""
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
            "Padding is an id below 0. (Under `jax.jit`, where values are not known, "
            "such ids are dropped, and counted in `state.dropped`.)"
        )


def check_gradients(call: str, table: Any, ids: Any, row_gradients: Any) -> None:
    """Refuse gradients that are not one row for each id."""
    expected = (*np.shape(ids), jnp.shape(table)[1])
    if jnp.shape(row_gradients) != expected:
        raise ValueError(
            f"`{call}`: the row gradients must have the shape of ids and then that of "
            f"a row, {expected}; got {jnp.shape(row_gradients)}."
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
            f"`{call}`: rows and ids together must number below 2**31; got "
            f"{jnp.shape(table)[0]} and {np.size(ids)}. Split the table."
        )
