"""The parameter that a leaf of a state belongs to, by identity or by trees of names.

With the transformation at hand, `init` is traced on stand-ins for the parameters, each
of a shape that no other has. A leaf of the state with the shape of one stand-in is kept
for that parameter. With only a state, the trees inside it are compared with that of the
parameters, name for name and shape for shape.
"""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import PyTree

from .._arguments import Call
from .._trees import at, children, dtype_of, named_leaves

Owner = int | None  # the number of a parameter in its tree


def owners_of(tx: optax.GradientTransformation, params: PyTree) -> list[Owner]:
    """Return the owners of the leaves of `tx.init(params)`."""
    leaves, treedef = jax.tree.flatten(params)
    sizes = itertools.count(1009)  # no other leaf of a state is as long
    stand_ins = [
        jax.ShapeDtypeStruct(
            [next(sizes) for _ in range(max(jnp.ndim(p), 1))], dtype_of(p)
        )
        for p in leaves
    ]
    state = jax.eval_shape(tx.init, jax.tree.unflatten(treedef, stand_ins))
    numbers = {tuple(x.shape): k for k, x in enumerate(stand_ins)}
    return [numbers.get(tuple(x.shape)) for x in jax.tree.leaves(state)]


def owners_in(call: Call, state: PyTree, params: PyTree) -> list[Owner]:
    """Return the owners of the leaves of a state whose transformation is not known."""
    named = named_leaves(params)
    known = {name: (k, jnp.shape(p)) for k, (name, p) in enumerate(named)}

    def owned(node: PyTree) -> list[Owner] | None:
        """Return the owners where a tree is that of the parameters, or a part of it."""
        leaves = named_leaves(node)
        found = [known.get(name, (None, None)) for name, _ in leaves]
        shapes = [jnp.shape(x) for _, x in leaves]
        fits = leaves and shapes == [shape for _, shape in found]
        return [k for k, _ in found] if fits else None

    def visit(node: PyTree, name: str) -> list[Owner]:
        inside, _ = children(node)
        found = owned(node)
        if found is None:
            parts = [visit(x, f"{name}/{k}") for k, x in enumerate(inside)]
            return sum(parts, []) if inside else [None] * len(jax.tree.leaves(node))
        others = [other for x in inside if (other := _deeper(x, owned)) is not None]
        if others and sum(others, []) != found:
            raise ValueError(
                f"`{call}`: the tree at {at(name.strip('/'))} of the state fits the "
                "parameters in two ways. Pass the transformation, to "
                "`sharding.state_shardings(tx, params, ...)`."
            )
        return found

    return visit(state, "")


def _deeper(node: PyTree, owned: Any) -> list[Owner] | None:
    """Look for another fit inside a tree that fits."""
    found = owned(node)
    if found is not None:
        return found
    parts = [x for child in children(node)[0] if (x := _deeper(child, owned))]
    return sum(parts, []) or None
