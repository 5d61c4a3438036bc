"""Rows of a table by their numbers: made distinct, read, added up and written."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Inexact, Int32


def as_int32(ids: Any, rows: int) -> Int32[Array, "..."]:
    """Cast ids; padding becomes -1, and what is past the end `rows`."""
    if not isinstance(ids, jax.Array):
        # Before JAX takes 32 bits of 64.
        wide = np.asarray(ids)
        known = np.where(wide > rows - 1, rows, wide.astype(np.int64))
        return jnp.asarray(np.where(wide < 0, -1, known).astype(np.int32))
    last = jnp.asarray(min(max(rows, 1) - 1, jnp.iinfo(ids.dtype).max), ids.dtype)
    kept = jnp.where(ids > last, jnp.int32(rows), ids.astype(jnp.int32))
    return jnp.where(ids < 0, jnp.int32(-1), kept)


def distinct(
    ids: Int32[Array, " n"], rows: int
) -> tuple[Int32[Array, " n"], Int32[Array, " n"]]:
    """Name every row once, and tell for each id in which place.

    The other places, among them that of padding and of ids past the end, hold different
    numbers past the end: what is written there is dropped.
    """
    ids = jnp.where(ids < 0, jnp.int32(rows), ids)
    ordered = jnp.sort(ids)
    first = jnp.diff(ordered, prepend=jnp.int32(-1)) != 0
    spare = jnp.int32(rows) + jnp.arange(len(ids), dtype=jnp.int32)
    numbers = jnp.where(first & (ordered < rows), ordered, spare)
    # On CPU a search is three times as fast as a sort that keeps the places.
    return numbers, jnp.searchsorted(ordered, ids).astype(jnp.int32)


class Some(NamedTuple):
    """Rows by their numbers: zeros where there is no such row, and nothing written.

    Numbers past the end that are written must differ, as all others.
    """

    numbers: Int32[Array, " n"]

    def read(self, x: Array) -> Array:
        """Read these rows."""
        if not len(x):  # JAX reads nothing from an empty array
            return jnp.zeros((*self.numbers.shape, *x.shape[1:]), x.dtype)
        numbers = jnp.where(self.numbers < 0, jnp.int32(len(x)), self.numbers)
        return x.at[numbers].get(mode="fill", fill_value=0)

    def write(self, x: Array, values: Array) -> Array:
        """Write these rows; in place where `x` is donated."""
        return x.at[self.numbers].set(values, mode="drop", unique_indices=True)

    def add(self, x: Array, values: Array) -> Array:
        """Add to these rows."""
        return x.at[self.numbers].add(values, mode="drop", unique_indices=True)


class All(NamedTuple):
    """All rows, in their order."""

    numbers: None = None

    def read(self, x: Array) -> Array:
        """Read all rows."""
        return x

    def write(self, x: Array, values: Array) -> Array:
        """Write all rows."""
        del x
        return values

    def add(self, x: Array, values: Array) -> Array:
        """Add to all rows."""
        return x + values


def total(
    gradients: Inexact[Array, "n dim"], places: Int32[Array, " n"]
) -> Inexact[Array, "n dim"]:
    """Add up the gradients of equal ids."""
    return jax.ops.segment_sum(gradients, places, len(places))
