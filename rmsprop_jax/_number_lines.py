"""A float32 as a 16-bit float and the residual that this lacks.

Float32 values are numbered in their order by int32, zero by 0, so that the values of
the 16-bit type have the multiples of 2**16. For bfloat16 the number is the bits of
float32, negated where the sign is. For float16 it has three bits more than float32, and
below the smallest normal value of float16 it counts steps of 2**-40.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Float32, Int, Int32, UInt32

RESIDUALS = {24: jnp.int8, 32: jnp.int16}  # by the bits of value and residual

_INFINITY = 0x7F800000  # the bits of float32
_REBIAS = 112 << 23  # from the exponent of float16 to that of float32
_STEP = 2.0**-40


class Halves(NamedTuple):
    """A 16-bit float, or the float32 step that leads to it, and its residual."""

    value: Float[Array, "*shape"]
    residual: Int[Array, "*shape"]


def join(
    p: Float[Array, "*shape"], residual: Int[Array, "*shape"]
) -> Float32[Array, "*shape"]:
    """Give the float32 that was split."""
    shift = 16 - 8 * residual.dtype.itemsize
    number = _number(p.astype(jnp.float32), p.dtype)
    return _value(number + (residual.astype(jnp.int32) << shift), p.dtype)


def split(w: Float32[Array, "*shape"], dtype: DTypeLike, bits: int) -> Halves:
    """Split a float32, rounded to nearest."""
    number = _shorten(_number(w, dtype), bits, jnp.uint32(1 << 31))
    landed = _nearest(number)
    p = _value(landed, dtype).astype(dtype)
    return Halves(p, _residual(number, landed, bits))


def move(
    p: Float[Array, "*shape"],
    w: Float32[Array, "*shape"],
    bits: int,
    random: UInt32[Array, "*shape"],
) -> Halves:
    """Give the float32 step from `p` to `w` in 16 bits, and what is left of `w`.

    Rounded by 32 random bits an element. Where `p` is far larger than `w` the step is
    rounded too; the residual is of where `p + step` lands.
    """
    number = _shorten(_number(w, p.dtype), bits, random)
    wide = p.astype(jnp.float32)
    step = _value(_nearest(number), p.dtype) - wide
    landed = _nearest(_number(wide + step, p.dtype))
    return Halves(step, _residual(number, landed, bits))


def _number(x: Float32[Array, "*shape"], dtype: DTypeLike) -> Int32[Array, "*shape"]:
    """Number float32 values; finite ones stay below what rounds to inf."""
    magnitude = lax.bitcast_convert_type(jnp.abs(x), jnp.int32)
    number = magnitude
    if dtype == jnp.float16:
        normal = (jnp.minimum(magnitude, 143 << 23) - _REBIAS) << 3
        small = jnp.round(jnp.minimum(jnp.abs(x), 1.0) / _STEP).astype(jnp.int32)
        number = jnp.where(magnitude < 113 << 23, small, normal)
    infinity = _upper_half(jnp.inf, dtype)
    number = jnp.minimum(number, infinity - 0x8100)
    number = jnp.where(magnitude < _INFINITY, number, infinity)
    number = jnp.where(magnitude > _INFINITY, _upper_half(jnp.nan, dtype), number)
    return jnp.where(jnp.signbit(x), -number, number)


def _value(
    number: Int32[Array, "*shape"], dtype: DTypeLike
) -> Float32[Array, "*shape"]:
    """Give the float32 of a number."""
    magnitude = jnp.abs(number)
    if dtype == jnp.float16:
        special = magnitude >= _upper_half(jnp.inf, dtype)
        pattern = (magnitude >> 3) + jnp.where(special, 2 * _REBIAS, _REBIAS)
        small = magnitude.astype(jnp.float32) * _STEP
        normal = lax.bitcast_convert_type(pattern, jnp.float32)
        x = jnp.where(magnitude < 1 << 26, small, normal)
    else:
        x = lax.bitcast_convert_type(magnitude, jnp.float32)
    return jnp.where(number < 0, -x, x)


def _shorten(
    number: Int32[Array, "*shape"], bits: int, random: UInt32[Array, "..."]
) -> Int32[Array, "*shape"]:
    """Round to what a 16-bit value and its residual can hold."""
    if bits == 32:
        return number
    return ((number + (random >> 24).astype(jnp.int32)) >> 8) << 8


def _nearest(number: Int32[Array, "*shape"]) -> Int32[Array, "*shape"]:
    """Round to the number of a 16-bit value."""
    return ((number + 0x8000) >> 16) << 16


def _residual(
    number: Int32[Array, "*shape"], landed: Int32[Array, "*shape"], bits: int
) -> Int[Array, "*shape"]:
    away = jnp.clip(number - landed, -0x8000, 0x7FFF)
    return (away >> (32 - bits)).astype(RESIDUALS[bits])


def _upper_half(x: float, dtype: DTypeLike) -> int:
    """Number inf or NaN: the bits of the 16-bit type above 16 zeros."""
    return int(np.asarray(x, dtype).view(np.int16)) << 16
