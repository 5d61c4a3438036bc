"""A dialect: what it fixes, where that was read, and how it becomes an `rmsprop`.

`@dialect(...)` registers the facts that stand above each function of a family, and
completes its docstring from them. The defaults are in the function's signature.
"""

import dataclasses
import inspect
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import jax
import optax

from .._arguments import Call, cached
from .._rmsprop import rmsprop_chain
from .._rule import Rule
from ._complex_pairs import as_pairs

F = TypeVar("F", bound=Callable[..., Any])

# The words of the frameworks for our arguments; other words are the same as ours.
OURS = {
    "lr": "learning_rate",
    "step_size": "learning_rate",
    "alpha": "decay",
    "rho": "decay",
    "gamma": "decay",
    "beta2": "decay",
    "epsilon": "eps",
    "wc": "weight_decay",
    "decoupled_decay": "decoupled_weight_decay",
}

NOT_RUN = "read, not run"


@dataclasses.dataclass(frozen=True)
class Dialect:
    """The RMSProp of one framework or paper, without the numbers of a call.

    Attributes:
      framework: the framework, or the author and year.
      original: the name of the optimizer there.
      initial_scale: `s` before the first step.
      eps_in_sqrt: whether eps is under the root; None where momentum decides.
      lr_in_momentum: whether the buffer accumulates steps; None without momentum.
      centered: True for always, False for never, None where the call decides.
      weight_decay: "coupled", "decoupled", "either" where the call decides, or "none".
      source: repository and file, or publication.
      verified: the version that recorded runs were made with, or `NOT_RUN`.
      surprise: one sentence on what its users do not expect.
      complex_as_parts: whether the parts of a complex parameter are two parameters.
    """

    framework: str
    original: str
    initial_scale: float
    eps_in_sqrt: bool | None
    lr_in_momentum: bool | None
    centered: bool | None
    weight_decay: str
    source: str
    verified: str
    surprise: str
    complex_as_parts: bool = False


DIALECTS: dict[str, Dialect] = {}

_RESULT = """\
Returns:
  An `optax.GradientTransformationExtraArgs`.

Raises:
  ValueError, TypeError: as `rmsprop`, in the words of this call."""


def dialect(**facts: Any) -> Callable[[F], F]:
    """Register a function under its name as the dialect with these facts."""

    def register(function: F) -> F:
        DIALECTS[function.__name__] = registered = Dialect(**facts)
        text = inspect.cleandoc(function.__doc__ or "").rstrip()
        text, heading, example = text.partition("\n\nExample:\n")
        parts = (text, _RESULT, f"{heading.strip()}\n{example}" if example else "")
        source = f"Source: {registered.source}"
        function.__doc__ = "\n\n".join(filter(None, (*parts, source)))
        return cached(function)

    return register


def build(
    name: str,
    arguments: dict[str, Any],
    first: Iterable[optax.GradientTransformation] = (),
    **switches: bool,
) -> optax.GradientTransformationExtraArgs:
    """Make the transformation of a dialect from the arguments of its function."""
    words = tuple((OURS.get(word, word), word) for word in arguments)
    call = Call(f"dialects.{name}", words, injectable=True)
    ours = {OURS.get(word, word): value for word, value in arguments.items()}
    return build_for(call, name, first, **{**ours, **switches})


def build_for(
    call: Call,
    name: str,
    first: Iterable[optax.GradientTransformation] = (),
    *,
    learning_rate: Any,
    decay: Any,
    eps: Any,
    eps_in_sqrt: bool | None = None,
    centered: bool | None = None,
    momentum: Any = None,
    weight_decay: Any = None,
    **others: Any,
) -> optax.GradientTransformationExtraArgs:
    """Make the transformation of a dialect for another call, in our names."""
    facts = DIALECTS[name]
    if eps_in_sqrt is None:
        eps_in_sqrt = bool(facts.eps_in_sqrt)
    if centered is None:
        centered = bool(facts.centered)
    fixed = dict(
        initial_scale=facts.initial_scale,
        lr_in_momentum=bool(facts.lr_in_momentum),
        decoupled_weight_decay=facts.weight_decay == "decoupled",
    )
    tx = rmsprop_chain(
        call,
        learning_rate,
        Rule(decay, eps, eps_in_sqrt, centered, bias_correction=False),
        momentum=none_if_zero(momentum),
        weight_decay=none_if_zero(weight_decay),
        first=first,
        **{**fixed, **others},
    )
    return as_pairs(tx) if facts.complex_as_parts else tx


def none_if_zero(number: Any) -> Any:
    """Return None for a number that is 0; an array may be any number."""
    return None if not isinstance(number, jax.Array) and number == 0 else number
