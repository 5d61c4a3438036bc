"""How an array is kept between steps: the formats float32, bfloat16 and uint8."""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, ClassVar, NoReturn, Protocol, TypeVar, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Float, Inexact, UInt32
from jaxtyping import UInt8 as UInt8Array

from ._arguments import Call, is_traced
from ._dither import Dither
from ._placement import Shaped, constant_like
from ._precision import lift

R = TypeVar("R")


@runtime_checkable
class Format(Protocol):
    """A way to keep one array between steps; a frozen dataclass.

    Laws, for every format:

    - the stored array has the shape of the array it keeps, and a dtype that depends on
      that of the array alone;
    - zero is exact, and so is what was stored before: `encode(decode(c)) == c`;
    - `encode` is monotone, and `decode` gives the dtype of the arithmetic;
    - a stochastic format is unbiased over its bits wherever it does not saturate;
      values too large saturate, NaN shows or saturates.

    Attributes:
      signed: whether it keeps negative numbers. Where it does not, it is for second
        moments, and other moments are kept in bfloat16.
      stochastic: whether `encode` rounds with the bits it is given.
    """

    signed: ClassVar[bool]
    stochastic: ClassVar[bool]

    def encode(self, x: Array, random: Array) -> Array:
        """Store `x`; `random` holds 32 bits for each element, or for all elements."""
        ...

    def decode(self, stored: Array) -> Array:
        """Read what was stored."""
        ...

    def init(self, like: Shaped, fill: ArrayLike, dtype: DTypeLike) -> Array:
        """Store `fill`, of `dtype`, in the shape and sharding of `like`."""
        return constant_like(like, nearest(self, jnp.asarray(fill, dtype)))


@dataclasses.dataclass(frozen=True)
class Float32(Format):
    """Full precision: float32, or float64 where the parameter is float64."""

    signed = True
    stochastic = False

    def encode(self, x: Array, random: Array | None = None) -> Array:
        del random
        return x

    def decode(self, stored: Array) -> Array:
        return stored


@dataclasses.dataclass(frozen=True)
class BFloat16(Format):
    """Two bytes: float32 without its lower 16 bits, rounded stochastically.

        stored = (x + 16 random bits) >> 16     on the bits of float32

    Finite values stay finite; NaN and inf are kept. Complex arrays have no such type
    and are kept as complex64.
    """

    signed = True
    stochastic = True

    def encode(
        self, x: Inexact[Array, "*shape"], random: UInt32[Array, "..."]
    ) -> Inexact[Array, "*shape"]:
        x = lift(x, jnp.float32)
        if jnp.iscomplexobj(x):
            return x
        # On the bits: XLA may drop a cast to bfloat16 that is followed by one back.
        pattern = lax.bitcast_convert_type(x, jnp.uint32)
        magnitude = pattern & 0x7FFFFFFF
        largest, infinity = jnp.uint32(0x7F7F0000), jnp.uint32(0x7F800000)
        rounded = jnp.minimum(magnitude, largest) + (random >> 16)
        # A NaN whose upper bits say infinity would become one.
        quiet = jnp.uint32(0x00400000)
        nonfinite = jnp.where(magnitude > infinity, magnitude | quiet, magnitude)
        kept = jnp.where(magnitude < infinity, rounded, nonfinite)
        upper = ((pattern - magnitude + kept) >> 16).astype(jnp.uint16)
        return lax.bitcast_convert_type(upper, jnp.bfloat16)

    def decode(self, stored: Array) -> Inexact[Array, "*shape"]:
        return stored if jnp.iscomplexobj(stored) else stored.astype(jnp.float32)


@dataclasses.dataclass(frozen=True)
class UInt8(Format):
    """One byte, for second moments: 6 bits of exponent, 2 of mantissa, no sign.

    Code 0 is zero; code c is the float32 whose bits are (c + 4*(127 + min_exponent))
    << 21, from 1.25 * 2**min_exponent to 1.75 * 2**(min_exponent + 63); by default
    from 9e-15 to 1.1e5. Rounded stochastically:

        code = clip((x + 21 random bits) >> 21, 0, 255)     on the bits of float32

    Below the smallest code the choice is between it and zero: flushed, a small s could
    not grow again. Values above the largest saturate; so do inf and NaN, which have no
    code.

    Attributes:
      min_exponent: exponent of the lower end of the range, in [-126, 64].
    """

    min_exponent: int = -47

    signed = False
    stochastic = True

    def __post_init__(self) -> None:
        if not -126 <= self.min_exponent <= 64:
            raise ValueError(
                "`UInt8(min_exponent=...)` must lie in [-126, 64], where float32 has "
                f"all 256 codes; got {self.min_exponent}."
            )

    def init(self, like: Shaped, fill: ArrayLike, dtype: DTypeLike) -> Array:
        if not is_traced(fill) and np.asarray(fill) < 0:
            raise ValueError(
                f"`UInt8.init(fill=...)` must not be negative; got {fill}. Keep it in "
                "`BFloat16()` or `Float32()`."
            )
        return super().init(like, fill, dtype)

    def encode(
        self, x: Inexact[Array, "*shape"], random: UInt32[Array, "..."]
    ) -> UInt8Array[Array, "*shape"]:
        if jnp.iscomplexobj(x):
            raise TypeError(
                f"`UInt8.encode`: only what cannot be negative fits, such as s; got "
                f"{x.dtype}. Keep it in `BFloat16()` or `Float32()`."
            )
        x = lift(x, jnp.float32)
        pattern = lax.bitcast_convert_type(x, jnp.uint32)
        rounded = ((pattern & 0x7FFFFFFF) + (random >> 11)) >> 21
        code = jnp.clip(rounded, self._zero, self._zero + 255) - self._zero
        smallest = math.ldexp(1.25, self.min_exponent)
        threshold = (~random >> 8).astype(jnp.float32) * 2.0**-24 * smallest
        code = jnp.where(x < smallest, jnp.where(x > threshold, 1, 0), code)
        return code.astype(jnp.uint8)

    def decode(self, stored: Array) -> Float[Array, "*shape"]:
        pattern = (stored.astype(jnp.uint32) + self._zero) << 21
        x = lax.bitcast_convert_type(pattern, jnp.float32)
        return jnp.where(stored == 0, 0.0, x)

    @property
    def _zero(self) -> Array:
        return jnp.uint32(4 * (127 + self.min_exponent))


FORMATS: dict[str, Format] = {
    "float32": Float32(),
    "bfloat16": BFloat16(),
    "uint8": UInt8(),
}


def find_format(call: Call, storage: str | Format) -> Format:
    """Return the format of a name; a `Format` is returned as it is."""
    if isinstance(storage, str) and storage in FORMATS:
        return FORMATS[storage]
    if isinstance(storage, Format) and not isinstance(storage, type):
        return storage
    raise ValueError(
        f"{call.given(storage=...)} must be one of {', '.join(map(repr, FORMATS))}, or "
        f"a `Format`; got {storage!r}."
    )


def signed(format_: Format) -> Format:
    """Return the format of `m` and the momentum buffer where `format_` keeps s."""
    return format_ if format_.signed else BFloat16()


def nearest(format_: Format, x: Array) -> Array:
    """Encode `x`, rounded to nearest: for values that are not rounded every step."""
    return format_.encode(x, jnp.uint32(0x80000000))


def decoded(call: Call, format_: Format, stored: Array) -> Array:
    """Decode what `format_` has stored, and refuse what another format has."""
    decoded_dtype(call, format_, stored)
    return format_.decode(stored)


def decoded_dtype(call: Call, format_: Format, stored: Any) -> np.dtype:
    """Return the dtype that `decoded` gives."""
    dtype = _decoded_dtype(format_, jax.dtypes.canonicalize_dtype(stored.dtype))
    if dtype is None:
        raise ValueError(
            f"`{call}`: a moment in the state is {stored.dtype}, which storage "
            f"`{format_}` does not keep. Use the `storage` that the state was made "
            "with, or convert it with `interop.storage.convert`."
        )
    return dtype


@functools.cache
def _decoded_dtype(format_: Format, stored: np.dtype) -> np.dtype | None:
    x = jax.eval_shape(format_.decode, jax.ShapeDtypeStruct((), stored))
    wide = jnp.issubdtype(x.dtype, jnp.inexact) and jnp.finfo(x.dtype).bits >= 32
    if not wide or jax.eval_shape(lambda x: nearest(format_, x), x).dtype != stored:
        return None
    return x.dtype


def encoded(format_: Format, x: Array, dither: Dither) -> Array:
    """Encode `x`; a stochastic format rounds by the random bits of `dither`."""
    if not format_.stochastic:
        return nearest(format_, x)
    return _encode(format_, x, dither.random(x.shape))


# Jitted, so that it is traced once for all leaves of one shape.
@functools.partial(jax.jit, static_argnums=0)
def _encode(format_: Format, x: Array, random: UInt32[Array, "..."]) -> Array:
    encode = undifferentiable(
        f"`storage={format_}` cannot be differentiated through: what it keeps is a "
        "step function of the gradients. Differentiate with `storage='float32'`.",
        format_.encode,
    )
    return encode(x, random)


def undifferentiable(problem: str, function: Callable[..., R]) -> Callable[..., R]:
    """Let a function refuse derivatives, where JAX would take them for zero."""
    function = jax.custom_jvp(function)

    @function.defjvp
    def refuse(primals: Any, tangents: Any) -> NoReturn:
        del primals, tangents
        raise TypeError(problem)

    return function
