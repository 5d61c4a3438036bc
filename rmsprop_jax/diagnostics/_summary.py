"""The numbers about a state, leaf by leaf: as a table and as scalars."""

from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import PyTree

from .._text_tables import plain_table
from .._trees import path_name
from ._quantiles import NAMES


class Summary(NamedTuple):
    """Numbers about each parameter; a pytree, so `jax.jit` can return it.

    Each field is a tree like the parameters, of arrays of five quantiles (the minimum,
    5%, 50%, 95% and the maximum) or of shares in [0, 1]; it is None where it was not
    asked for.

    Attributes:
      effective_learning_rate: quantiles of the factor of each gradient.
      step_length: quantiles of the absolute values of the updates.
      at_floor: share of `s` below the smallest normal number.
      at_eps: share where eps is larger than the number that it is added to.
      saturated: share of `s` at the upper end of the range of its format.
      held: share of gradients that are NaN or infinite.
      signal_to_noise: quantiles of the gradient's mean over its standard deviation.
      agreement: quantiles of the effective learning rate over that of full precision.
    """

    effective_learning_rate: PyTree
    step_length: PyTree
    at_floor: PyTree
    at_eps: PyTree
    saturated: PyTree
    held: PyTree
    signal_to_noise: PyTree
    agreement: PyTree

    def scalars(self, prefix: str = "rmsprop") -> dict[str, float]:
        """Return every number by a name of its own, for TensorBoard, W&B and the like.

        Args:
          prefix: first part of the names; may be empty.

        Returns:
          Python floats, by names such as `rmsprop/<leaf>/step_length/q50`.

        Raises:
          ValueError: for the summaries of several runs, as `jax.vmap` returns them.

        Example:
          >>> import jax.numpy as jnp, rmsprop_jax
          >>> state = rmsprop_jax.scale_by_rmsprop().init({"w": jnp.ones(3)})
          >>> summary = rmsprop_jax.diagnostics.summary(state, 1e-3)
          >>> summary.scalars()["rmsprop/w/at_floor"]
          1.0
        """
        return {
            "/".join(filter(None, (prefix, leaf, field, quantile))): value
            for leaf, fields in self._by_leaf().items()
            for field, values in fields.items()
            for quantile, value in values.items()
        }

    def __str__(self) -> str:
        rows = self._rows()
        return f"{plain_table(rows)}\n{_CAPTION}" if rows else "no parameters"

    def __rich__(self) -> Any:
        from rich import box
        from rich.table import Table

        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, caption=_CAPTION)
        rows = self._rows()
        for heading in rows[0] if rows else ():
            side = "left" if heading == "leaf" else "right"
            table.add_column(heading.replace(" ", "\n"), justify=side, overflow="fold")
        for row in rows:  # three numbers below each other; side by side they are wide
            table.add_row(*(cell.replace("  ", "\n") for cell in row.values()))
        return table

    def _rows(self) -> list[dict[str, str]]:
        found = self._by_leaf()
        known = [
            name for name in self._fields if any(name in x for x in found.values())
        ]
        return [
            {"leaf": leaf or "/"}
            | {
                name.replace("_", " "): _cell(fields[name]) if name in fields else ""
                for name in known
            }
            for leaf, fields in found.items()
        ]

    def _by_leaf(self) -> dict[str, dict[str, dict[str, float]]]:
        """Return the numbers by leaf, field and quantile; the one of a share is ""."""
        found: dict[Any, dict[str, dict[str, float]]] = {}
        for field, tree in jax.device_get(self)._asdict().items():
            for path, x in jax.tree_util.tree_leaves_with_path(tree):
                found.setdefault(path, {})[field] = _numbers(field, x)
        names = [path_name(path) for path in found]
        if len(set(names)) < len(names):  # as of {"a/b": x, "a": {"b": y}}
            names = [jax.tree_util.keystr(path) for path in found]
        return dict(zip(names, found.values(), strict=True))


_CAPTION = "Three numbers are the quantiles 5%, 50% and 95%."
_SHARES = ("at_floor", "at_eps", "saturated", "held")


def _numbers(field: str, x: np.ndarray) -> dict[str, float]:
    names = ("",) if field in _SHARES else NAMES
    values = np.asarray(x, float)
    if values.size != len(names):
        raise ValueError(
            f"`Summary` must be that of one run; got `{field}` of several runs, with "
            f"shape {values.shape}. Take one run: `jax.tree.map(lambda x: x[0], "
            "summary)`."
        )
    return dict(zip(names, values.ravel().tolist(), strict=True))


def _cell(values: dict[str, float]) -> str:
    if len(values) == 1:
        return f"{100 * values['']:.3g}%"
    return "  ".join(_short(values[name]) for name in NAMES[1:-1])


def _short(x: float) -> str:
    """Write a number with two digits, in at most six characters."""
    if x == 0 or 1e-3 <= x < 100:
        return f"{x:.2g}"
    return f"{x:.1e}".replace("e-0", "e-").replace("e+0", "e+")
