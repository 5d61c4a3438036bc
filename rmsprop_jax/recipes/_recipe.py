"""A recipe: its numbers with their sources, its schedule, and how it is built.

`@recipe(...)` registers the numbers that stand above each function, and completes its
docstring from them. A number without a value is in no source that was found: it is an
argument of the function.
"""

import dataclasses
import inspect
import math
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from .._arguments import Call, cached, check_numbers
from ..dialects._clipping import clip_by_global_norm
from ..dialects._dialect import build_for

F = TypeVar("F", bound=Callable[..., Any])

CODE = "code"  # read in the authors' released code, or in the named port
PAPER = "paper"  # read in the text of the paper
REPORTED = "reported"  # said by others; the original was not found
NOT_GIVEN = "not given"  # in no source that was found


@dataclasses.dataclass(frozen=True)
class Number:
    """One number of a recipe.

    Attributes:
      name: our name for it.
      value: the number; None for one that the caller must give.
      status: `CODE`, `PAPER`, `REPORTED` or `NOT_GIVEN`.
      source: repository and file, or paper.
      note: anything else that a reader should know.
    """

    name: str
    value: float | None
    status: str
    source: str
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A published setting.

    Attributes:
      title: what was trained.
      dialect: the dialect that it uses, or "rmsprop".
      numbers: its numbers.
      outside: what belongs to the setting and is no part of an optimizer.
    """

    title: str
    dialect: str
    numbers: tuple[Number, ...]
    outside: str = ""

    def __getitem__(self, name: str) -> float:
        """Return the value of a number that has one."""
        return self.values()[name]

    def values(self) -> dict[str, float]:
        """Return the numbers that have a value."""
        return {x.name: x.value for x in self.numbers if x.value is not None}


RECIPES: dict[str, Recipe] = {}

_DOCSTRING = """\
Returns:
  An `optax.GradientTransformationExtraArgs`{params}.

Raises:
  ValueError, TypeError: for a number outside its range or of the wrong kind.

Source: {sources}
"""


def recipe(**facts: Any) -> Callable[[F], F]:
    """Register a function under its name as the recipe with these numbers."""

    def register(function: F) -> F:
        RECIPES[function.__name__] = found = Recipe(**facts)
        decays = "weight_decay" in found.values()
        sources = dict.fromkeys(number.source for number in found.numbers)
        text = inspect.cleandoc(function.__doc__ or "").rstrip()
        ending = _DOCSTRING.format(
            params="; its `update` needs the parameters" * decays,
            sources="; ".join(sources),
        )
        function.__doc__ = f"{text}\n\n{ending}"
        return cached(function)

    return register


def call_of(name: str, **numbers: Any) -> Call:
    """Return the call of a recipe, after a check of the numbers that it was given."""
    call = Call(f"recipes.{name}", injectable=True)
    check_numbers(call, **numbers)
    return call


def build(
    call: Call,
    arguments: dict[str, Any],
    learning_rate: Any,
    first: Iterable[optax.GradientTransformation] = (),
    **changes: Any,
) -> optax.GradientTransformationExtraArgs:
    """Make the transformation of a recipe.

    `arguments` are those of its function, with `storage`, `nonfinite` and `seed` among
    them; `changes` replace numbers of the recipe.
    """
    found = RECIPES[call.name.rpartition(".")[2]]
    numbers = found.values()
    if "max_norm" in numbers:
        first = [*first, clip_by_global_norm(numbers["max_norm"])]
    rule = {k: numbers[k] for k in ("decay", "eps", "momentum") if k in numbers}
    kept = {k: arguments[k] for k in ("storage", "nonfinite", "seed")}
    given = {**rule, **kept, **changes}
    return build_for(call, found.dialect, first, learning_rate=learning_rate, **given)


def staircase(
    found: Recipe, steps_per_epoch: ArrayLike, first: ArrayLike
) -> optax.Schedule:
    """Multiply the rate by a factor every few epochs, after a linear warm-up."""
    numbers, steps = found.values(), as_float(steps_per_epoch)
    every = numbers["epochs_per_factor"] * steps
    warmup = numbers.get("warmup_epochs", 0.0) * steps
    warmup = jnp.floor(warmup) if isinstance(warmup, Array) else math.floor(warmup)

    def rate(count: Any) -> Float[Array, ""]:
        step = jnp.asarray(count, float)
        decayed = numbers["rate_factor"] ** jnp.floor(step / every)
        rising = step / jnp.maximum(jnp.asarray(warmup, float), 1.0)
        return first * jnp.where(step < warmup, rising, decayed)

    return rate


def linear(
    first: ArrayLike,
    total: ArrayLike,
    per_update: ArrayLike = 1.0,
    offset: ArrayLike = 0.0,
) -> optax.Schedule:
    """Fall to 0 at `total`, by `per_update` per update, read `offset` further on."""
    first, total, per_update, offset = map(as_float, (first, total, per_update, offset))

    def rate(count: Any) -> Float[Array, ""]:
        done = (jnp.asarray(count, float) * per_update + offset) / total
        return first * jnp.maximum(1 - done, 0.0)

    return rate


def as_float(x: ArrayLike) -> Any:
    """Return a float: JAX would take a Python int for an int32, which 5e9 is not."""
    return jnp.asarray(x, float) if isinstance(x, jax.Array) else float(x)  # pyright: ignore
