"""Gradient clipping before RMSProp, as Keras and TensorFlow do it.

    g <- g * min(1, limit / |g|)        by a norm
    g <- min(max(g, -limit), limit)     by value

A limit of 0 clips nothing. `optax.clip_by_global_norm` overflows for gradients above
1e19 in float32 and accepts no traced limit. A NaN makes the norm NaN, and so every
coordinate.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PyTree

from .._precision import real_dtype
from .._trees import is_inexact


def clip_by_value(limit: ArrayLike) -> optax.GradientTransformation:
    """Clip every coordinate to [-limit, limit]."""

    def clip(g: Array) -> Array:
        bound = _bound(limit, g.dtype)
        return jnp.clip(g, -bound, bound)

    return optax.stateless(lambda updates, _: map_gradients(clip, updates))


def clip_by_variable_norm(limit: ArrayLike) -> optax.GradientTransformation:
    """Clip the norm of each leaf."""

    def clip(g: Array) -> Array:
        return _clip_tree(g, limit)

    return optax.stateless(lambda updates, _: map_gradients(clip, updates))


def clip_by_global_norm(limit: ArrayLike) -> optax.GradientTransformation:
    """Clip the norm of all leaves together."""
    return optax.stateless(lambda updates, _: _clip_tree(updates, limit))


def map_gradients(function: Callable[[Array], Array], updates: PyTree) -> PyTree:
    """Map the gradients; those of integers, which have none, stay as they are."""
    return jax.tree.map(lambda g: function(g) if is_inexact(g) else g, updates)


def _clip_tree(tree: PyTree, limit: ArrayLike) -> PyTree:
    unit, length = _norm([g for g in jax.tree.leaves(tree) if is_inexact(g)])
    bound = _bound(limit, length.dtype)
    # Written this way round, a NaN norm is not taken for a small one.
    inside = (length == 0) | (length <= bound / unit)
    # Not as one factor: it would underflow for large gradients.
    shrink = jnp.where(inside, 1.0, bound) / jnp.where(inside, 1.0, length)

    def clip(g: Array) -> Array:
        return jnp.where(inside, g, g / unit.astype(g.dtype) * shrink.astype(g.dtype))

    return map_gradients(clip, tree)


def _bound(limit: ArrayLike, dtype: Any) -> Array:
    bound = jnp.asarray(limit, dtype)
    return jnp.where(bound > 0, bound, jnp.inf)


def _norm(leaves: list[Array]) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Compute the largest entry and the norm in units of it; finite derivatives."""
    dtype = np.result_type(np.float32, *(real_dtype(g.dtype) for g in leaves))
    sizes = [jnp.abs(g).astype(dtype) for g in leaves if g.size]
    zero = jnp.zeros((), dtype)
    largest = functools.reduce(jnp.maximum, map(jnp.max, sizes), zero)
    unit = lax.stop_gradient(jnp.where(largest == 0, 1.0, largest))
    total = sum((jnp.sum((x / unit) ** 2) for x in sizes), zero)
    root = jnp.sqrt(jnp.where(total == 0, 1.0, total))
    return unit, jnp.where(total == 0, 0.0, root)
