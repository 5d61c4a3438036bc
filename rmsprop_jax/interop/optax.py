"""optax's own RMSProp: `optax.rmsprop`, `scale_by_rms` and `scale_by_stddev`.

Source: `optax/_src/transform.py` and `alias.py`, Optax 0.2.8.
"""

import math

import numpy as np
from jaxtyping import PyTree

from .._arguments import Call, check_numbers
from .._storage import Format
from . import _slots
from ._layout import to_numpy
from ._mapping import Place, Places, Problems
from ._moments import Convention, Moments, count_of, export_moments, import_moments

_SLOTS = ("nu", "mu", "b")
_LABELS = ("nu", "mu", "trace")
_CORRECTED = (
    "optax.ScaleByRmsWithCountState",
    "optax.ScaleByRStdDevWithCountState",
)
_HINT = (
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
      storage: as the transformation has it.

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
    theirs, ours = _slots.read(call, state), _slots.read(call, template)
    moments = _moments(call, theirs)
    # optax keeps the real second moment of a complex parameter in a complex array.
    square = {path: np.real(to_numpy(x)) for path, x in moments.square.items()}
    moments = moments._replace(square=square)
    count = _count(call, theirs, ours, count)
    weight = _weight(call, theirs, count, decay)
    convention = _convention(call, theirs, ours, state, weight)
    problems = Problems(call)
    return import_moments(convention, moments, count, template, storage, problems)


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
      state: a state of ours, such as `from_state` gives.
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
    ours, theirs = _slots.read(call, state), _slots.read(call, template)
    wanted = _moments(call, theirs)
    count = count_of(call, state)
    weight = _weight(call, theirs, count, decay)
    convention = _convention(call, theirs, ours, template, weight)
    moments = export_moments(convention, state, wanted, storage, Problems(call))
    values: _slots.Slots = dict(zip(_SLOTS, moments, strict=True))
    return _slots.write(call, template, values, count, storage)


def _moments(call: Call, kept: _slots.Slots) -> Moments:
    if "nu" not in kept:
        raise ValueError(
            f"`{call}`: there is no state of `optax.scale_by_rms` or `scale_by_stddev` "
            "in the state of optax."
        )
    return Moments(*(kept.get(slot, {}) for slot in _SLOTS))


def _convention(
    call: Call,
    theirs: _slots.Slots,
    ours: _slots.Slots,
    state: PyTree,
    weight: float,
) -> Convention:
    """Tell how `state`, optax's, keeps `theirs`; a parameter has one name in both."""
    paths = theirs["nu"].keys() | ours.get("s", {}).keys()
    places: Places = {path: Place(path, None) for path in paths}
    order = _slots.lr_in_momentum(state)
    return Convention(call, _LABELS, places, _HINT, weight, lr_in_momentum=order)


def _weight(
    call: Call, theirs: _slots.Slots, count: int | None, decay: float | None
) -> float:
    """Compute W, which relates the means where both are corrected."""
    if decay is not None:
        check_numbers(call, decay=decay)
    corrected = any(owner in _CORRECTED for owner in theirs.get("count", {}))
    if not (corrected and theirs.get("mu") and count):
        return 1.0
    if decay is None:
        raise ValueError(
            f"`{call}(decay=...)` must be that of both transformations where they are "
            "centered with bias correction; got None."
        )
    return -math.expm1(count * math.log(decay)) if decay else 1.0


def _count(
    call: Call, theirs: _slots.Slots, ours: _slots.Slots, given: int | None
) -> int | None:
    counts = [int(to_numpy(x)) for x in theirs.get("count", {}).values()]
    if given is not None or counts:
        return max(counts) if given is None else given
    scheduled = [owner for owner in ours.get("count", ()) if owner.startswith("optax.")]
    if scheduled:
        raise ValueError(
            f"`{call}(count=...)` must be the number of updates so far: the template "
            f"counts them in {', '.join(scheduled)}, and this state of optax does not; "
            "got None."
        )
    return None
