"""optax's own RMSProp: `optax.rmsprop`, `scale_by_rms` and `scale_by_stddev`.

Source: `optax/_src/transform.py` and `alias.py`, Optax 0.2.8.
"""

import collections
import dataclasses
import itertools
import math
from collections.abc import Collection, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from .._arguments import Call, check_numbers
from .._storage import Format
from .._trees import at, dtype_of
from ._layout import whole
from ._mapping import MISSHAPEN, MISSING, UNEXPECTED, Place, Problem
from ._moments import Picture, export_moments, import_moments
from ._optax_states import our_slots, slots_of
from ._slots import MOMENTS, Slot, Slots
from ._slots import Place as In

_WORDS = ("nu", "mu", "trace")
_CORRECTED = {
    "optax.ScaleByRmsWithCountState",
    "optax.ScaleByRStdDevWithCountState",
}
_WITHOUT_EFFECT = ("seed", "initial_scale")  # once a run has started
_ADVICE = (
    "Both transformations must have the same `centered` and `momentum`, and the same "
    "wrappers around them, and be initialized with the same parameters; in place of a "
    "schedule that has ended there may be `optax.constant_schedule`. Nothing was "
    "changed."
)


def from_state(
    state: PyTree,
    template: PyTree,
    *,
    decay: float | None = None,
    count: int | None = None,
    storage: str | Format = "float32",
) -> PyTree:
    """Turn a state of optax's RMSProp into the state of the matching one.

        W = 1 - decay**count          with bias_correction, else 1
        s = nu - |mu|**2 / W          centered, else  nu
        m = mu / W
        b = trace

    The difference is taken in float64; where rounding leaves it below zero it is 0.
    All that stands around RMSProp in both states moves with it, by class and field:
    injected hyperparameters, counts of schedules, averages, the gradients of
    `optax.MultiSteps`, other optimizers of a partition. What only `state` has is
    refused by name; what only the template has stays as it is.

    Args:
      state: a state with `optax.scale_by_rms` or `scale_by_stddev` in it, such as that
        of `optax.rmsprop`.
      template: the state to fill: `tx.init(params)` of any transformation with an
        RMSProp of ours in it, built with the same settings.
      decay: the decay of both, in [0, 1); needed for `centered` with
        `bias_correction`.
      count: number of updates so far, for the counts that only the template has.
        Needed where it has a schedule and `state` counts nothing: optax counts for
        bias correction and schedules alone.
      storage: the `storage` of the transformation.

    Returns:
      A state of the structure, dtypes and shardings of the template.

    Raises:
      ValueError: one error for all entries that are missing, unexpected or of another
        shape; for what the template has no place for; for a decay or count that is
        needed, or outside its range; for momentum buffers of which only one has the
        learning rate in it.

    Example:
      >>> import jax.numpy as jnp, optax, rmsprop_jax
      >>> old = optax.rmsprop(0.1, initial_scale=1.0).init({"w": jnp.zeros(2)})
      >>> template = rmsprop_jax.rmsprop(0.1).init({"w": jnp.zeros(2)})
      >>> from_state(old, template)[0].s
      {'w': Array([1., 1.], dtype=float32)}
    """
    call = Call("interop.optax.from_state")
    theirs, ours = slots_of(call, state), our_slots(call, template, storage)
    picture = _parse(theirs, theirs, ours, _step(theirs, ours, count), decay)
    # optax keeps the real second moment of a complex parameter in a complex array.
    nu = {
        path: np.real(x) if np.iscomplexobj(x) else x
        for path, x in picture.moments["nu"].items()
    }
    picture = dataclasses.replace(picture, moments={**picture.moments, "nu": nu})
    return import_moments(picture, ours)


def to_state(
    state: PyTree,
    template: PyTree,
    *,
    decay: float | None = None,
    storage: str | Format = "float32",
) -> PyTree:
    """Turn a state of ours into that of optax's RMSProp.

        W = 1 - decay**count          with bias_correction, else 1
        nu = s + W*|m|**2             centered, else  s
        mu = W*m
        trace = b

    What stands around RMSProp moves as in `from_state`.

    Args:
      state: a state of ours, such as `from_state` returns.
      template: the state to fill: `tx.init(params)` of any transformation with
        optax's RMSProp in it, built with the same settings.
      decay, storage: as in `from_state`.

    Returns:
      A state of the structure, dtypes and shardings of the template.

    Raises:
      ValueError: as `from_state` does.

    Example:
      >>> import jax.numpy as jnp, optax, rmsprop_jax
      >>> ours = rmsprop_jax.rmsprop(0.1, initial_scale=1.0).init({"w": jnp.zeros(2)})
      >>> template = optax.rmsprop(0.1).init({"w": jnp.zeros(2)})
      >>> to_state(ours, template)[0].nu
      {'w': Array([1., 1.], dtype=float32)}
    """
    call = Call("interop.optax.to_state")
    ours, theirs = our_slots(call, state, storage), slots_of(call, template)
    picture = _parse(theirs, ours, theirs, ours.step, decay)
    moments = export_moments(picture, ours)
    return theirs.filled(moments, {"step": ours.step}, picture.around)


def _parse(
    theirs: Slots, source: Slots, target: Slots, step: int | None, decay: float | None
) -> Picture:
    """Parse a state of optax; a parameter has the same path in both."""
    moments = {word: theirs.moments(word) for word in _WORDS}
    if not moments["nu"]:
        raise ValueError(
            f"`{theirs.call}`: there is no state of `optax.scale_by_rms` or "
            "`scale_by_stddev` in the state of optax. Pass what `init` or `update` "
            "returns; restore a checkpoint into the structure of `init(params)` first."
        )
    # A partition may have optax's RMSProp for some parameters in both states.
    shared = source.moments("nu").keys() & target.moments("nu").keys()
    # Optax has moments of integers too, which are not trained.
    absent = source.absent | target.absent
    for word in _WORDS:
        gone = absent | (shared if word != "trace" else set())
        moments[word] = {k: x for k, x in moments[word].items() if k not in gone}
    around, problems = _carried(source.decoded(), target, shared)
    own = (x.moments(field) for x in (source, target) for field in ("s", "trace"))
    paths = {*moments["nu"], *itertools.chain.from_iterable(own)}
    return Picture(
        theirs.call,
        _WORDS,
        {path: Place(path, None) for path in paths},
        moments,
        moments,
        step,
        _ADVICE,
        tuple(problems),
        around=around,
        corrections=_corrections(theirs, source.steps, decay),
        rate_inside=theirs.rate_inside,
    )


def _carried(
    source: Slots, target: Slots, shared: Collection[str]
) -> tuple[dict[In, Any], list[Problem]]:
    """Return what stands around RMSProp in both states, and what only one has."""
    carried, problems, lost = {}, [], collections.defaultdict(list)
    given, wanted = _around(source, shared), _around(target, shared)
    for place, slot in given.items():
        if place in wanted:
            carried[place] = slot.array
            misfit = _misfit(slot.array, wanted[place].array)
            problems += [(MISSHAPEN, f"{_written(place)}: {misfit}")] if misfit else []
        elif not _needless(slot, target):
            lost[slot.node].append("/".join(place[len(slot.node) :]))
    for node, fields in lost.items():
        what = f"{_written(node)}, with its {', '.join(fields)}"
        problems.append((UNEXPECTED, f"{what}, which the target does not keep"))
    nodes = {slot.node for slot in given.values()}
    for place, slot in wanted.items():
        new = slot.field == "step" or _is_injected(place)
        if place not in given and slot.node in nodes and not new:
            problems.append((MISSING, f"{_written(place)}, which the target keeps"))
    return carried, problems


def _around(slots: Slots, shared: Collection[str]) -> dict[In, Slot]:
    """Return what is not converted: no moment of RMSProp, or of optax's in both."""
    return {
        slot.place: slot
        for slot in slots.found
        if slot.field not in MOMENTS
        or (slot.field in ("nu", "mu") and slot.path in shared)
    }


def _needless(slot: Slot, target: Slots) -> bool:
    """Tell whether nothing is lost where the target has no place for a slot."""
    if _is_injected(slot.place):
        return slot.place[-1] in _WITHOUT_EFFECT or not np.any(slot.array)
    if slot.owner == "optax.MonitorState" and "measurements" in slot.place:
        return True  # each update makes new ones
    # RMSProp of optax may have no count, and a schedule may stand in another place.
    own = slot.node[-1].startswith(("RMSProp", "Momentum"))
    return slot.field == "step" and (own or slot.owner in target.owners)


def _is_injected(place: In) -> bool:
    return place[-2:-1] == ("hyperparams",)


def _written(place: In) -> str:
    return at("/".join(place))


def _misfit(x: Any, like: Any) -> str:
    """Say how an array differs from the one in its place; nothing where it does not."""
    if dtype_of(x) is None:
        return f"got {x!r}, expected {jnp.result_type(like)}{jnp.shape(like)}"
    got, expected = (jnp.result_type(value) for value in (x, like))
    if jnp.shape(x) != jnp.shape(like) or _kind(got) != _kind(expected):
        return f"got {got}{jnp.shape(x)}, expected {expected}{jnp.shape(like)}"
    return ""


def _kind(dtype: Any) -> Any:
    """Return what may be cast to each other without a loss of more than digits."""
    kinds = (jnp.bool_, jnp.integer, jnp.floating, jnp.complexfloating)
    return next((kind for kind in kinds if jnp.issubdtype(dtype, kind)), dtype)


def _corrections(
    theirs: Slots, steps: Mapping[str, int], decay: float | None
) -> dict[str, float]:
    """Compute `W`, which relates the means where both are corrected, by path."""
    call = theirs.call
    if decay is not None:
        check_numbers(call, decay=decay)
    means = (slot for slot in theirs.found if slot.field == "mu")
    paths = {slot.path for slot in means if slot.owner in _CORRECTED}
    counts = {path: steps[path] for path in paths if steps.get(path)}
    if counts and decay is None:
        raise ValueError(
            f"{call.given(decay=...)} must be that of both transformations where they "
            "are centered with bias correction; got None."
        )
    if not decay:  # without a past W is 1
        return {}
    return {path: -math.expm1(t * math.log(decay)) for path, t in counts.items()}


def _step(theirs: Slots, ours: Slots, count: int | None) -> int | None:
    """Return the number of updates; None where neither state depends on it."""
    if count is not None:
        check_numbers(theirs.call, count=count)
        if whole(count) is None:
            number = f"{theirs.call.given(count=...)} must be a whole number"
            raise ValueError(f"{number}; got {count}.")
        return whole(count)
    if theirs.step is not None:
        return theirs.step
    counts = [slot for slot in ours.found if slot.field == "step"]
    schedules = [slot.owner for slot in counts if slot.owner.startswith("optax.")]
    if schedules:
        raise ValueError(
            f"{ours.call.given(count=...)} must be the number of updates so far: the "
            f"template counts them in {', '.join(schedules)}, and this state of optax "
            "does not; got None."
        )
    return None
