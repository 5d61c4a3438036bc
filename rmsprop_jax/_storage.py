"""How a moment is kept between steps, and every cast in and out of the arithmetic."""

import dataclasses
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Inexact

Shaped = ArrayLike | jax.ShapeDtypeStruct


@runtime_checkable
class Format(Protocol):
    """A way to keep one array between steps; a frozen dataclass.

    Laws, for every format:

    - the stored array has the shape of the array it keeps;
    - the stored dtype depends on the dtype given to `init` alone;
    - zero is exact;
    - `decode` gives the dtype that the arithmetic is done in.
    """

    def init(self, like: Shaped, fill: ArrayLike, dtype: DTypeLike) -> Array:
        """Store `fill`, of `dtype`, in the shape and sharding of `like`."""
        ...

    def encode(self, x: Array) -> Array:
        """Store `x`."""
        ...

    def decode(self, stored: Array) -> Array:
        """Read what was stored."""
        ...


@dataclasses.dataclass(frozen=True)
class Float32:
    """Full precision: float32, or float64 where the parameter is float64."""

    def init(self, like: Shaped, fill: ArrayLike, dtype: DTypeLike) -> Array:
        return jnp.full_like(like, fill, dtype=dtype)

    def encode(self, x: Array) -> Array:
        return x

    def decode(self, stored: Array) -> Array:
        return stored


FORMATS: dict[str, Format] = {"float32": Float32()}


def find_format(call: str, storage: str | Format) -> Format:
    """Look a format up by its name; a `Format` is taken as it is."""
    if isinstance(storage, str) and storage in FORMATS:
        return FORMATS[storage]
    if isinstance(storage, Format) and not isinstance(storage, type):
        return storage
    raise ValueError(
        f"`{call}(storage=...)` must be one of {', '.join(map(repr, FORMATS))}; "
        f"got {storage!r}."
    )


def arithmetic_dtype(dtype: DTypeLike) -> np.dtype:
    """Give the dtype to compute in: 64 bits for 64-bit leaves, else 32."""
    return np.dtype(dtype if jnp.finfo(dtype).bits >= 32 else jnp.float32)


def real_dtype(dtype: DTypeLike) -> np.dtype:
    """Give the dtype of the real part."""
    return np.dtype(jnp.finfo(dtype).dtype)


def lift(x: Inexact[Array, "*shape"], real: DTypeLike) -> Inexact[Array, "*shape"]:
    """Cast to the real dtype of the arithmetic, or to its complex partner."""
    is_complex = jnp.iscomplexobj(x)
    return x.astype(np.promote_types(real, np.complex64) if is_complex else real)


def lower(x: Inexact[Array, "*shape"], dtype: DTypeLike) -> Inexact[Array, "*shape"]:
    """Cast to `dtype`; what is too large becomes its largest value, not inf."""
    if jnp.iscomplexobj(x):
        real = real_dtype(dtype)
        return lax.complex(lower(x.real, real), lower(x.imag, real))
    largest = float(jnp.finfo(dtype).max)
    if largest <= float(jnp.finfo(x.dtype).max):
        x = jnp.clip(x, -largest, largest)
    return x.astype(dtype)
