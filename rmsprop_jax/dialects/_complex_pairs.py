"""Complex leaves as two real ones."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import PyTree

from .._arguments import Call
from .._precision import real_dtype
from .._rmsprop import Mask
from .._trees import check_gradients, is_inexact


class ComplexParts(NamedTuple):
    """The two parts of a complex leaf, each of its shape."""

    real: Any
    imag: Any


def as_pairs(
    call: Call, tx: optax.GradientTransformationExtraArgs
) -> optax.GradientTransformationExtraArgs:
    """Hand each complex leaf to `tx` as `ComplexParts`; real leaves do not change.

    `optax.contrib.split_real_and_imaginary` does the same, but fails under strict
    dtype promotion, drops extra arguments, and computes real + 1j*imag, which makes
    the real part NaN where the imaginary one is infinite (optax 0.2.5 to 0.2.8).
    """

    def init(params: PyTree) -> Any:
        return tx.init(jax.tree.map(_to_pair, params))

    def update(updates: PyTree, state: Any, params: PyTree = None, **extra_args: Any):
        check_gradients(call, updates, params)  # a real one has no pair to fit into
        updates, params = jax.tree.map(_to_pair, (updates, params))
        updates, state = tx.update(updates, state, params, **extra_args)
        return jax.tree.map(_from_pair, updates, is_leaf=_is_parts), state

    return optax.GradientTransformationExtraArgs(init, update)


def of_whole_leaves(mask: Mask) -> Mask:
    """Return a mask whose function, if it is one, gets complex leaves in one piece."""
    if not callable(mask):
        return mask
    return lambda tree: mask(jax.tree.map(_from_pair, tree, is_leaf=_is_parts))


def _to_pair(x: Any) -> Any:
    if not is_inexact(x) or not jnp.iscomplexobj(x):
        return x
    if isinstance(x, jax.ShapeDtypeStruct):
        part = x.update(dtype=real_dtype(x.dtype))
        return ComplexParts(part, part)
    return ComplexParts(x.real, x.imag)


def _from_pair(x: Any) -> Any:
    if _is_parts(x) and isinstance(x.real, jax.ShapeDtypeStruct):
        return jax.eval_shape(lax.complex, x.real, x.imag)
    return lax.complex(x.real, x.imag) if _is_parts(x) else x


def _is_parts(x: Any) -> bool:
    return isinstance(x, ComplexParts)
