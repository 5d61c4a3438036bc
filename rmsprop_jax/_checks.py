"""Arguments checked where they are given; what is traced is left alone."""

import math
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike

R = TypeVar("R")


def check_number(
    call: str,
    name: str,
    value: Any,
    *,
    at_least: float = 0.0,
    below: float = math.inf,
    hint: str = "",
) -> None:
    """Refuse what is not a number in [at_least, below)."""
    if callable(value):
        raise TypeError(
            f"`{call}({name}=...)` must be a number; got a function. To schedule it "
            f"use `optax.inject_hyperparams({call})(..., {name}=...)`."
        )
    if isinstance(value, bool) or not _is_scalar(value):
        raise TypeError(
            f"`{call}({name}=...)` must be a number or a scalar array; got {value!r}."
        )
    if not isinstance(value, jax.Array) and not at_least <= float(value) < below:
        raise ValueError(_out_of_range(call, name, value, at_least, below) + hint)


def check_injected(call: str, name: str, value: ArrayLike, *, below: float) -> None:
    """Refuse an array that rounding has taken out of [0, below).

    `optax.inject_hyperparams` casts to the dtype of the parameters; in bfloat16 the
    nearest to 0.999 is 1.0.
    """
    if not isinstance(value, jax.Array):
        return
    is_float = jnp.issubdtype(value.dtype, jnp.floating)  # an injected int stays one
    narrow = is_float and jnp.finfo(value.dtype).bits < 32
    if is_traced(value):
        if not narrow:
            return
        problem = (
            f"`{call}({name}=...)` is a traced {value.dtype}, which cannot hold e.g. "
            "0.999 and cannot be checked."
        )
    elif np.all((np.asarray(value, float) >= 0) & (np.asarray(value, float) < below)):
        return
    else:
        problem = _out_of_range(call, name, value, 0.0, below)
    hint = (
        f" Under `optax.inject_hyperparams` pass `hyperparam_dtype=jnp.float32`: it "
        f"rounds numbers to the {value.dtype} of the parameters otherwise."
    )
    raise ValueError(problem + (hint if narrow else ""))


def check_choice(call: str, name: str, value: Any, choices: tuple[str, ...]) -> None:
    """Refuse a string that is not among the choices."""
    if value not in choices:
        raise ValueError(
            f"`{call}({name}=...)` must be one of {', '.join(map(repr, choices))}; "
            f"got {value!r}."
        )


def undifferentiable(problem: str, function: Callable[..., R]) -> Callable[..., R]:
    """Let a function refuse derivatives, where JAX would take them for zero."""
    function = jax.custom_jvp(function)

    @function.defjvp
    def refuse(primals: Any, tangents: Any) -> NoReturn:
        del primals, tangents
        raise TypeError(problem)

    return function


def is_traced(value: Any) -> bool:
    """Tell whether the value of a number is unknown until it runs."""
    return isinstance(value, Tracer)


def _is_scalar(value: Any) -> bool:
    try:
        dtype, rank = jnp.result_type(value), jnp.ndim(value)
    except (TypeError, ValueError):
        return False
    real = jnp.issubdtype(dtype, jnp.floating) or jnp.issubdtype(dtype, jnp.integer)
    return real and rank == 0


def _out_of_range(
    call: str, name: str, value: Any, at_least: float, below: float
) -> str:
    allowed = f"[{at_least:g}, {below:g})"
    return f"`{call}({name}=...)` must lie in {allowed}; got {value}."
