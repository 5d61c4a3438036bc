"""The boundary of a transformation: checked once on the way in, cast once each way.

Inside it every leaf has the dtype of the arithmetic, and the sharding of its state. So
an update is gathered once, however many links compute it.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import PyTree

from ._arguments import Call
from ._placement import resharded
from ._precision import arithmetic_dtype, lift, lower, real_dtype, update_dtype
from ._trees import check_gradients, check_parameters, dtype_of, is_inexact


def bounded(
    call: Call, inner: optax.GradientTransformation, links: int = 0
) -> optax.GradientTransformationExtraArgs:
    """Check and cast for `inner`, which computes in the dtype of the arithmetic.

    `links` is their number where `inner` is a chain.
    """
    inner = optax.with_extra_args_support(inner)

    def init(params: PyTree) -> Any:
        check_parameters(call, params)
        return inner.init(params)

    def update(updates: PyTree, state: Any, params: PyTree = None, **extra_args: Any):
        check_gradients(call, updates, params)
        if links and not (isinstance(state, tuple) and len(state) == links):
            got = f"{len(state)}" if type(state) is tuple else type(state).__name__
            raise ValueError(
                f"`{call}.update`: the state must be the tuple of {links} links that "
                f"`init` returns with these options; got {got}. Momentum and weight "
                "decay each add a link: use the options that the state was made with, "
                "and restore a checkpoint into the structure of `init(params)`."
            )
        wide = jax.tree.map(_lifted, updates)
        wide, state = inner.update(wide, state, params, **extra_args)
        return _lowered(wide, updates, params), state

    return optax.GradientTransformationExtraArgs(init, update)


def _lifted(x: Any) -> Any:
    if not is_inexact(x):
        return x
    x = jnp.asarray(x)
    return lift(x, real_dtype(arithmetic_dtype(x.dtype)))


def _lowered(wide: PyTree, updates: PyTree, params: PyTree) -> PyTree:
    """Cast updates to what adding them to their parameters needs."""
    leaves, treedef = jax.tree.flatten(updates)
    like, like_treedef = jax.tree.flatten(params)
    if like_treedef != treedef:
        like = [None] * len(leaves)
    lowered = map(_lower, treedef.flatten_up_to(wide), leaves, like)
    return jax.tree.unflatten(treedef, lowered)


def _lower(u: Any, g: Any, p: Any) -> Any:
    if is_inexact(g):
        return resharded(lower(u, update_dtype(g, p)), g)
    dtype = dtype_of(g if p is None else p)
    numeric = jnp.issubdtype(dtype, jnp.integer) or jnp.issubdtype(dtype, jnp.bool_)
    return jnp.zeros(jnp.shape(g), dtype) if numeric else g  # a key has no zero
