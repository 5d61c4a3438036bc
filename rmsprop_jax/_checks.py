"""Arguments checked where they are given; what is traced is left alone."""

import math
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

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


# Where their range ends, if it does; and what 16 bits may round to an end of it.
BELOW = {"decay": 1.0, "momentum": 1.0}
_FINE = {"decay": 0.9999, "momentum": 0.9999, "eps": 1e-8}


def check_injected(call: str, name: str, value: Any, ours: str = "") -> None:
    """Refuse an array that is out of its range, or that rounding may have taken there.

    `optax.inject_hyperparams` casts to the dtype of the parameters: in bfloat16 the
    nearest to 0.999 is 1, in float16 the nearest to 1e-8 is 0. `ours` is the name of
    the argument in `rmsprop`, where a dialect has another.
    """
    if not isinstance(value, jax.Array):
        return
    dtype, below = value.dtype, BELOW.get(ours or name, math.inf)
    fine = _FINE.get(ours or name) if jnp.issubdtype(dtype, jnp.floating) else None
    rounded = None if fine is None else float(np.asarray(fine).astype(dtype))
    lossy = rounded is not None and not 0 < rounded < below
    if is_traced(value):
        if not lossy:
            return
        problem = (
            f"`{call}({name}=...)` is a traced {dtype}, which cannot hold e.g. {fine} "
            "and cannot be checked."
        )
    elif not 0 <= float(value) < below:
        problem = _out_of_range(call, name, value, 0.0, below)
    elif lossy and float(value) == rounded:
        problem = (
            f"`{call}({name}=...)` is {value} in {dtype}, which cannot hold e.g. "
            f"{fine}."
        )
    else:
        return
    hint = (
        f" Under `optax.inject_hyperparams` pass `hyperparam_dtype=jnp.float32`: it "
        f"rounds numbers to the {dtype} of the parameters otherwise."
    )
    raise ValueError(problem + (hint if lossy else ""))


def check_state(call: str, state: Any, kind: type) -> None:
    """Refuse what is not a state of `kind`."""
    if not isinstance(state, kind):
        raise TypeError(
            f"`{call}.update`: the state must be of kind `{kind.__name__}`, as `init` "
            f"gives; got {type(state).__name__}. A checkpoint is restored into the "
            "structure of `init(params)`, of the same options."
        )


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
    allowed = (
        f"lie in [{at_least:g}, {below:g})" if at_least > -math.inf else "be finite"
    )
    return f"`{call}({name}=...)` must {allowed}; got {value}."
