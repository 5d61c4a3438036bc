"""Rows of a table: their numbers, and how they are looked up and written."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int32, Shaped


def as_int32(ids: Any, rows: int) -> Int32[Array, "..."]:
    """Cast ids: padding becomes -1, and ids past the end become `rows`."""
    if not isinstance(ids, jax.Array):
        # In NumPy, since JAX would first cut 64 bits to 32.
        wide = np.asarray(ids)
        known = np.where(wide > rows - 1, rows, wide.astype(np.int64))
        return jnp.asarray(np.where(wide < 0, -1, known).astype(np.int32))
    last = jnp.asarray(min(max(rows, 1) - 1, jnp.iinfo(ids.dtype).max), ids.dtype)
    kept = jnp.where(ids > last, jnp.int32(rows), ids.astype(jnp.int32))
    return jnp.where(ids < 0, jnp.int32(-1), kept)


def distinct(
    ids: Int32[Array, " n"], rows: int
) -> tuple[Int32[Array, " n"], Int32[Array, " n"]]:
    """Return each row number once, and the place of every id among these numbers.

    The remaining places, such as those of padding and of ids past the end, hold
    different numbers past the end, so that nothing is written there.
    """
    ids = jnp.where(ids < 0, jnp.int32(rows), ids)
    ordered = jnp.sort(ids)
    first = jnp.diff(ordered, prepend=jnp.int32(-1)) != 0
    spare = jnp.int32(rows) + jnp.arange(len(ids), dtype=jnp.int32)
    numbers = jnp.where(first & (ordered < rows), ordered, spare)
    # On CPU a search is three times as fast as a sort that keeps the places.
    return numbers, jnp.searchsorted(ordered, ids).astype(jnp.int32)


class SomeRows(NamedTuple):
    """Rows by number. A row that does not exist is zero, and is not written.

    Numbers that are written must all be different, also those past the end.
    """

    numbers: Int32[Array, " n"]

    def get(self, x: Array) -> Array:
        """Return these rows of `x`."""
        if not len(x):  # JAX cannot index an empty array
            return jnp.zeros((*self.numbers.shape, *x.shape[1:]), x.dtype)
        numbers = jnp.where(self.numbers < 0, jnp.int32(len(x)), self.numbers)
        return x.at[numbers].get(mode="fill", fill_value=0)

    def set(self, x: Array, values: Array) -> Array:
        """Replace these rows of `x`; in place where `x` is donated."""
        return x.at[self.numbers].set(values, mode="drop", unique_indices=True)

    def add(self, x: Array, values: Array) -> Array:
        """Add to these rows of `x`; in place where `x` is donated."""
        return x.at[self.numbers].add(values, mode="drop", unique_indices=True)


class AllRows(NamedTuple):
    """All rows, in their order."""

    numbers: None = None

    def get(self, x: Array) -> Array:
        """Return all rows."""
        return x

    def set(self, x: Array, values: Array) -> Array:
        """Replace all rows."""
        del x
        return values

    def add(self, x: Array, values: Array) -> Array:
        """Add to all rows."""
        return x + values


def along_rows(x: Shaped[Array, " rows"], like: Array) -> Array:
    """Reshape one number per row for arithmetic with rows like `like`."""
    return x.reshape(x.shape + (1,) * (like.ndim - 1))
