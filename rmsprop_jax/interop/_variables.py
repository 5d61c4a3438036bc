"""What the variables of a Keras optimizer hold."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .._arguments import Call
from ._mapping import Places, parse_mapping
from ._moments import Convention, Moments

_SLOTS = ("velocity", "average_gradient", "momentum")
_HINT = (
    "Compare the optimizer's `momentum` and `centered` with those of the "
    "transformation, and the mapping with the paths of the weights. Nothing was "
    "changed."
)


def convention(call: Call, mapping: Mapping[str, Any]) -> Convention:
    """Tell how Keras keeps its moments."""
    # Keras subtracts a buffer of lr*u; ours, of -lr*u, is added.
    places = parse_mapping(call, mapping)
    order = frozenset({True})
    return Convention(call, _SLOTS, places, _HINT, sign=-1.0, lr_in_momentum=order)


def by_path(
    call: Call, variables: Mapping[str, Any], paths: Sequence[str] | None
) -> dict[str, Any]:
    """Give the variables their paths, where they come by number."""
    if not all(key.isdigit() for key in variables):
        return dict(variables)
    if paths is None or len(paths) != len(variables):
        got = "none" if paths is None else f"{len(paths)}"
        raise ValueError(
            f"`{call}(paths=...)` must name the {len(variables)} variables of the "
            f"optimizer in its order; got {got}. Pass `[v.path for v in "
            "optimizer.variables]`."
        )
    return {path: variables[str(i)] for i, path in enumerate(paths)}


def sort(variables: Mapping[str, Any], places: Places) -> tuple[Moments, Any]:
    """Sort variables by slot, under the paths of their weights; and the others."""
    known = {_key(name, label): name for name in places for label in _SLOTS}
    moments, others = Moments({}, {}, {}), {}
    for path, value in variables.items():
        tail = _tail(path)
        label = next((x for x in _SLOTS if tail.endswith(f"_{x}")), None)
        if label is None:
            others[tail] = value
            continue
        name = known.get(tail, tail.removesuffix(f"_{label}"))
        moments[_SLOTS.index(label)][name] = value
    return moments, others


def write(
    paths: Sequence[str], moments: Moments, others: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Lay moments out by number, in the order of `paths`."""
    values = dict(others)
    for label, arrays in zip(_SLOTS, moments, strict=True):
        for name, x in arrays.items():
            values[_key(name, label)] = np.array(x, order="C")
    return {str(i): values[_tail(path)] for i, path in enumerate(paths)}


def _key(name: str, label: str) -> str:
    """Name a slot of a weight as Keras does."""
    return f"{name.replace('/', '_')}_{label}"


def _tail(path: str) -> str:
    return path.rpartition("/")[2]
