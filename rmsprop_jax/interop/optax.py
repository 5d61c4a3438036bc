"""optax's own RMSProp: `optax.rmsprop`, `scale_by_rms` and `scale_by_stddev`.

Source: `optax/_src/transform.py` and `alias.py`, Optax 0.2.8.
"""

import dataclasses
import math

import numpy as np
from jaxtyping import PyTree

from .._arguments import Call, check_numbers
from .._storage import Format
from ._layout import to_numpy
from ._mapping import Place
from ._moments import Picture, export_moments, import_moments
from ._slots import Slots, our_slots, slots_of

_WORDS = ("nu", "mu", "trace")
_CORRECTED = {
    "optax.ScaleByRmsWithCountState",
    "optax.ScaleByRStdDevWithCountState",
}
_ADVICE = (
    "Both transformations must have the same `centered` and `momentum`, and be "
    "initialized with the same parameters. Nothing was changed."
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

    Args:
      state: a state with `optax.scale_by_rms` or `scale_by_stddev` in it, such as that
        of `optax.rmsprop`.
      template: the state to fill: `tx.init(params)` of any transformation with an
        RMSProp of ours in it, built with the same settings.
      decay: the decay of both, in [0, 1); needed for `centered` with
        `bias_correction`.
      count: number of updates so far. Needed where only the template has a schedule:
        optax counts for bias correction and schedules alone.
      storage: the `storage` of the transformation.

    Returns:
      A state of the structure, dtypes and shardings of the template.

    Raises:
      ValueError: one error for all entries that are missing, unexpected or of another
        shape; for a decay or count that is needed; for a decay outside [0, 1); for
        momentum buffers of which only one has the learning rate in it.

    Example:
      >>> import jax.numpy as jnp, optax, rmsprop_jax
      >>> old = optax.rmsprop(0.1, initial_scale=1.0).init({"w": jnp.zeros(2)})
      >>> template = rmsprop_jax.rmsprop(0.1).init({"w": jnp.zeros(2)})
      >>> from_state(old, template)[0].s
      {'w': Array([1., 1.], dtype=float32)}
    """
    call = Call("interop.optax.from_state")
    theirs, ours = slots_of(call, state), our_slots(call, template, storage)
    picture = _parse(theirs, ours, _step(theirs, ours, count), decay)
    # optax keeps the real second moment of a complex parameter in a complex array.
    nu = {path: np.real(to_numpy(x)) for path, x in picture.moments["nu"].items()}
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
    moments = export_moments(_parse(theirs, ours, ours.step, decay), ours)
    return theirs.filled(moments, ours.step)


def _parse(
    theirs: Slots, ours: Slots, step: int | None, decay: float | None
) -> Picture:
    """Parse a state of optax; a parameter has the same path in both."""
    if "nu" not in {slot.field for slot in theirs.found}:
        raise ValueError(
            f"`{theirs.call}`: there is no state of `optax.scale_by_rms` or "
            "`scale_by_stddev` in the state of optax."
        )
    moments = {word: theirs.moments(word) for word in _WORDS}
    paths = moments["nu"].keys() | ours.moments("s").keys()
    return Picture(
        theirs.call,
        _WORDS,
        {path: Place(path, None) for path in paths},
        moments,
        moments,
        step,
        _ADVICE,
        correction=_correction(theirs, step, decay),
        lr_in_momentum=theirs.lr_in_momentum,
    )


def _correction(theirs: Slots, step: int | None, decay: float | None) -> float:
    """Compute W, which relates the means where both are corrected."""
    call = theirs.call
    if decay is not None:
        check_numbers(call, decay=decay)
    if not (theirs.classes & _CORRECTED and theirs.moments("mu") and step):
        return 1.0
    if decay is None:
        raise ValueError(
            f"{call.given(decay=...)} must be that of both transformations where they "
            "are centered with bias correction; got None."
        )
    return -math.expm1(step * math.log(decay)) if decay else 1.0


def _step(theirs: Slots, ours: Slots, count: int | None) -> int | None:
    """Return the number of updates; None where neither state depends on it."""
    if count is not None:
        return count
    if theirs.counts:
        return theirs.step
    schedules = [slot.owner for slot in ours.counts if slot.owner.startswith("optax.")]
    if schedules:
        raise ValueError(
            f"{ours.call.given(count=...)} must be the number of updates so far: the "
            f"template counts them in {', '.join(schedules)}, and this state of optax "
            "does not; got None."
        )
    return None
