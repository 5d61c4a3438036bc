"""Names of another framework and paths of our tree: one mapping for all arrays."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import PyTree

from .. import _trees as _leaves
from .._arguments import Call
from ._layout import Layout, parse_layout, to_numpy


class Place(NamedTuple):
    """Where an array goes, and how its axes move on the way."""

    to: str
    layout: Layout | None


Places = dict[str, Place | None]


class Problems:
    """Everything that does not fit, to be raised as one error."""

    def __init__(self, call: Call):
        self.call = call
        self.missing: list[str] = []
        self.unexpected: list[str] = []
        self.misshapen: list[str] = []

    def raise_if_any(self, hint: str) -> None:
        """Raise one ValueError with every entry that was noted."""
        kinds = {
            "missing": self.missing,
            "unexpected": self.unexpected,
            "wrong shape or dtype": self.misshapen,
        }
        lines = [
            f"  {kind}: {entry}" for kind, entries in kinds.items() for entry in entries
        ]
        if lines:
            listed = "\n".join(lines)
            raise ValueError(f"`{self.call}`: does not fit.\n{listed}\n{hint}")


def parse_mapping(call: Call, mapping: Mapping[str, Any]) -> Places:
    """Read `{name: path | (path, layout) | (path, layout, sizes) | None}`."""
    places, names = {}, {}
    for name, entry in mapping.items():
        places[name] = _parse_entry(call, name, entry)
        if places[name] is None:
            continue
        other = names.setdefault(places[name].to, name)
        if other != name:
            raise ValueError(
                f"`{call}`: the mapping gives both {other!r} and {name!r} the path "
                f"{places[name].to!r}. Give all but one None to leave them out."
            )
    return places


def _parse_entry(call: Call, name: str, entry: Any) -> Place | None:
    if entry is None:
        return None
    if isinstance(entry, str):
        return Place(within(entry), None)
    if not isinstance(entry, tuple | list) or len(entry) not in (2, 3):
        raise TypeError(
            f"`{call}`: the mapping must give {name!r} a path, (path, layout), (path, "
            f"layout, sizes) or None; got {entry!r}."
        )
    path, pattern, sizes = (*entry, {}) if len(entry) == 2 else entry
    return Place(
        within(path), parse_layout(f"{call}: mapping[{name!r}]", pattern, sizes)
    )


def inverse(places: Places) -> Places:
    """Give the places that lead back, from our paths to their names."""
    return {
        place.to: Place(name, place.layout and place.layout.inverse())
        for name, place in places.items()
        if place is not None
    }


def move(
    arrays: Mapping[str, Any],
    wanted: Mapping[str, Any],
    places: Places,
    slot: str,
    problems: Problems,
) -> dict[str, np.ndarray]:
    """Bring arrays to their places, noting what does not fit.

    `wanted` holds, by place, an array of the wanted shape and kind, or None where any
    will do. `slot` names the arrays in errors; weights have none.
    """
    moved, of = {}, f"{slot} of " if slot else ""
    if slot and not wanted and arrays:
        problems.unexpected.append(f"{slot}, which the target does not keep")
        return moved
    if slot and wanted and not arrays:
        problems.missing.append(f"{slot}, which the target keeps")
        return moved
    for name, array in arrays.items():
        if name not in places:
            problems.unexpected.append(f"{of}{name!r}, which the mapping lacks")
            continue
        place = places[name]
        if place is not None and place.to not in wanted:
            problems.unexpected.append(f"{of}{name!r}, for there is no {place.to!r}")
        elif place is not None:
            moved[place.to] = _arrange(of, name, array, place, wanted, problems)
    names = {place.to: name for name, place in places.items() if place is not None}
    for path in wanted:
        if path not in moved:
            source = f", from {names[path]!r}" if path in names else ""
            source = source or ", for which the mapping has no name"
            problems.missing.append(f"{of}{path!r}{source}")
    return moved


def _arrange(
    of: str,
    name: str,
    array: Any,
    place: Place,
    wanted: Mapping[str, Any],
    problems: Problems,
) -> np.ndarray:
    array, like = to_numpy(array), wanted[place.to]
    try:
        moved = array if place.layout is None else place.layout.apply(array)
    except ValueError:
        moved = None
    if moved is None or (like is not None and moved.shape != np.shape(like)):
        expected = _expected(place.layout, like)
        problems.misshapen.append(
            f"{of}{name!r}: got {array.shape}, expected {expected} for {place.to!r}"
        )
    elif like is not None and np.iscomplexobj(moved) and not _is_complex(like):
        problems.misshapen.append(
            f"{of}{name!r}: got {array.dtype}, expected a real array for {place.to!r}"
        )
    return array if moved is None else moved


def _expected(layout: Layout | None, like: Any) -> Any:
    """Give the shape that `like` has on the other side of the layout."""
    if layout is None:
        return np.shape(like)
    if like is None:
        return "what the layout names"
    try:
        stand_in = np.broadcast_to(np.zeros((), bool), np.shape(like))
        return layout.inverse().apply(stand_in).shape
    except ValueError:
        return "another layout"


def _is_complex(like: Any) -> bool:
    return np.issubdtype(like.dtype, np.complexfloating)


def by_path(call: Call, tree: PyTree) -> dict[str, Any]:
    """Give the leaves of a tree by their path, such as "hidden/kernel"."""
    leaves: dict[str, Any] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        name = path_name(path)
        if name in leaves:
            raise ValueError(
                f"`{call}`: two leaves of the tree have the path {name!r}."
            )
        leaves[name] = leaf
    return leaves


def path_name(path: Any) -> str:
    """Write a path with slashes, from the parameters of a model on."""
    return within(_leaves.path_name(path))


def within(path: str) -> str:
    """Leave out a collection of Flax linen.

    Optimizers see what is in `params` and weights lie beside `batch_stats`: so one
    mapping leads to both.
    """
    return re.sub("^(params|batch_stats)(/|$)", "", path)
