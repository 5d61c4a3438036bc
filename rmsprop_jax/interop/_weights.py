"""Weights, by the same mapping as the moments."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from .._arguments import Call
from ._mapping import Problems, by_path, inverse, move, parse_mapping, path_name
from ._slots import place

_HINT = (
    "Extend the mapping by {name: path}, {name: (path, layout)}, or {name: None} to "
    "leave one out. Nothing was changed."
)


def import_weights(
    call: Call, weights: Mapping[str, Any], params: PyTree, mapping: Mapping[str, Any]
) -> PyTree:
    """Give a tree like `params` with the weights in it."""
    problems = Problems(call)
    places = parse_mapping(call, mapping)
    moved = move(weights, by_path(call, params), places, "", problems)
    problems.raise_if_any(_HINT)
    return jax.tree_util.tree_map_with_path(
        lambda path, like: place(moved[path_name(path)], like), params
    )


def export_weights(
    call: Call, params: PyTree, mapping: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    """Give the weights by their names elsewhere."""
    problems = Problems(call)
    leaves, back = by_path(call, params), inverse(parse_mapping(call, mapping))
    wanted = {
        entry.to: None for path, entry in back.items() if path in leaves and entry
    }
    moved = move({p: _known(x) for p, x in leaves.items()}, wanted, back, "", problems)
    problems.raise_if_any(_HINT)
    return {name: np.array(x, order="C") for name, x in moved.items()}


def _known(x: Any) -> np.ndarray:
    """Widen what other frameworks cannot take from NumPy, such as bfloat16."""
    x = np.asarray(x)
    return x.astype(np.float32) if x.dtype.kind == "V" else x
