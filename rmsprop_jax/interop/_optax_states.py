"""An optimizer state of ours or of optax, parsed in one pass over it."""

import collections
import itertools
from collections.abc import Generator, Iterator, Mapping
from typing import Any, NamedTuple

import jax
from jaxtyping import PyTree

from .._arguments import OURS, Call
from .._rmsprop import rate_in_momentum
from .._storage import Format, find_format, signed
from .._trees import named_leaves
from ._mapping import within
from ._slots import MOMENTS, Place, Slot, Slots

# Our words for the fields that later steps look at, by class and field. By name, since
# some of optax's classes are private and their states are not.
_RMSPROP = {
    "rmsprop_jax.RMSPropState": {"step": "step", "s": "s", "m": "m"},
    "optax.ScaleByRmsState": {"nu": "nu"},
    "optax.ScaleByRmsWithCountState": {"count": "step", "nu": "nu"},
    "optax.ScaleByRStdDevState": {"mu": "mu", "nu": "nu"},
    "optax.ScaleByRStdDevWithCountState": {"count": "step", "mu": "mu", "nu": "nu"},
}
_MOMENTUM = {
    "rmsprop_jax.MomentumState": {"step": "step", "trace": "trace"},
    "optax.TraceState": {"trace": "trace"},
}
_WRAPPERS = {
    "optax.ScaleByScheduleState": {"count": "step"},
    "optax.WrappedScheduleState": {"count": "step"},
    "optax.WeightDecaySchedule": {"count": "step"},
    "optax.InjectHyperparamsState": {"count": "step"},
    "optax.InjectStatefulHyperparamsState": {"count": "step"},
    "optax.ConditionallyTransformState": {"step": "step"},
    "optax.ConditionallyMaskState": {"step": "step"},
    "optax.MultiStepsState": {
        "gradient_step": "step",
        "mini_step": "mini_step",
        "acc_grads": "acc_grads",
    },
}
_FIELDS = {**_RMSPROP, **_MOMENTUM, **_WRAPPERS}
_NAMES = dict.fromkeys(_RMSPROP, "RMSProp") | dict.fromkeys(_MOMENTUM, "Momentum")


def slots_of(call: Call, state: PyTree, storage: str | Format = "float32") -> Slots:
    """Parse an optimizer state, in one pass over it."""
    found = tuple(_chain(state, _Where(), find_format(call, storage)))
    return Slots(call, state, found)


def our_slots(call: Call, state: PyTree, storage: str | Format) -> Slots:
    """Parse a state that must have an `RMSPropState` in it."""
    slots = slots_of(call, state, storage)
    check_ours(slots)
    return slots


def check_ours(slots: Slots) -> None:
    """Refuse a state without an `RMSPropState` in it."""
    if "rmsprop_jax.RMSPropState" not in slots.owners:
        raise ValueError(
            f"`{slots.call}`: there is no RMSPropState in this state; got "
            f"{type(slots.tree).__name__}. Pass what `init` returns for a "
            "transformation with `rmsprop` or `scale_by_rmsprop` in it."
        )


class _Where(NamedTuple):
    """Where a tree stands in a state.

    `order` tells whether a momentum buffer there would accumulate steps: both or none
    where that is not known, and None where no RMSProp comes before it.
    """

    owner: str = ""
    place: Place = ()
    node: Place = ()
    order: frozenset[bool] | None = None


def _chain(
    tree: Any, where: _Where, format_: Format
) -> Generator[Slot, None, bool | None]:
    """Yield the slots of the links of a chain.

    Return whether a momentum buffer after it would be that of an RMSProp in it, because
    that has none yet; None where there is no RMSProp in it.
    """
    names, last, open_ = collections.Counter(), None, None
    for number, link in enumerate(_links(tree)):
        if last is not None:
            where = where._replace(order=frozenset({rate_in_momentum(last, number)}))
        found = yield from _link(link, _stepped_into(link, where, names), format_)
        if found is not None:
            open_, last = found, number if _class_name(link) in _RMSPROP else None
            where = where._replace(order=frozenset() if found else None)
        elif _class_name(link) in _MOMENTUM:
            open_, last = (False if open_ else open_), None
            where = where._replace(order=None)
    return open_


def _link(
    tree: Any, where: _Where, format_: Format
) -> Generator[Slot, None, bool | None]:
    """Yield the slots of one link; return as `_chain` does."""
    if _is_leaf(tree):
        yield Slot(where.owner, where.place, where.node, "", "", tree)
        return None
    owner = _class_name(tree)
    words, inner = _FIELDS.get(owner, {}), [True] if owner in _RMSPROP else []
    for key, child in _children(tree):
        inside = where._replace(place=(*where.place, _word(key, words, where)))
        if key in words:
            yield from _field(child, words[key], inside, format_)
        else:
            found = yield from _chain(child, inside, format_)
            inner += [] if found is None else [found]
    return all(inner) if inner else None


def _field(
    tree: Any, field: str, where: _Where, format_: Format
) -> Generator[Slot, None, None]:
    """Yield the slots of a field that later steps look at."""
    order = where.order if field == "trace" else frozenset()
    kept = None
    if where.owner.startswith("rmsprop_jax.") and field in MOMENTS:
        kept = format_ if field == "s" else signed(format_)
    field = "" if order is None else field
    rate_inside = next(iter(order)) if order else None
    for path, array in named_leaves(tree):
        place = (*where.place, path) if path else where.place
        path = within(path)
        yield Slot(
            where.owner, place, where.node, field, path, array, kept, rate_inside
        )


def _stepped_into(link: Any, where: _Where, names: collections.Counter) -> _Where:
    """Return where a link stands: its class, and a number if it is not the first."""
    owner = _class_name(link)
    nameless = _is_leaf(link) or owner.startswith("builtins.")
    name = "" if nameless else _NAMES.get(owner, owner)
    names[name] += bool(jax.tree.leaves(link))
    step = name + (f"[{names[name] - 1}]" if names[name] > 1 else "")
    place = (*where.place, step) if step else where.place
    if nameless:
        return where._replace(place=place)
    return _Where(owner, place, place, where.order)


def _links(tree: Any) -> Iterator[Any]:
    """Iterate over the links of a chain of chains; another tree is its own link."""
    inside = [child for _, child in _children(tree)]
    chain = type(tree) is tuple and not any(map(_is_leaf, inside))
    if chain or _class_name(tree) == "optax.MaskedState" or _is_box(tree):
        yield from itertools.chain.from_iterable(map(_links, inside))
    else:
        yield tree


def _children(tree: Any) -> list[tuple[str, Any]]:
    """Return the children of a tree with their fields or keys."""
    if _is_leaf(tree):
        return []
    paths, _ = jax.tree_util.tree_flatten_with_path(
        tree, is_leaf=lambda x: x is not tree
    )
    return [(jax.tree_util.keystr(path, simple=True), child) for path, child in paths]


def _word(key: str, words: Mapping[str, str], where: _Where) -> str:
    """Return our word for a field of RMSProp or for an injected hyperparameter."""
    if where.owner in _RMSPROP:
        return words.get(key, key)
    return OURS.get(key, key) if where.place[-1:] == ("hyperparams",) else key


def _is_leaf(tree: Any) -> bool:
    return jax.tree_util.all_leaves([tree])


def _is_box(tree: Any) -> bool:
    """Tell whether a tree is one array and its metadata, as a `flax.nnx.Variable`."""
    return not hasattr(tree, "_fields") and [key for key, _ in _children(tree)] == [
        "value"
    ]


def _class_name(node: Any) -> str:
    return f"{type(node).__module__.partition('.')[0]}.{type(node).__name__}"
