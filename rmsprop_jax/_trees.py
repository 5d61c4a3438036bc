"""Trees: their leaves and paths, what may be a leaf, and states found inside them."""

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from ._arguments import Call

Leaves = list[Any]
T = TypeVar("T")


def check_parameters(call: Call, params: PyTree) -> None:
    """Refuse leaves that are no arrays, by their path."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        if dtype_of(leaf) is None:
            raise TypeError(
                f"`{call}.init`: the parameter at {at(path)} must be an array; got "
                f"{type(leaf).__name__}. Pass only the arrays of the model, e.g. "
                "`equinox.filter(model, equinox.is_array)` or "
                "`flax.nnx.state(model, nnx.Param)`."
            )


def check_gradients(call: Call, gradients: PyTree, like: PyTree) -> None:
    """Refuse complex gradients where `like` is real, and the reverse."""
    found, treedef = jax.tree.flatten(gradients, is_leaf=_is_none)
    others, other_treedef = jax.tree.flatten(like, is_leaf=_is_none)
    if other_treedef != treedef:
        return  # nothing to compare with, or for `map_leaves` to refuse
    for k, (g, x) in enumerate(zip(found, others, strict=True)):
        both = is_inexact(g) and is_inexact(x)
        if both and jnp.iscomplexobj(g) != jnp.iscomplexobj(x):
            raise TypeError(
                f"`{call}.update`: the gradient at {_place(gradients, k)} is "
                f"{dtype_of(g)} and its parameter {dtype_of(x)}; both must be real or "
                "both complex."
            )


def map_leaves(
    call: Call,
    step: Callable[..., tuple[Any, ...]],
    updates: PyTree,
    *slots: PyTree,
) -> tuple[PyTree, ...]:
    """Map `step(leaf, g, *stored) -> (u, *stored)` over gradients and their state.

    `leaf` is the number of the gradient in its tree. A slot that is None has no leaves
    and stays None. A gradient that is None, or that of an integer, has no update, and
    its state stays as it is.
    """
    gradients, treedef = jax.tree.flatten(updates, is_leaf=_is_none)
    columns = [_column(call, updates, treedef, slot) for slot in slots]
    rows = []
    for leaf, (g, *stored) in enumerate(zip(gradients, *columns, strict=True)):
        kept: Any = next((x for x in stored if x is not None), None)
        if g is None or not (is_inexact(g) or is_inexact(kept)):
            rows.append((g, *stored))
            continue
        _check_fit(call, updates, leaf, g, kept)
        rows.append(step(leaf, g, *stored))
    return tuple(
        None if tree is None else jax.tree.unflatten(treedef, [row[k] for row in rows])
        for k, tree in enumerate((updates, *slots))
    )


def states_in(tree: PyTree, kind: type[T]) -> list[T]:
    """Find the states of one class in a state, however deep in it."""
    return [node for node in nodes(tree) if isinstance(node, kind)]


def nodes(tree: PyTree) -> Iterator[Any]:
    """Iterate over a tree and all trees inside it, the leaves included."""
    yield tree
    for child in children(tree)[0]:
        yield from nodes(child)


def children(node: PyTree) -> tuple[Leaves, Any]:
    """Flatten a tree by one level; a leaf has no children."""
    found, treedef = jax.tree.flatten(node, is_leaf=lambda x: x is not node)
    is_leaf = len(found) == 1 and found[0] is node
    return [] if is_leaf else found, treedef


def named_leaves(tree: PyTree, is_leaf: Any = None) -> list[tuple[str, Any]]:
    """Return the leaves with the names of their paths."""
    named = jax.tree_util.tree_leaves_with_path(tree, is_leaf=is_leaf)
    return [(path_name(path), leaf) for path, leaf in named]


def path_name(path: Any) -> str:
    """Write a path with slashes, without the last step into a `flax.nnx.Variable`."""
    if path and path[-1] == jax.tree_util.GetAttrKey("value"):
        path = path[:-1]
    return jax.tree_util.keystr(path, simple=True, separator="/")


def at(path: Any) -> str:
    """Write a path, or its name, as every message does: `'hidden/kernel'`."""
    name = path if isinstance(path, str) else path_name(path)
    return repr(name) if name else "the root"


def map_inexact(function: Callable[[Any], Any], tree: PyTree) -> PyTree:
    """Map the floating point and complex leaves; others become None."""
    return jax.tree.map(lambda x: function(x) if is_inexact(x) else None, tree)


def is_inexact(leaf: Any) -> bool:
    """Tell whether a leaf is a floating point or complex array or number."""
    dtype = dtype_of(leaf)
    return dtype is not None and jnp.issubdtype(dtype, jnp.inexact)


def dtype_of(leaf: Any) -> Any:
    """Return the dtype of an array or a number; of anything else None."""
    if isinstance(leaf, int | float | complex):
        return jnp.result_type(leaf)
    return getattr(leaf, "dtype", None)


def _column(call: Call, updates: PyTree, treedef: Any, slot: PyTree) -> Leaves:
    if slot is None:
        return [None] * treedef.num_leaves
    stored, slot_treedef = jax.tree.flatten(slot, is_leaf=_is_none)
    if slot_treedef == treedef:
        return stored
    given, kept = (
        [at(path) for path, _ in _with_paths(tree)] for tree in (updates, slot)
    )
    parts = [
        f"no {what} at {_some(names)}."
        for what, names in (
            ("state for the gradient", [name for name in given if name not in kept]),
            ("gradient for the state", [name for name in kept if name not in given]),
        )
        if names
    ]
    problem = " ".join(parts) or f"expected {slot_treedef}, got {treedef}."
    raise ValueError(
        f"`{call}.update`: the tree of gradients must be that of the parameters given "
        f"to `init`; {problem} Call `init` again on these parameters, or mask the "
        "leaves that are not trained with `optax.masked`."
    )


def _check_fit(call: Call, updates: PyTree, leaf: int, g: Any, kept: Any) -> None:
    """Refuse a gradient that does not fit what is kept for it."""
    if is_inexact(g) and kept is not None and jnp.shape(g) == jnp.shape(kept):
        return
    where = f"`{call}.update`: the gradient at {_place(updates, leaf)}"
    if not is_inexact(g):
        got = dtype_of(g) or type(g).__name__
        raise TypeError(
            f"{where} must be a floating point or complex array; got {got}."
        )
    if kept is None:
        raise ValueError(
            f"{where} has no state: the parameter was None or an integer at `init`. "
            "Call `init` again on these parameters."
        )
    raise ValueError(
        f"{where} must have the shape of its parameter, {jnp.shape(kept)}; got "
        f"{jnp.shape(g)}. Call `init` again if the parameter changed."
    )


def _place(tree: PyTree, leaf: int) -> str:
    return at(_with_paths(tree)[leaf][0])


def _with_paths(tree: PyTree) -> Leaves:
    return jax.tree_util.tree_flatten_with_path(tree, is_leaf=_is_none)[0]


def _some(names: Leaves) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" * (len(names) > 5))


def _is_none(x: Any) -> bool:
    return x is None
