"""A recipe: its numbers with their sources, its schedule, and how it is built.

`@recipe(...)` stands above the function of a recipe with the numbers, registers them,
and completes the docstring of the function from them. A number that no source gives has
no value here, and is an argument of the function.
"""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from .._arguments import Call, cached, check_arrays, check_numbers
from ..dialects._clipping import clip_by_global_norm
from ..dialects._dialect import DIALECTS, OPTIONS, build_for, complete_docstring

F = TypeVar("F", bound=Callable[..., Any])

CODE = "code"  # in the authors' released code, or in the named port
PAPER = "paper"  # in the text of the paper
REPORTED = "reported"  # said by others; the original was not found
NOT_GIVEN = "not given"  # in no source that was found


@dataclasses.dataclass(frozen=True)
class Number:
    """One number of a recipe.

    Attributes:
      name: our name for it.
      value: the number; None for one that the caller must give.
      status: `CODE`, `PAPER`, `REPORTED` or `NOT_GIVEN`.
      source: repository and file, or paper; two are separated by a semicolon.
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
      function: the public function.
      title: what was trained.
      dialect: the dialect that it uses, or "rmsprop".
      numbers: its numbers.
      outside: what belongs to the setting and is no part of an optimizer.
    """

    function: Callable[..., optax.GradientTransformationExtraArgs]
    title: str
    dialect: str
    numbers: tuple[Number, ...]
    outside: str = ""

    def __getitem__(self, name: str) -> float:
        """Return the value of a number that has one."""
        return self.values[name]

    @property
    def values(self) -> dict[str, float]:
        """The numbers that have a value."""
        return {x.name: x.value for x in self.numbers if x.value is not None}

    @property
    def sources(self) -> str:
        """The sources of the numbers, each once."""
        named = "; ".join(number.source for number in self.numbers)
        return "; ".join(dict.fromkeys(named.split("; ")))

    @property
    def rule(self) -> str:
        """The function that it is built on."""
        return self.dialect if self.dialect == "rmsprop" else f"dialects.{self.dialect}"


class Given(NamedTuple):
    """A call of a recipe, after a check of the numbers among its arguments."""

    call: Call
    recipe: Recipe
    arguments: dict[str, Any]


RECIPES: dict[str, Recipe] = {}

_RESULT = """\
Returns:
  An `optax.GradientTransformationExtraArgs`{params}.

Raises:
  ValueError, TypeError: for a number outside its range or of the wrong kind."""
_WORDS = (("first_rate", "learning_rate"),)  # the rate that a schedule starts from


def recipe(**facts: Any) -> Callable[[F], F]:
    """Register a function under its name as the recipe with these numbers."""

    def register(function: F) -> F:
        made = cached(function)
        RECIPES[function.__name__] = found = Recipe(made, **facts)
        decays = "weight_decay" in found.values
        result = _RESULT.format(params="; its `update` needs the parameters" * decays)
        made.__doc__ = complete_docstring(function, result, found.sources)
        return made  # pyright: ignore

    return register


def checked(name: str, arguments: dict[str, Any], *numbers: str) -> Given:
    """Check those arguments of a recipe that its schedule or its eps are made from.

    Arrays too are checked here, because they do not reach the check at `init`.
    """
    call = Call(f"recipes.{name}", _WORDS, injectable=True)
    given = {number: arguments[call.word(number)] for number in numbers}
    check_numbers(call, **given)
    check_arrays(call, **given)
    return Given(call, RECIPES[name], arguments)


def build(
    given: Given,
    learning_rate: Any = None,
    first: Iterable[optax.GradientTransformation] = (),
    **changes: Any,
) -> optax.GradientTransformationExtraArgs:
    """Make the transformation of a recipe.

    The learning rate is that of the recipe if none is given; `first` are links before
    clipping; `changes` replace numbers of the recipe.
    """
    call, found, arguments = given
    if learning_rate is None:
        learning_rate = found["learning_rate"]
    if "max_norm" in found.values:
        first = [*first, clip_by_global_norm(found["max_norm"])]
    numbers = {x: found[x] for x in ("decay", "eps", "momentum") if x in found.values}
    options = {option: arguments[option] for option in OPTIONS}
    given_or_changed = {**numbers, **options, **changes, "learning_rate": learning_rate}
    return build_for(call, DIALECTS[found.dialect], first, **given_or_changed)


def staircase(
    found: Recipe, steps_per_epoch: ArrayLike, first: ArrayLike
) -> optax.Schedule:
    """Return a rate that falls by a factor every few epochs, after a linear warm-up."""
    peak, steps = as_float(first), as_float(steps_per_epoch)
    every = found["epochs_per_factor"] * steps
    warmup = found.values.get("warmup_epochs", 0.0) * steps
    warmup = jnp.floor(warmup) if isinstance(warmup, Array) else float(warmup // 1)

    def rate(count: Any) -> Float[Array, ""]:
        step = jnp.asarray(count, float)
        decayed = found["rate_factor"] ** jnp.floor(step / every)
        rising = step / jnp.maximum(warmup, 1.0)
        return peak * jnp.where(step < warmup, rising, decayed)

    return rate


def linear(
    first: ArrayLike,
    total: ArrayLike,
    per_update: ArrayLike = 1.0,
    offset: ArrayLike = 0.0,
) -> optax.Schedule:
    """Return a rate that falls linearly from `first` to 0 at `total`.

    Each update advances it by `per_update`, and uses the rate `offset` after its start.
    """
    start, end, advance, ahead = map(as_float, (first, total, per_update, offset))

    def rate(count: Any) -> Float[Array, ""]:
        done = (jnp.asarray(count, float) * advance + ahead) / end
        return start * jnp.maximum(1 - done, 0.0)

    return rate


def as_float(x: ArrayLike) -> Any:
    """Return a float: JAX would take a Python int for an int32, which 5e9 is not."""
    return jnp.asarray(x, float) if isinstance(x, jax.Array) else float(x)  # pyright: ignore
