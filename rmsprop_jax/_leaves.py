"""Trees, leaf by leaf: what may be a leaf, and gradients matched with their state."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

Leaves = list[Any]


def check_parameters(call: str, params: PyTree) -> None:
    """Refuse leaves that have no gradient, by path."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        where = f"`{call}.init`: the parameter at {_name(path)}"
        dtype = _dtype(leaf)
        if is_inexact(leaf):
            continue
        if dtype is None:
            raise TypeError(
                f"{where} must be an array; got {type(leaf).__name__}. Pass only "
                "the arrays of the model, e.g. `equinox.filter(model, "
                "equinox.is_inexact_array)` or `flax.nnx.state(model, nnx.Param)`."
            )
        raise TypeError(
            f"{where} must be floating point or complex; got {dtype}. Leave it "
            "out of training with `optax.masked` or `optax.partition`."
        )


def map_leaves(
    call: str,
    step: Callable[..., tuple[Any, ...]],
    updates: PyTree,
    *slots: PyTree,
) -> tuple[PyTree, ...]:
    """Map `step(leaf, g, *stored) -> (u, *stored)` over gradients and their state.

    `leaf` is the number of the gradient in its tree. A slot that is None has no leaves
    and stays None. A gradient that is None has no update, and its state stays.
    """
    named, treedef = jax.tree_util.tree_flatten_with_path(updates, is_leaf=_is_none)
    columns = [_column(call, named, treedef, slot) for slot in slots]
    rows = []
    for leaf, ((path, g), *stored) in enumerate(zip(named, *columns, strict=True)):
        if g is None:
            rows.append((None, *stored))
            continue
        g, kept = _check_gradient(call, path, g, stored)
        u, *stored = step(leaf, _resharded(g, kept), *stored)
        rows.append((_resharded(u, g), *stored))
    return tuple(
        None if tree is None else jax.tree.unflatten(treedef, column)
        for tree, column in zip(
            (updates, *slots), _transpose(rows, len(slots) + 1), strict=True
        )
    )


def _column(call: str, named: Leaves, treedef: Any, slot: PyTree) -> Leaves:
    if slot is None:
        return [None] * len(named)
    stored, slot_treedef = jax.tree_util.tree_flatten_with_path(slot, is_leaf=_is_none)
    if slot_treedef == treedef:
        return [leaf for _, leaf in stored]
    given, kept = dict(named), dict(stored)
    strange = [_name(path) for path in given if path not in kept]
    absent = [_name(path) for path in kept if path not in given]
    raise ValueError(
        f"`{call}.update`: the tree of gradients must be that of the parameters given "
        f"to `init`; {_difference(strange, absent, treedef, slot_treedef)} Call "
        "`init` again on these parameters, or mask the leaves that are not trained "
        "with `optax.masked`."
    )


def _difference(strange: Leaves, absent: Leaves, got: Any, expected: Any) -> str:
    parts = []
    if strange:
        parts.append(f"no state for the gradient at {_some(strange)}.")
    if absent:
        parts.append(f"no gradient for the state at {_some(absent)}.")
    return " ".join(parts) or f"expected {expected}, got {got}."


def _check_gradient(
    call: str, path: Any, g: Any, stored: Leaves
) -> tuple[Array, Array]:
    """Refuse a gradient that does not fit; give it with an array kept for it."""
    where = f"`{call}.update`: the gradient at {_name(path)}"
    if not is_inexact(g):
        got = _dtype(g) or type(g).__name__
        raise TypeError(
            f"{where} must be a floating point or complex array; got {got}."
        )
    kept = next((x for x in stored if x is not None), None)
    if kept is None:
        raise ValueError(
            f"{where} has no state: the parameter was None at `init`. Call `init` "
            "again on these parameters."
        )
    if jnp.shape(g) != jnp.shape(kept):
        raise ValueError(
            f"{where} must have the shape of its parameter, {jnp.shape(kept)}; got "
            f"{jnp.shape(g)}. Call `init` again if the parameter changed."
        )
    return jnp.asarray(g), kept


def _resharded(x: Array, like: Array) -> Array:
    """Split a gradient as its state is, where shardings are part of the types."""
    given, wanted = jax.typeof(x).sharding, jax.typeof(like).sharding
    if given.mesh.empty or wanted.mesh.empty or given.spec == wanted.spec:
        return x
    return jax.sharding.reshard(x, wanted)


def check_kinds(call: str, updates: PyTree, like: PyTree) -> None:
    """Refuse complex gradients for what is real, and the reverse, by path."""
    named, treedef = jax.tree_util.tree_flatten_with_path(updates)
    if jax.tree.structure(like) != treedef:
        return  # nothing to compare with, or for `map_leaves` to report
    for (path, g), x in zip(named, jax.tree.leaves(like), strict=True):
        if not (is_inexact(g) and is_inexact(x)):
            continue
        if jnp.iscomplexobj(g) != jnp.iscomplexobj(x):
            raise TypeError(
                f"`{call}.update`: the gradient at {_name(path)} is {_dtype(g)} and "
                f"its parameter {_dtype(x)}; both must be real or both complex."
            )


def is_inexact(leaf: Any) -> bool:
    """Tell whether a leaf is a floating point or complex array or number."""
    dtype = _dtype(leaf)
    return dtype is not None and jnp.issubdtype(dtype, jnp.inexact)


def path_name(path: Any) -> str:
    """Write a path with slashes, without the last step into a `flax.nnx.Variable`."""
    if path and path[-1] == jax.tree_util.GetAttrKey("value"):
        path = path[:-1]
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _dtype(leaf: Any) -> Any:
    if isinstance(leaf, int | float | complex):
        return jnp.result_type(leaf)
    return getattr(leaf, "dtype", None)


def _is_none(x: Any) -> bool:
    return x is None


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path) or "the root"


def _some(names: Leaves) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" * (len(names) > 5))


def _transpose(rows: Leaves, width: int) -> Leaves:
    return [[row[k] for row in rows] for k in range(width)]
