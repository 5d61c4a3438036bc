"""Moments of another framework, brought to a state of ours, and back.

A framework's module parses what it saves into a `Picture`, and from there on nothing
depends on the framework. Others keep the mean square of the gradient and, centered,
subtract the square of its mean at each step; `RMSPropState` keeps the difference. With
`W` as in the rule and `m` the mean that we keep, corrected:

    s = square - W*|m|**2                square = s + W*|m|**2
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import PyTree

from .._arguments import Call
from .._storage import Format
from ..dialects._complex_pairs import ComplexParts
from ._mapping import Arrays, Places, Problem, inverse, move, raise_for
from ._slots import Slots, decode, fill

_KINDS = ("s", "m", "b")


class Moments(NamedTuple):
    """The moments that a framework keeps, by its names for the parameters."""

    square: Arrays
    mean: Arrays
    buffer: Arrays


@dataclasses.dataclass(frozen=True)
class Picture:
    """An optimizer of another framework, parsed: all that the steps after it look at.

    Attributes:
      call: the call that errors speak for.
      words: its words for the three moments.
      places: where the moments of its parameters go.
      moments: the arrays that it has, in its own layout.
      wanted: which arrays it keeps once each parameter was updated; the values are not
        used.
      step: number of updates so far; None where it does not count them.
      problems: what could not be parsed.
      advice: what to do where something does not fit.
      names: its names for the parameters, by the keys under which it saves them.
      others: what it keeps that belongs to no parameter, by name.
      correction: `W`; its mean is `W*m`.
      sign: its momentum buffer is `sign*b`.
      lr_in_momentum: whether its momentum buffer accumulates steps; both where groups
        of parameters differ, and empty where that is not known.
      complex_as_parts: whether the parts of a complex parameter have their own moments.
    """

    call: Call
    words: tuple[str, str, str]
    places: Places
    moments: Moments
    wanted: Moments
    step: int | None
    advice: str
    problems: tuple[Problem, ...] = ()
    names: Mapping[Any, str] = dataclasses.field(default_factory=dict)
    others: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    correction: float = 1.0
    sign: float = 1.0
    lr_in_momentum: frozenset[bool] = frozenset()
    complex_as_parts: bool = False


def import_moments(picture: Picture, ours: Slots, storage: str | Format) -> PyTree:
    """Fill a state of ours from a picture, or raise everything that does not fit."""
    _check_order(picture, ours)
    problems, w = list(picture.problems), picture.correction
    s, m, b = (
        _import_kind(given, ours.moments(kind), picture, word, problems)
        for given, kind, word in zip(
            picture.moments, _KINDS, picture.words, strict=True
        )
    )
    raise_for(picture.call, problems, picture.advice)
    m = {path: x.astype(np.result_type(x, np.float64)) / w for path, x in m.items()}
    s = {path: _variance(x, m[path], w) if path in m else x for path, x in s.items()}
    b = {path: picture.sign * x for path, x in b.items()}
    return fill(ours, dict(zip(_KINDS, (s, m, b), strict=True)), picture.step, storage)


def export_moments(picture: Picture, ours: Slots, storage: str | Format) -> Moments:
    """Return the moments of a state of ours under the names that a picture wants."""
    _check_order(picture, ours)
    problems, w = list(picture.problems), picture.correction
    s, m, b = map(decode(ours, storage).moments, _KINDS)
    s = {path: _mean_square(x, m[path], w) if path in m else x for path, x in s.items()}
    m = {path: (w * x).astype(x.dtype) for path, x in m.items()}
    b = {path: picture.sign * x for path, x in b.items()}
    moved = [
        _export_kind(given, names, picture, word, problems)
        for given, names, word in zip(
            (s, m, b), picture.wanted, picture.words, strict=True
        )
    ]
    raise_for(picture.call, problems, picture.advice)
    return Moments(*moved)


def _import_kind(
    given: Arrays, like: Arrays, picture: Picture, word: str, problems: list[Problem]
) -> Arrays:
    """Bring the moments of one kind to our paths."""

    def whole(real: Any, imag: Any) -> jax.ShapeDtypeStruct:
        del imag
        return jax.ShapeDtypeStruct(real.shape, np.complex64)

    wanted = _joined(like, picture, whole)
    moved, arrays = move(given, wanted, picture.places, word, problems), {}
    for path, x in moved.items():
        if path in like:
            arrays[path] = x
        else:
            arrays |= {name: getattr(x, part) for name, part in _parts(path)}
    return arrays


def _export_kind(
    given: Arrays, wanted: Arrays, picture: Picture, word: str, problems: list[Problem]
) -> Arrays:
    """Bring the moments of one kind to the names of the other framework."""

    def whole(real: np.ndarray, imag: np.ndarray) -> np.ndarray:
        x = np.empty(real.shape, np.result_type(real, np.complex64))
        x.real, x.imag = real, imag
        return x

    given = _joined(given, picture, whole)
    return move(given, wanted, inverse(picture.places), word, problems)


def _joined(arrays: Arrays, picture: Picture, join: Callable[..., Any]) -> Arrays:
    """Join the parts of a complex parameter, where the other framework does not."""
    arrays = dict(arrays)
    for place in picture.places.values() if picture.complex_as_parts else ():
        parts = [] if place is None else [name for name, _ in _parts(place.to)]
        if place is not None and all(name in arrays for name in parts):
            arrays[place.to] = join(*(arrays.pop(name) for name in parts))
    return arrays


def _parts(path: str) -> list[tuple[str, str]]:
    """Return the paths of the parts of a complex parameter, and which part each is."""
    return [(f"{path}/{part}".lstrip("/"), part) for part in ComplexParts._fields]


def _variance(square: np.ndarray, mean: np.ndarray, w: float) -> np.ndarray:
    """Compute `square - w*|mean|**2` in float64, at least 0.

    Where the two are equal to rounding, the difference may come out below zero.
    """
    return np.maximum(square.astype(np.float64) - w * _power(mean), 0.0)


def _mean_square(s: np.ndarray, m: np.ndarray, w: float) -> np.ndarray:
    """Compute `s + w*|m|**2` in float64, rounded once to the dtype of `s`."""
    return (s.astype(np.float64) + w * _power(m)).astype(s.dtype)


def _power(x: np.ndarray) -> np.ndarray:
    return np.real(x).astype(np.float64) ** 2 + np.imag(x).astype(np.float64) ** 2


def _check_order(picture: Picture, ours: Slots) -> None:
    """Refuse a buffer that accumulates steps in one framework only."""
    mine, theirs = ours.lr_in_momentum, picture.lr_in_momentum
    if mine and theirs and mine != theirs:
        raise ValueError(
            f"`{picture.call}`: the momentum buffers differ in kind: theirs holds "
            f"{_kinds(theirs)}, that of this state {_kinds(mine)}. Build the "
            f"transformation with `lr_in_momentum={theirs == {True}}`."
        )


def _kinds(order: frozenset[bool]) -> str:
    names = {True: "steps (lr*u)", False: "directions (u)"}
    return " and ".join(names[inside] for inside in sorted(order))
