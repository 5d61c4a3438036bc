"""Moments of another framework, brought to a state of ours, and back.

A framework's module parses what it saves into a `Picture`, and from there on nothing
depends on the framework. Others keep the mean square of the gradient and, centered,
subtract the square of its mean at each step; `RMSPropState` keeps the difference. With
`W` as in the rule and `m` the mean that we keep, corrected:

    s = square - W*|m|**2                square = s + W*|m|**2
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from .._arguments import Call
from .._trees import at
from ..dialects._complex_pairs import ComplexParts
from ._mapping import (
    MISSHAPEN,
    MISSING,
    Arrays,
    Places,
    Problem,
    inverse,
    move,
    raise_for,
)
from ._slots import Place, Slots

# By the word of the framework for a moment, then by its name for the parameter.
Moments = Mapping[str, Arrays]

_FIELDS = ("s", "m", "trace", "acc_grads")  # in the order of `Picture.words`
_KINDS = {True: "steps (lr*u)", False: "directions (u)"}


@dataclasses.dataclass(frozen=True)
class Picture:
    """An optimizer of another framework, parsed: all that the steps after it look at.

    Attributes:
      call: the call that errors speak for.
      words: its words for the mean square, the mean and the momentum buffer; a fourth
        for accumulated gradients, if it has them.
      places: where the moments of its parameters go.
      moments: the arrays that it has, in its own layout.
      wanted: which arrays it keeps once each parameter was updated; the values are not
        used.
      step: number of updates so far; None where it does not count them.
      advice: what to do where something does not fit.
      problems: what could not be parsed.
      names: its names for the parameters, by the keys under which it saves them.
      stateless: the parameters, by name, that it has no moments for yet.
      others: what it keeps that belongs to no parameter, by name.
      around: what it keeps that is not of RMSProp, by place in our state.
      mini_step: number of gradients in the accumulated ones.
      corrections: `W` by path; its mean is `W*m`. It is 1 where there is none.
      rate_inside: whether its momentum buffer accumulates steps, by path, where it is
        known.
      sign: a momentum buffer of its steps is `sign*b`.
      complex_as_parts: whether the parts of a complex parameter have their own moments.
    """

    call: Call
    words: tuple[str, ...]
    places: Places
    moments: Moments
    wanted: Moments
    step: int | None
    advice: str
    problems: tuple[Problem, ...] = ()
    names: Mapping[Any, str] = dataclasses.field(default_factory=dict)
    stateless: frozenset[str] = frozenset()
    others: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    around: Mapping[Place, Any] = dataclasses.field(default_factory=dict)
    mini_step: int | None = None
    corrections: Mapping[str, float] = dataclasses.field(default_factory=dict)
    rate_inside: Mapping[str, bool] = dataclasses.field(default_factory=dict)
    sign: float = 1.0
    complex_as_parts: bool = False

    def factor(self, path: str) -> float:
        """Return what `b` is multiplied by to give its buffer, or the reverse."""
        return self.sign if self.rate_inside.get(path) else 1.0


def import_moments(picture: Picture, ours: Slots) -> PyTree:
    """Fill a state of ours from a picture, or raise everything that does not fit."""
    picture = _with_parts(picture)
    _check_order(picture, ours)
    problems = list(picture.problems)
    x = {
        field: _to_paths(picture, word, ours.moments(field), problems)
        for word, field in zip(picture.words, _FIELDS, strict=False)
    }
    raise_for(picture.call, problems, picture.advice)
    below = [path for path, square in x["s"].items() if np.any(square < 0)]
    what = f"{picture.words[0]} for {', '.join(map(at, below))}: got numbers below zero"
    raise_for(picture.call, [(MISSHAPEN, what)] if below else [], picture.advice)
    w = {path: picture.corrections.get(path, 1.0) for path in x["s"]}
    m = {k: m.astype(np.result_type(m, np.float64)) / w[k] for k, m in x["m"].items()}
    s = {k: _variance(s, m[k], w[k]) if k in m else s for k, s in x["s"].items()}
    b = {path: picture.factor(path) * b for path, b in x["trace"].items()}
    # Keras keeps the sum of the gradients, and `optax.MultiSteps` their mean.
    n = max(picture.mini_step or 1, 1)
    g = {path: x / n for path, x in x.get("acc_grads", {}).items()}
    counts = {"step": picture.step, "mini_step": picture.mini_step}
    return ours.filled(
        x | {"s": s, "m": m, "trace": b, "acc_grads": g}, counts, picture.around
    )


def export_moments(picture: Picture, ours: Slots) -> Moments:
    """Return the moments of a state of ours under the names that a picture wants."""
    picture = _with_parts(picture)
    _check_order(picture, ours)
    problems, ours = list(picture.problems), ours.decoded()
    words = dict(zip(_FIELDS, picture.words, strict=False))
    x = {field: ours.moments(field) for field in words}
    w = {path: picture.corrections.get(path, 1.0) for path in x["s"]}
    m, s = x["m"], x["s"]
    s = {k: _mean_square(s, m[k], w[k]) if k in m else s for k, s in s.items()}
    m = {k: (w[k] * m).astype(m.dtype) for k, m in m.items()}
    b = {path: picture.factor(path) * b for path, b in x["trace"].items()}
    x |= {"s": s, "m": m, "trace": b}
    moments = {
        word: _to_names(picture, word, x[field], problems)
        for field, word in words.items()
    }
    raise_for(picture.call, problems, picture.advice)
    return moments


def wanted_of(picture: Picture, ours: Slots) -> Picture:
    """Return a picture that wants no more than a state of ours has moments for."""
    kept, wanted = ours.moments("s").keys(), {}
    for word, own in picture.wanted.items():
        places = {name: picture.places.get(name) for name in own}
        wanted[word] = {
            name: None
            for name, place in places.items()
            if place is not None and kept & {place.to, *_parts(place.to)}
        }
    return dataclasses.replace(picture, wanted=wanted)


def _to_paths(
    picture: Picture, word: str, like: Arrays, problems: list[Problem]
) -> Arrays:
    """Bring a moment of theirs to our paths."""
    wanted, arrays = _joined(picture, like, _complex_shape), {}
    for path in _paths_of(picture, picture.stateless):
        wanted.pop(path, None)
        kept = [like[name] for name in (path, *_parts(path)) if name in like]
        if any(isinstance(x, jax.ShapeDtypeStruct) for x in kept):
            what = f"{word} of {at(path)}, which has no state; fill `tx.init(params)`"
            problems.append((MISSING, what))
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


def _paths_of(picture: Picture, names: Iterable[str]) -> list[str]:
    places = (picture.places.get(name) for name in names)
    return [place.to for place in places if place is not None]


def _with_parts(picture: Picture) -> Picture:
    """Add the parts of complex parameters to the paths whose order is known."""
    known = dict(picture.rate_inside)
    for path, inside in picture.rate_inside.items():
        known |= dict.fromkeys(_parts(path), inside)
    return dataclasses.replace(picture, rate_inside=known)


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
    for path, mine in ours.rate_inside.items():
        theirs = picture.rate_inside.get(path, mine)
        if mine != theirs:
            raise ValueError(
                f"`{picture.call}`: the momentum buffers of {at(path)} differ in kind: "
                f"theirs holds {_KINDS[theirs]}, that of this state {_KINDS[mine]}. "
                f"Build the transformation with `lr_in_momentum={theirs}`."
            )
