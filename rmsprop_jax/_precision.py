"""Dtypes of the arithmetic, and every cast into and out of it.

A leaf is computed in float32, or in float64 where it has 64 bits; complex leaves in
their complex partners. What is finite stays finite in every cast.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Inexact


def arithmetic_dtype(dtype: DTypeLike) -> np.dtype:
    """Return the dtype to compute in: 64 bits for 64-bit leaves, otherwise 32."""
    return np.dtype(dtype if jnp.finfo(dtype).bits >= 32 else jnp.float32)


def real_dtype(dtype: DTypeLike) -> np.dtype:
    """Return the dtype of the real part."""
    return np.dtype(jnp.finfo(dtype).dtype)


def update_dtype(gradient: ArrayLike, parameter: ArrayLike | None) -> np.dtype:
    """Return the dtype that adding an update to its parameter needs."""
    arrays = (gradient,) if parameter is None else (gradient, parameter)
    with jax.numpy_dtype_promotion("standard"):
        return jnp.result_type(*map(jnp.result_type, arrays))


def lift(x: Inexact[Array, "*shape"], real: DTypeLike) -> Inexact[Array, "*shape"]:
    """Cast to the real dtype of the arithmetic, or to its complex partner."""
    if jnp.iscomplexobj(x):
        return lax.complex(lift(x.real, real), lift(x.imag, real))
    largest = float(jnp.finfo(real).max)
    if largest < float(jnp.finfo(x.dtype).max):  # narrow storage of float64
        x = jnp.where(jnp.isinf(x), x, jnp.clip(x, -largest, largest))
    return x.astype(real)


def lower(x: Inexact[Array, "*shape"], dtype: DTypeLike) -> Inexact[Array, "*shape"]:
    """Cast to `dtype`; what is too large becomes its largest value, not inf."""
    if jnp.iscomplexobj(x):
        real = real_dtype(dtype)
        return lax.complex(lower(x.real, real), lower(x.imag, real))
    largest = float(jnp.finfo(dtype).max)
    if largest < float(jnp.finfo(x.dtype).max):
        x = jnp.clip(x, -largest, largest)
    return x.astype(dtype)
