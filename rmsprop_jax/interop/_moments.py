"""Moments of another framework, brought to a state of ours, and back.

A framework's module parses what it saves into a `Picture`, and from there on nothing
depends on the framework. Others keep the mean square of the gradient and, centered,
subtract the square of its mean at each step; `RMSPropState` keeps the difference. With
`W` as in the rule and `m` the mean that we keep, corrected:

    s = square - W*|m|**2                square = s + W*|m|**2
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from .._arguments import Call
from ..dialects._complex_pairs import ComplexParts
from ._mapping import Arrays, Places, Problem, inverse, move, raise_for
from ._slots import Slots

# By the word of the framework for a moment, then by its name for the parameter.
Moments = Mapping[str, Arrays]


@dataclasses.dataclass(frozen=True)
class Picture:
    """An optimizer of another framework, parsed: all that the steps after it look at.

    Attributes:
      call: the call that errors speak for.
      words: its words for the mean square, the mean and the momentum buffer.
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


def import_moments(picture: Picture, ours: Slots) -> PyTree:
    """Fill a state of ours from a picture, or raise everything that does not fit."""
    _check_order(picture, ours)
    problems, w = list(picture.problems), picture.correction
    s, m, b = (
        _to_paths(picture, word, ours.moments(field), problems)
        for word, field in zip(picture.words, ("s", "m", "trace"), strict=True)
    )
    raise_for(picture.call, problems, picture.advice)
    m = {path: x.astype(np.result_type(x, np.float64)) / w for path, x in m.items()}
    s = {path: _variance(x, m[path], w) if path in m else x for path, x in s.items()}
    b = {path: picture.sign * x for path, x in b.items()}
    return ours.filled({"s": s, "m": m, "trace": b}, picture.step)


def export_moments(picture: Picture, ours: Slots) -> Moments:
    """Return the moments of a state of ours under the names that a picture wants."""
    _check_order(picture, ours)
    problems, w = list(picture.problems), picture.correction
    s, m, b = map(ours.decoded().moments, ("s", "m", "trace"))
    s = {path: _mean_square(x, m[path], w) if path in m else x for path, x in s.items()}
    m = {path: (w * x).astype(x.dtype) for path, x in m.items()}
    b = {path: picture.sign * x for path, x in b.items()}
    moments = {
        word: _to_names(picture, word, arrays, problems)
        for word, arrays in zip(picture.words, (s, m, b), strict=True)
    }
    raise_for(picture.call, problems, picture.advice)
    return moments


def _to_paths(
    picture: Picture, word: str, like: Arrays, problems: list[Problem]
) -> Arrays:
    """Bring a moment of theirs to our paths."""
    wanted, arrays = _joined(picture, like, _complex_shape), {}
    moved = move(picture.moments[word], wanted, picture.places, word, problems)
    for path, x in moved.items():
        real, imag = _parts(path)
        given = path in like
        arrays |= {path: x} if given else {real: np.real(x), imag: np.imag(x)}
    return arrays


def _to_names(
    picture: Picture, word: str, arrays: Arrays, problems: list[Problem]
) -> Arrays:
    """Bring a moment of ours to their names."""
    arrays, back = _joined(picture, arrays, _complex_array), inverse(picture.places)
    return move(arrays, picture.wanted[word], back, word, problems)


def _joined(
    picture: Picture, arrays: Arrays, join: Callable[[ComplexParts], Any]
) -> Arrays:
    """Join the parts of each complex parameter, if their moments are of parts too."""
    arrays = dict(arrays)
    for path in inverse(picture.places) if picture.complex_as_parts else ():
        parts = _parts(path)
        if all(name in arrays for name in parts):
            arrays[path] = join(ComplexParts(*map(arrays.pop, parts)))
    return arrays


def _parts(path: str) -> ComplexParts:
    """Return the paths of the parts of a complex parameter."""
    names = (f"{path}/{part}".lstrip("/") for part in ComplexParts._fields)
    return ComplexParts(*names)


def _complex_shape(parts: ComplexParts) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(parts.real.shape, np.complex64)


def _complex_array(parts: ComplexParts) -> np.ndarray:
    pairs = np.stack(parts, axis=-1)
    return pairs.view(np.result_type(pairs, np.complex64))[..., 0]


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
