"""Moments of another framework, brought to a template, and back.

Other frameworks keep the mean square of the gradient and, centered, subtract the square
of its mean at each step; `RMSPropState` keeps the difference. With `W` as in the rule
and `m` the (corrected) mean that we keep:

    s = square - W*|m|**2                square = s + W*|m|**2
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import PyTree

from .._arguments import Call
from .._storage import Format
from . import _slots
from ._mapping import Places, Problems, inverse, move

Arrays = dict[str, Any]


class Moments(NamedTuple):
    """What another framework keeps, by its own names and in its own layout."""

    square: Arrays
    mean: Arrays
    buffer: Arrays


class Convention(NamedTuple):
    """How another framework keeps it."""

    call: Call
    labels: tuple[str, str, str]  # its words for the moments, for errors
    places: Places
    hint: str
    weight: float = 1.0  # W: its mean is W*m
    sign: float = 1.0  # its buffer is sign*b
    lr_in_momentum: frozenset[bool] = frozenset()  # whether b holds lr*u, where known


def import_moments(
    convention: Convention,
    moments: Moments,
    count: int | None,
    template: PyTree,
    storage: str | Format,
    problems: Problems,
) -> PyTree:
    """Fill a template with moments, or raise everything that does not fit."""
    call, labels, places, hint, weight, sign, _ = convention
    kept = _kept(call, template)
    _check_order(convention, template)
    s, m, b = (
        move(given, wanted, places, label, problems)
        for given, wanted, label in zip(moments, kept, labels, strict=True)
    )
    problems.raise_if_any(hint)
    m = {path: mean.astype(_wide(mean)) / weight for path, mean in m.items()}
    s = {
        path: variance(x, m[path], weight) if path in m else x for path, x in s.items()
    }
    b = {path: sign * x for path, x in b.items()}
    return _slots.write(call, template, {"s": s, "m": m, "b": b}, count, storage)


def export_moments(
    convention: Convention,
    state: PyTree,
    wanted: Moments,
    storage: str | Format,
    problems: Problems,
) -> Moments:
    """Give the moments of a state under the names that are wanted."""
    call, labels, places, hint, weight, sign, _ = convention
    _check_order(convention, state)
    s, m, b = (
        _slots.decode(call, slot, kept, storage)
        for slot, kept in zip("smb", _kept(call, state), strict=True)
    )
    s = {p: mean_square(x, m[p], weight) if p in m else x for p, x in s.items()}
    m = {path: (weight * x).astype(x.dtype) for path, x in m.items()}
    b = {path: sign * x for path, x in b.items()}
    back = inverse(places)
    moved = Moments(
        *(
            move(given, names, back, label, problems)
            for given, names, label in zip((s, m, b), wanted, labels, strict=True)
        )
    )
    problems.raise_if_any(hint)
    return moved


def variance(square: np.ndarray, mean: np.ndarray, weight: float = 1.0) -> np.ndarray:
    """Compute `square - weight*|mean|**2` in float64, at least 0.

    Where the two are equal to rounding, the difference may come out below zero.
    """
    return np.maximum(square.astype(np.float64) - weight * _power(mean), 0.0)


def mean_square(s: np.ndarray, m: np.ndarray, weight: float = 1.0) -> np.ndarray:
    """Compute `s + weight*|m|**2` in float64, rounded once to the dtype of `s`."""
    return (s.astype(np.float64) + weight * _power(m)).astype(s.dtype)


def count_of(call: Call, state: PyTree) -> int:
    """Read the number of updates of a state of ours."""
    _slots.check_ours(call, state)
    kept = _slots.read(call, state)
    return max(int(np.asarray(x)) for x in kept["count"].values())


def _kept(call: Call, state: PyTree) -> tuple[Mapping[str, Any], ...]:
    _slots.check_ours(call, state)
    kept = _slots.read(call, state)
    return tuple(kept.get(slot, {}) for slot in "smb")


def _check_order(convention: Convention, state: PyTree) -> None:
    ours, theirs = _slots.lr_in_momentum(state), convention.lr_in_momentum
    if ours and theirs and ours != theirs:
        raise ValueError(
            f"`{convention.call}`: the momentum buffers differ in kind: theirs holds "
            f"{_kinds(theirs)}, that of this state {_kinds(ours)}. Build the "
            f"transformation with `lr_in_momentum={theirs == {True}}`."
        )


def _kinds(order: frozenset[bool]) -> str:
    names = {True: "steps (lr*u)", False: "directions (u)"}
    return " and ".join(names[inside] for inside in sorted(order))


def _power(x: np.ndarray) -> np.ndarray:
    return np.real(x).astype(np.float64) ** 2 + np.imag(x).astype(np.float64) ** 2


def _wide(x: np.ndarray) -> Any:
    return np.complex128 if np.iscomplexobj(x) else np.float64
