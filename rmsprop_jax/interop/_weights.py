"""Weights, by the same mapping as the moments."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from .._arguments import Call
from ._layout import owned
from ._mapping import Problem, by_path, inverse, move, parse_mapping, raise_for
from ._slots import put_like

_ADVICE = (
    "Extend the mapping by {name: path}, {name: (path, layout)}, or {name: None} to "
    "leave one out; `flax_mapping` leaves out square kernels of convolutions until it "
    "knows from `transposed` which are transposed. Nothing was changed."
)


def import_weights(
    call: Call, weights: Mapping[str, Any], params: PyTree, mapping: Mapping[str, Any]
) -> PyTree:
    """Return a tree like `params` with the weights in it."""
    problems: list[Problem] = []
    like = by_path(call, params)
    moved = move(weights, like, parse_mapping(call, mapping), "", problems)
    raise_for(call, problems, _ADVICE)
    leaves = [put_like(moved[path], x) for path, x in like.items()]
    return jax.tree.unflatten(jax.tree.structure(params), leaves)


def export_weights(
    call: Call, params: PyTree, mapping: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    """Return the weights by their names in the other framework."""
    problems: list[Problem] = []
    back = inverse(parse_mapping(call, mapping))
    leaves = {path: _widened(x) for path, x in by_path(call, params).items()}
    wanted = {place.to: None for path, place in back.items() if path in leaves}
    moved = move(leaves, wanted, back, "", problems)
    raise_for(call, problems, _ADVICE)
    return {name: owned(x) for name, x in moved.items()}


def _widened(x: Any) -> np.ndarray:
    """Widen what other frameworks cannot take from NumPy, such as bfloat16."""
    x = np.asarray(x)
    return x.astype(np.float32) if x.dtype.kind == "V" else x
