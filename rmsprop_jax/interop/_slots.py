"""The moments and counts in an optimizer state, found by class and by path."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import PyTree

from .._arguments import Call
from .._rmsprop import rate_in_momentum
from .._storage import Format, decoded, decoded_dtype, find_format, nearest, signed
from .._trees import at, named_leaves, nodes
from ._arrays import put_like
from ._mapping import within

# What each field of a state class holds. By name, since some of optax's classes are
# private and their states are not.
_FIELDS: dict[str, dict[str, str]] = {
    "rmsprop_jax.RMSPropState": {"step": "step", "s": "s", "m": "m"},
    "rmsprop_jax.MomentumState": {"step": "step", "trace": "b"},
    "optax.TraceState": {"trace": "b"},
    "optax.ScaleByRmsState": {"nu": "nu"},
    "optax.ScaleByRmsWithCountState": {"count": "step", "nu": "nu"},
    "optax.ScaleByRStdDevState": {"mu": "mu", "nu": "nu"},
    "optax.ScaleByRStdDevWithCountState": {"count": "step", "mu": "mu", "nu": "nu"},
    "optax.ScaleByScheduleState": {"count": "step"},
    "optax.WrappedScheduleState": {"count": "step"},
    "optax.InjectHyperparamsState": {"count": "step"},
    "optax.InjectStatefulHyperparamsState": {"count": "step"},
    "optax.MultiStepsState": {"gradient_step": "step"},
}


class Slot(NamedTuple):
    """One array in a state: the moment of one parameter, or a count of steps.

    Attributes:
      number: its number among the leaves of the state.
      owner: the class that has it as a field, such as "optax.TraceState".
      kind: s, m and b (ours), nu, mu and b (optax's), or step.
      path: path of the parameter.
      array: the array, as it is stored.
    """

    number: int
    owner: str
    kind: str
    path: str
    array: Any

    @property
    def is_stored(self) -> bool:
        """Whether it went through a storage format: the moments of our own classes."""
        return self.kind != "step" and self.owner.startswith("rmsprop_jax.")


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

    def moments(self, kind: str) -> dict[str, Any]:
        """Return the arrays of one kind by path; each path must have only one."""
        arrays: dict[str, Any] = {}
        for slot in self.found:
            if slot.kind == kind and slot.path in arrays:
                raise ValueError(
                    f"`{self.call}`: the state keeps two arrays {kind} for the "
                    f"parameter at {at(slot.path)}; it must have one RMSProp for each "
                    "parameter."
                )
            arrays |= {slot.path: slot.array} if slot.kind == kind else {}
        return arrays

    def steps(self) -> dict[str, int]:
        """Return the number of updates that each class has counted."""
        steps: dict[str, int] = {}
        for slot in self.found:
            if slot.kind == "step":
                step = int(np.asarray(slot.array))
                steps[slot.owner] = max(step, steps.get(slot.owner, 0))
        return steps

    def replaced(self, new: Callable[[Slot], Any]) -> PyTree:
        """Return the state with `new(slot)` in place of the array of each slot."""
        leaves, treedef = jax.tree.flatten(self.tree)
        for slot in self.found:
            leaves[slot.number] = new(slot)
        return jax.tree.unflatten(treedef, leaves)


def slots_of(call: Call, state: PyTree) -> Slots:
    """Parse an optimizer state, in one pass over it."""
    found, classes, orders, number = [], set(), set(), 0
    for node in nodes(state):
        found += _slots_at(node, number)
        classes.add(_class_name(node))
        orders |= _orders(node)
        number += jax.tree_util.all_leaves([node])
    return Slots(call, state, tuple(found), frozenset(classes), frozenset(orders))


def our_slots(call: Call, state: PyTree) -> Slots:
    """Parse a state that must have an `RMSPropState` in it."""
    slots = slots_of(call, state)
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


def decode(slots: Slots, storage: str | Format) -> Slots:
    """Return the slots with their moments in the dtype of the arithmetic."""

    def decoded_slot(slot: Slot) -> Slot:
        if not slot.is_stored:
            return slot
        format_ = format_of(slots.call, storage, slot)
        return slot._replace(array=np.asarray(decoded(slots.call, format_, slot.array)))

    return dataclasses.replace(slots, found=tuple(map(decoded_slot, slots.found)))


def fill(
    slots: Slots,
    values: Mapping[str, Mapping[str, Any]],
    step: int | None,
    storage: str | Format,
) -> PyTree:
    """Return the state with these moments, by kind and path, and this step.

    Dtypes and shardings stay those of the state; so does a kind that is not in
    `values`, and a count where `step` is None.
    """

    def new(slot: Slot) -> Any:
        like = slot.array
        if slot.kind == "step":
            largest = int(np.iinfo(like.dtype).max)
            return like if step is None else put_like(min(step, largest), like)
        if slot.kind not in values:
            return like
        value = values[slot.kind][slot.path]
        if not slot.is_stored:
            return put_like(value, like)
        format_ = format_of(slots.call, storage, slot)
        dtype = decoded_dtype(slots.call, format_, like)
        return nearest(format_, put_like(value, like, dtype))

    return slots.replaced(new)


def format_of(call: Call, storage: str | Format, slot: Slot) -> Format:
    """Return the format of a slot in a state of this `storage`."""
    format_ = find_format(call, storage)
    return format_ if slot.kind == "s" else signed(format_)


def _slots_at(node: Any, number: int) -> Iterator[Slot]:
    """Find the slots of a node whose first leaf has this number."""
    owner = _class_name(node)
    kinds = _FIELDS.get(owner, {})
    for field in node._fields if kinds else ():
        for path, array in named_leaves(getattr(node, field)):
            if field in kinds:
                yield Slot(number, owner, kinds[field], within(path), array)
            number += 1


def _orders(chain: Any) -> set[bool]:
    """Tell whether the buffers in a chain accumulate steps, from their places."""
    links = chain if type(chain) is tuple else ()
    kinds = [set(_FIELDS.get(_class_name(link), {}).values()) for link in links]
    moments = [k for k, kept in enumerate(kinds) if kept & {"s", "nu"}]
    buffers = [k for k, kept in enumerate(kinds) if "b" in kept]
    return {rate_in_momentum(s, b) for s in moments for b in buffers if s < b}


def _class_name(node: Any) -> str:
    return f"{type(node).__module__.partition('.')[0]}.{type(node).__name__}"
