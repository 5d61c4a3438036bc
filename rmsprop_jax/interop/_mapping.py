"""Names of another framework and paths of our trees: one mapping for all arrays."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import PyTree

from .._arguments import Call
from .._trees import at, named_leaves
from ._layout import Layout, parse_layout, to_numpy, whole


class Place(NamedTuple):
    """Where an array goes, and how its axes move on the way."""

    to: str
    layout: Layout | None


Places = dict[str, Place | None]
Arrays = dict[str, Any]
Problem = tuple[str, str]  # its kind, and what it is about

KINDS = MISSING, UNEXPECTED, MISSHAPEN = "missing", "unexpected", "wrong shape or dtype"
_NAMELESS = "for which the mapping has no name"


def raise_for(call: Call, problems: Iterable[Problem], advice: str) -> None:
    """Raise one ValueError that lists everything that does not fit."""
    ordered = sorted(problems, key=lambda problem: KINDS.index(problem[0]))
    if ordered:
        lines = [f"  {kind}: {what}" for kind, what in ordered]
        raise ValueError("\n".join([f"`{call}`: does not fit.", *lines, advice]))


def parse_mapping(call: Call, mapping: Mapping[str, Any]) -> Places:
    """Parse `{name: path | (path, layout) | (path, layout, sizes) | None}`."""
    if not isinstance(mapping, Mapping):
        raise TypeError(
            f"`{call}`: the mapping must be a dict from names to paths; got a "
            f"{type(mapping).__name__}."
        )
    places, names = {}, {}
    for name, entry in mapping.items():
        places[name] = place = _parse_entry(call, name, entry)
        other = name if place is None else names.setdefault(place.to, name)
        if place is not None and other != name:
            raise ValueError(
                f"`{call}`: the mapping gives both {other!r} and {name!r} the path "
                f"{at(place.to)}. Give all but one None to leave them out."
            )
    return places


def _parse_entry(call: Call, name: str, entry: Any) -> Place | None:
    match name, entry:
        case str(), None:
            return None
        case str(), str(path):
            return Place(within(path), None)
        case str(), [str(path), str(pattern), *sizes] if _are_sizes(sizes):
            where = f"`{call}`: mapping[{name!r}]"
            layout = parse_layout(where, pattern, *sizes or [{}])
            return Place(within(path), layout)
    raise TypeError(
        f"`{call}`: the mapping must give {name!r} a path, (path, layout), (path, "
        f"layout, sizes) or None; got {entry!r}."
    )


def _are_sizes(sizes: list[Any]) -> bool:
    """Tell whether there is at most one dict, of lengths of axes."""
    return len(sizes) < 2 and all(
        isinstance(own, Mapping) and all(map(whole, own.values())) for own in sizes
    )


def inverse(places: Places) -> dict[str, Place]:
    """Return the places that lead back, from our paths to their names."""
    return {
        place.to: Place(name, place.layout and place.layout.inverse())
        for name, place in places.items()
        if place is not None
    }


def move(
    arrays: Mapping[str, Any],
    wanted: Mapping[str, Any],
    places: Mapping[str, Place | None],
    word: str,
    problems: list[Problem],
) -> dict[str, np.ndarray]:
    """Bring arrays to their places, and add what does not fit to `problems`.

    `wanted` holds, by place, an array of the wanted shape and kind, or None where any
    will do. `word` names the moment in errors; weights have none.
    """
    of = f"{word} of " if word else ""
    if word and bool(arrays) != bool(wanted):
        kind, keeps = (UNEXPECTED, "does not keep") if arrays else (MISSING, "keeps")
        problems.append((kind, f"{word}, which the target {keeps}"))
        return {}
    moved = {}
    for name, array in arrays.items():
        place = places.get(name)
        if name not in places:
            what = f"{of}{at(name)}, which the mapping lacks"
            problems.append((UNEXPECTED, what))
        elif place is not None and place.to not in wanted:
            what = f"{of}{at(name)}, for there is no {at(place.to)}"
            problems.append((UNEXPECTED, what))
        elif place is not None:
            moved[place.to], misfit = _arrange(array, place.layout, wanted[place.to])
            what = f"{of}{at(name)}: {misfit} for {at(place.to)}"
            problems += [(MISSHAPEN, what)] if misfit else []
    names = {place.to: at(name) for name, place in places.items() if place is not None}
    for path in (path for path in wanted if path not in moved):
        why = f"from {names[path]}" if path in names else _NAMELESS
        problems.append((MISSING, f"{of}{at(path)}, {why}"))
    return moved


def _arrange(array: Any, layout: Layout | None, like: Any) -> tuple[np.ndarray, str]:
    """Rearrange an array as `like`; the string says what does not fit."""
    try:
        array = to_numpy(array)
    except TypeError as error:
        return array, str(error)
    try:
        moved = array if layout is None else layout.apply(array)
    except ValueError:
        moved = None
    if moved is None or (like is not None and moved.shape != np.shape(like)):
        return array, f"got {array.shape}, expected {_expected(layout, like)}"
    if like is not None and np.iscomplexobj(moved) and not np.iscomplexobj(like):
        return array, f"got {array.dtype}, expected a real array"
    return moved, ""


def _expected(layout: Layout | None, like: Any) -> Any:
    """Return the shape that `like` has on the other side of the layout."""
    if layout is None:
        return np.shape(like)
    if like is None:
        return "what the layout names"
    try:
        return layout.inverse().apply(np.broadcast_to(False, np.shape(like))).shape
    except ValueError:
        return "another layout"


def by_path(call: Call, tree: PyTree) -> Arrays:
    """Return the leaves of a tree by their paths, such as "hidden/kernel"."""
    leaves: Arrays = {}
    for path, leaf in named_leaves(tree):
        name = within(path)
        if name in leaves:
            raise ValueError(
                f"`{call}`: two leaves of the tree have the path {at(name)}."
            )
        leaves[name] = leaf
    return leaves


def within(path: str) -> str:
    """Remove a collection of Flax linen from the start of a path.

    Optimizers get what is in `params`, and weights lie beside `batch_stats`: so one
    mapping leads to both.
    """
    return re.sub("^(params|batch_stats)(/|$)", "", path)
