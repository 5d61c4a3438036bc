"""The moments and counts in an optimizer state, found by class and by path."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from .._arguments import Call
from .._rmsprop import rate_in_momentum
from .._storage import Format, decoded, decoded_dtype, find_format, nearest, signed
from .._trees import at, named_leaves, nodes
from ._mapping import Arrays, within

# The fields of each state class that are looked at. By name, since some of optax's
# classes are private and their states are not.
_FIELDS: dict[str, set[str]] = {
    "rmsprop_jax.RMSPropState": {"step", "s", "m"},
    "rmsprop_jax.MomentumState": {"step", "trace"},
    "optax.TraceState": {"trace"},
    "optax.ScaleByRmsState": {"nu"},
    "optax.ScaleByRmsWithCountState": {"count", "nu"},
    "optax.ScaleByRStdDevState": {"mu", "nu"},
    "optax.ScaleByRStdDevWithCountState": {"count", "mu", "nu"},
    "optax.ScaleByScheduleState": {"count"},
    "optax.WrappedScheduleState": {"count"},
    "optax.InjectHyperparamsState": {"count"},
    "optax.InjectStatefulHyperparamsState": {"count"},
    "optax.MultiStepsState": {"gradient_step"},
}
_COUNTS = {"step", "count", "gradient_step"}


class Slot(NamedTuple):
    """One array in a state: the moment of one parameter, or a count of steps.

    Attributes:
      number: its number among the leaves of the state.
      owner: the class that has it as a field, such as "optax.TraceState".
      field: the field: s and m (ours), nu and mu (optax's), trace (both), or a count.
      path: path of the parameter.
      array: the array, as it is stored.
      format: its storage format; None for a count, and for what optax keeps.
    """

    number: int
    owner: str
    field: str
    path: str
    array: Any
    format: Format | None


@dataclasses.dataclass(frozen=True)
class Slots:
    """An optimizer state, parsed.

    Attributes:
      call: the call that errors speak for.
      tree: the state itself.
      found: its slots.
      classes: the classes of all that is in it.
      lr_in_momentum: whether its momentum buffers accumulate steps; both where they
        differ, and empty where it has none.
    """

    call: Call
    tree: PyTree
    found: tuple[Slot, ...]
    classes: frozenset[str]
    lr_in_momentum: frozenset[bool]

    @property
    def counts(self) -> list[Slot]:
        """The slots that count steps."""
        return [slot for slot in self.found if slot.field in _COUNTS]

    @property
    def step(self) -> int | None:
        """The largest count in the state; None where it has none."""
        counts = (int(np.asarray(slot.array)) for slot in self.counts)
        return max(counts, default=None)

    def moments(self, field: str) -> Arrays:
        """Return the arrays of one field by path; each path must have only one."""
        arrays: Arrays = {}
        for slot in (slot for slot in self.found if slot.field == field):
            if slot.path in arrays:
                raise ValueError(
                    f"`{self.call}`: the state keeps two arrays {field} for the "
                    f"parameter at {at(slot.path)}; it must have one RMSProp for each "
                    "parameter."
                )
            arrays[slot.path] = slot.array
        return arrays

    def decoded(self) -> "Slots":
        """Return the slots with their moments in the dtype of the arithmetic."""

        def array(slot: Slot) -> Any:
            if slot.format is None:
                return slot.array
            return np.asarray(decoded(self.call, slot.format, slot.array))

        found = tuple(slot._replace(array=array(slot)) for slot in self.found)
        return dataclasses.replace(self, found=found)

    def replaced(self, new: Callable[[Slot], Any]) -> PyTree:
        """Return the state with `new(slot)` in place of the array of each slot."""
        leaves, treedef = jax.tree.flatten(self.tree)
        for slot in self.found:
            leaves[slot.number] = new(slot)
        return jax.tree.unflatten(treedef, leaves)

    def filled(self, values: Mapping[str, Arrays], step: int | None) -> PyTree:
        """Return the state with these moments, by field and path, and this step.

        Dtypes and shardings stay those of the state; so does a field that is not in
        `values`, and a count where `step` is None.
        """

        def new(slot: Slot) -> Any:
            like = slot.array
            if slot.field in _COUNTS and step is not None:
                return put_like(min(step, int(np.iinfo(like.dtype).max)), like)
            if slot.field not in values:
                return like
            value = values[slot.field][slot.path]
            if slot.format is None:
                return put_like(value, like)
            dtype = decoded_dtype(self.call, slot.format, like)
            return nearest(slot.format, put_like(value, like, dtype))

        return self.replaced(new)


def slots_of(call: Call, state: PyTree, storage: str | Format = "float32") -> Slots:
    """Parse an optimizer state, in one pass over it."""
    format_ = find_format(call, storage)
    found, classes, orders, number = [], set(), set(), 0
    for node in nodes(state):
        found += _slots_at(node, number, format_)
        classes.add(_class_name(node))
        orders |= _orders(node)
        number += jax.tree_util.all_leaves([node])
    return Slots(call, state, tuple(found), frozenset(classes), frozenset(orders))


def our_slots(call: Call, state: PyTree, storage: str | Format) -> Slots:
    """Parse a state that must have an `RMSPropState` in it."""
    slots = slots_of(call, state, storage)
    check_ours(slots)
    return slots


def check_ours(slots: Slots) -> None:
    """Refuse a state without an `RMSPropState` in it."""
    if "rmsprop_jax.RMSPropState" not in slots.classes:
        raise ValueError(
            f"`{slots.call}`: there is no RMSPropState in this state; got "
            f"{type(slots.tree).__name__}. Pass what `init` returns for a "
            "transformation with `rmsprop` or `scale_by_rmsprop` in it."
        )


def put_like(value: Any, like: Any, dtype: Any = None) -> jax.Array:
    """Cast to the dtype of `like`, or to `dtype`, and put where `like` is."""
    value = np.asarray(value).astype(like.dtype if dtype is None else dtype)
    sharding = getattr(like, "sharding", None)
    # An array that was never placed may still meet parameters on any device.
    if sharding is None or not getattr(like, "committed", True):
        return jnp.asarray(value)
    return jax.device_put(value, sharding)


def _slots_at(node: Any, number: int, format_: Format) -> Iterator[Slot]:
    """Find the slots of a node whose first leaf has this number."""
    owner = _class_name(node)
    fields = _FIELDS.get(owner, set())
    for field in node._fields if fields else ():
        kept = None
        if owner.startswith("rmsprop_jax.") and field not in _COUNTS:
            kept = format_ if field == "s" else signed(format_)
        for path, array in named_leaves(getattr(node, field)):
            if field in fields:
                yield Slot(number, owner, field, within(path), array, kept)
            number += 1


def _orders(chain: Any) -> set[bool]:
    """Tell whether the buffers in a chain accumulate steps, from their places."""
    links = chain if type(chain) is tuple else ()
    fields = [_FIELDS.get(_class_name(link), set()) for link in links]
    moments = [k for k, kept in enumerate(fields) if kept & {"s", "nu"}]
    buffers = [k for k, kept in enumerate(fields) if "trace" in kept]
    return {rate_in_momentum(s, b) for s in moments for b in buffers if s < b}


def _class_name(node: Any) -> str:
    return f"{type(node).__module__.partition('.')[0]}.{type(node).__name__}"
