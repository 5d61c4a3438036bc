"""What `sparse` refuses: tables, states, ids and gradients that do not fit."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from .._arguments import Call, is_traced
from ._table_state import TableState


def check_table(call: Call, table: Any) -> None:
    """Refuse what is not a table of numbers."""
    kind = getattr(table, "dtype", None)
    got = type(table).__name__ if kind is None else f"{kind} of shape {table.shape}"
    if kind is None or table.ndim != 2 or not jnp.issubdtype(kind, jnp.inexact):
        raise TypeError(
            f"`{call}`: the table must be a floating point or complex array of shape "
            f"(rows, dim); got {got}. Give each table a state of its own, and the "
            "other parameters to `rmsprop_jax.rmsprop`."
        )


def checked(
    call: Call, table: Any, state: Any, like: Callable[..., TableState]
) -> tuple[Array, TableState]:
    """Give table and state as arrays of JAX, and refuse a state of another optimizer.

    `like(shape, dtype)` has the shapes and dtypes that `init` gives such a table.
    """
    check_table(call, table)
    if not isinstance(state, TableState):
        raise TypeError(
            f"`{call}`: the state must be a `TableState`, as `init` gives; got "
            f"{type(state).__name__}. A checkpoint is restored into the structure of "
            "`init(table)`."
        )
    table, state = jax.tree.map(_as_array, (table, state))
    expected = like(table.shape, table.dtype)
    if _types(state) != _types(expected):
        raise ValueError(
            f"`{call}`: the state is not that of this table, {_name(table)}, under "
            f"these options: {'; '.join(_differences(state, expected))}. Use the "
            "options that the state was made with (`storage` decides on the dtypes, "
            "uint16 for floats of 16 bits; `row_wise`, `centered`, `momentum` and a "
            "schedule on the arrays), or call `init` on this table."
        )
    return table, state


def _as_array(x: Any) -> Array:
    return x if isinstance(x, jax.Array) else jnp.asarray(x)


def _types(state: TableState) -> Any:
    leaves, treedef = jax.tree.flatten(state)
    return treedef, [(x.shape, x.dtype) for x in leaves]


def _differences(got: Any, expected: Any, path: str = "") -> Iterator[str]:
    """Tell field by field in what a state differs from what was expected."""
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


def check_ids(call: Call, ids: Any, rows: int) -> None:
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


def check_gradients(call: Call, table: Any, ids: Any, row_gradients: Any) -> None:
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
