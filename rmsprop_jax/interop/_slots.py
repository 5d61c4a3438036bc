"""What an optimizer state keeps, wherever in it: found, read and replaced by path."""

import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from .._arguments import Call
from .._storage import Format, decoded_dtype, find_format, nearest, signed
from .._storage import decoded as _decode
from ._mapping import path_name

# Field by field of every state class that is read or written. By name, since some of
# optax's classes are private and their states are not.
_FIELDS: dict[str, dict[str, str]] = {
    "rmsprop_jax.RMSPropState": {"step": "count", "s": "s", "m": "m"},
    "rmsprop_jax.MomentumState": {"step": "count", "trace": "b"},
    "optax.TraceState": {"trace": "b"},
    "optax.ScaleByRmsState": {"nu": "nu"},
    "optax.ScaleByRmsWithCountState": {"count": "count", "nu": "nu"},
    "optax.ScaleByRStdDevState": {"mu": "mu", "nu": "nu"},
    "optax.ScaleByRStdDevWithCountState": {"count": "count", "mu": "mu", "nu": "nu"},
    "optax.ScaleByScheduleState": {"count": "count"},
    "optax.WrappedScheduleState": {"count": "count"},
    "optax.InjectHyperparamsState": {"count": "count"},
    "optax.InjectStatefulHyperparamsState": {"count": "count"},
    "optax.MultiStepsState": {"gradient_step": "count"},
}

_TABLE = "rmsprop_jax.TableState"  # its rows are as old as their last touch

Slots = dict[str, dict[str, Any]]
Visit = Callable[[str, str, str, Any], Any]


def read(call: Call, state: PyTree) -> Slots:
    """Give the arrays of a state as {slot: {path: array}}, stored as they are.

    The slots are s, m and b (ours), nu, mu and b (optax's), and count, where the class
    that holds the count stands for the path.
    """
    slots: Slots = {}

    def visit(owner: str, slot: str, path: str, leaf: Any) -> Any:
        kept = slots.setdefault(slot, {})
        if slot == "count":
            path = owner
        elif path in kept:
            raise ValueError(
                f"`{call}`: the state keeps two arrays {slot} for the parameter at "
                f"{path!r}; it must have one RMSProp for each parameter."
            )
        kept[path] = leaf
        return leaf

    _map_slots(visit, state)
    return slots


def write(
    call: Call,
    template: PyTree,
    values: Slots,
    count: int | None,
    storage: str | Format,
) -> PyTree:
    """Put values in place of the arrays of a template, in its dtypes and shardings.

    A slot without values, and a count that is None, stay as they are.
    """

    def visit(owner: str, slot: str, path: str, leaf: Any) -> Any:
        if slot == "count":
            return leaf if count is None else place(_fit(count, leaf), leaf)
        if slot not in values:
            return leaf
        if owner.startswith("optax."):
            return place(values[slot][path], leaf)
        return _store(call, _format(call, storage, slot), values[slot][path], leaf)

    return _map_slots(visit, template)


def decode(
    call: Call, slot: str, stored: Mapping[str, Any], storage: str | Format
) -> dict[str, np.ndarray]:
    """Read the arrays of a slot of ours, at the precision of the arithmetic."""
    format_ = _format(call, storage, slot)
    return {path: np.asarray(_decode(call, format_, x)) for path, x in stored.items()}


def convert(
    call: Call, state: PyTree, before: str | Format, after: str | Format
) -> PyTree:
    """Store the arrays of the slots of ours in another format."""
    if any(_class(node) == _TABLE for node in _nodes(state)):
        raise ValueError(
            f"`{call}`: a TableState of `sparse.rmsprop` is not converted. Take it "
            "out of the state, and go on with the `storage` that it was made with."
        )
    check_ours(call, state)

    def visit(owner: str, slot: str, path: str, leaf: Any) -> Any:
        if slot == "count" or owner.startswith("optax."):
            return leaf
        old, new = _format(call, before, slot), _format(call, after, slot)
        return nearest(new, _decode(call, old, leaf))

    return _map_slots(visit, state)


def check_ours(call: Call, state: PyTree) -> None:
    """Refuse a state without an `RMSPropState` in it."""
    if not any("s" in _fields(node).values() for node in _nodes(state)):
        raise ValueError(
            f"`{call}`: there is no RMSPropState in this state; got "
            f"{type(state).__name__}. Pass what `init` of a transformation with "
            "`rmsprop` or `scale_by_rmsprop` in it gives."
        )


def _format(call: Call, storage: str | Format, slot: str) -> Format:
    format_ = find_format(call, storage)
    return format_ if slot == "s" else signed(format_)


def _store(call: Call, format_: Format, value: np.ndarray, like: Any) -> jax.Array:
    """Keep one array as the template keeps it: the only way into narrow storage."""
    return nearest(format_, place(value, like, decoded_dtype(call, format_, like)))


def _fit(count: int, like: Any) -> int:
    return min(count, int(np.iinfo(like.dtype).max))


def place(value: Any, like: Any, dtype: Any = None) -> jax.Array:
    """Cast to the dtype of `like`, or to `dtype`, and put where `like` lives."""
    value = np.asarray(value).astype(like.dtype if dtype is None else dtype)
    sharding = getattr(like, "sharding", None)
    # An array that was never placed may still meet parameters on any device.
    if sharding is None or not getattr(like, "committed", True):
        return jnp.asarray(value)
    return jax.device_put(value, sharding)


def lr_in_momentum(state: PyTree) -> frozenset[bool]:
    """Tell from the chains of a state whether its buffers have seen the learning rate.

    A buffer right behind the second moment holds directions, any other one steps.
    """
    found = set()
    for node in _nodes(state):
        links = node if type(node) is tuple else ()
        slots = [set(_fields(link).values()) for link in links]
        moments = [i for i, kept in enumerate(slots) if kept & {"s", "nu"}]
        buffers = [i for i, kept in enumerate(slots) if "b" in kept]
        found |= {b != s + 1 for s, b in itertools.product(moments, buffers) if s < b}
    return frozenset(found)


def _map_slots(visit: Visit, node: PyTree) -> PyTree:
    """Rebuild a state with `visit(owner, slot, path, leaf)` for the leaves of slots."""
    fields = {
        field: _map_field(visit, _class(node), slot, getattr(node, field))
        for field, slot in _fields(node).items()
    }
    node = node._replace(**fields) if fields else node
    children, treedef = _open(node)
    if not children:
        return node
    return jax.tree.unflatten(treedef, [_map_slots(visit, x) for x in children])


def _map_field(visit: Visit, owner: str, slot: str, tree: PyTree) -> PyTree:
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: visit(owner, slot, path_name(path), leaf), tree
    )


def _nodes(node: PyTree) -> Iterator[Any]:
    yield node
    for child in _open(node)[0]:
        yield from _nodes(child)


def _open(node: PyTree) -> tuple[list[Any], Any]:
    """Flatten by one level; an array has nothing in it."""
    children, treedef = jax.tree.flatten(node, is_leaf=lambda x: x is not node)
    is_array = len(children) == 1 and children[0] is node
    return [] if is_array else children, treedef


def _fields(node: Any) -> dict[str, str]:
    return _FIELDS.get(_class(node), {})


def _class(node: Any) -> str:
    return f"{type(node).__module__.partition('.')[0]}.{type(node).__name__}"
