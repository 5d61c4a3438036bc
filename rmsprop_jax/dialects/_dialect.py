"""A dialect: its facts, and how they become an RMSProp.

`@dialect(...)` stands above the function of a dialect with the facts, registers them,
and completes the docstring of the function from them. The names of the arguments, their
order and their defaults are in the signature of the function.
"""

import dataclasses
import functools
import inspect
import textwrap
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, TypeVar

import jax
import numpy as np
import optax

from .._arguments import OURS, Call, Pasted, cached, check_unused
from .._rmsprop import Mask, rmsprop_chain
from .._rule import Rule
from ._complex_pairs import as_pairs, of_whole_leaves

F = TypeVar("F", bound=Callable[..., Any])

OPTIONS = ("storage", "nonfinite", "seed")  # every dialect and every recipe has these
NOT_RUN = "not run"


@dataclasses.dataclass(frozen=True)
class Dialect:
    """The RMSProp of one framework or paper, without the numbers of a call.

    Attributes:
      function: the public function.
      framework: the framework, or the author and year.
      original: the name of the optimizer there.
      initial_scale: `s` before the first step.
      eps_in_sqrt: whether eps is under the root; None where that is so with momentum
        and not without.
      lr_in_momentum: whether the buffer accumulates steps; None without momentum.
      centered: True for always, False for never, None where the call decides.
      weight_decay: "coupled", "decoupled", "either" where the call decides, or "none".
      source: repository and file, or publication.
      verified: the version that recorded runs were made with, or `NOT_RUN`.
      surprise: one sentence on what its users may not expect.
      complex_as_parts: whether the parts of a complex parameter are two parameters.
      eps_of_zero: what an eps of 0 means there.
      eps_of_none: what an eps of None means there; None where that is an error.
    """

    function: Callable[..., optax.GradientTransformationExtraArgs]
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
    eps_of_zero: float = 0.0
    eps_of_none: float | None = None

    @property
    def name(self) -> str:
        return self.function.__name__

    @functools.cached_property
    def parameters(self) -> Mapping[str, inspect.Parameter]:
        return inspect.signature(self.function).parameters

    @functools.cached_property
    def call(self) -> Call:
        """The call that errors speak for."""
        words = tuple((OURS[word], word) for word in self.parameters if word in OURS)
        return Call(f"dialects.{self.name}", words, injectable=True)

    @functools.cached_property
    def defaults(self) -> dict[str, Any]:
        """The defaults under our names, without the arguments that have none."""
        return {
            OURS.get(word, word): parameter.default
            for word, parameter in self.parameters.items()
            if parameter.default is not parameter.empty
        }


DIALECTS: dict[str, Dialect] = {}

_RESULT = """\
Returns:
  An `optax.GradientTransformationExtraArgs`.

Raises:
  ValueError, TypeError: for an argument outside its range or of the wrong kind."""


def dialect(pasted: Pasted | None = None, **facts: Any) -> Callable[[F], F]:
    """Register a function under its name as the dialect with these facts."""

    def register(function: F) -> F:
        made = cached(function, pasted)
        DIALECTS[function.__name__] = found = Dialect(made, **facts)
        made.__doc__ = complete_docstring(function, _RESULT, found.source)
        return made  # pyright: ignore

    return register


def complete_docstring(function: Callable[..., Any], result: str, source: str) -> str:
    """Add what a function returns and raises, before its example, and its source."""
    text = inspect.cleandoc(function.__doc__ or "")
    text, heading, example = text.partition("\n\nExample:\n")
    source = textwrap.fill(
        f"Source: {source}",
        width=84,
        subsequent_indent="  ",
        break_long_words=False,
        break_on_hyphens=False,
    )
    return f"{text}\n\n{result}{heading}{example}\n\n{source}\n"


def written_signature(name: str, function: Callable[..., Any]) -> str:
    """Write a function with its own arguments, without `OPTIONS`."""
    words, starred = [], False
    for key, parameter in inspect.signature(function).parameters.items():
        if key in OPTIONS:
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and not starred:
            words, starred = [*words, "*"], True
        required = parameter.default is parameter.empty
        words.append(key if required else f"{key}={parameter.default!r}")
    return f"{name}({', '.join(words)})"


def build(
    name: str,
    arguments: dict[str, Any],
    first: Iterable[optax.GradientTransformation] = (),
    apart: Collection[str] = (),
    **fixed: Any,
) -> optax.GradientTransformationExtraArgs:
    """Make the transformation of a dialect from the arguments of its function.

    `first` are links before RMSProp, made from the arguments that `apart` names.
    `fixed` are arguments of ours that the dialect does not have.
    """
    facts = DIALECTS[name]
    meant = {word: _meant(facts, word, value) for word, value in arguments.items()}
    given = {k: value for k, value in meant.items() if k not in apart}
    ours = {OURS.get(word, word): value for word, value in given.items()}
    return build_for(facts.call, facts, first, **ours, **fixed)


def build_for(
    call: Call,
    facts: Dialect,
    first: Iterable[optax.GradientTransformation] = (),
    *,
    learning_rate: Any,
    decay: Any,
    eps: Any,
    centered: bool | None = None,
    momentum: Any = None,
    weight_decay: Any = None,
    weight_decay_mask: Mask = None,
    **others: Any,
) -> optax.GradientTransformationExtraArgs:
    """Make the transformation of a dialect from our arguments, in the words of `call`.

    `others` are arguments of `rmsprop_chain`, and replace those that the facts fix.
    """
    momentum, in_sqrt = none_if_zero(momentum), facts.eps_in_sqrt
    weight_decay = none_if_zero(weight_decay)
    if weight_decay is None:
        needed = call.word("weight_decay")
        check_unused(call, needed, weight_decay_mask=weight_decay_mask)
    if facts.complex_as_parts:
        weight_decay_mask = of_whole_leaves(weight_decay_mask)
    if in_sqrt is None:
        in_sqrt = momentum is not None
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
        Rule(decay, eps, in_sqrt, centered, bias_correction=False),
        momentum=momentum,
        weight_decay=weight_decay,
        weight_decay_mask=weight_decay_mask,
        first=first,
        **{**fixed, **others},
    )
    return as_pairs(call, tx) if facts.complex_as_parts else tx


def none_if_zero(number: Any) -> Any:
    """Return None for a number that is 0; an array of JAX may have any value."""
    known = not isinstance(number, jax.Array | bool) and np.ndim(number) == 0
    return None if known and number == 0 else number


def _meant(facts: Dialect, word: str, value: Any) -> Any:
    """Return what a value means in the framework; refuse a None without a meaning."""
    if value is None and word == facts.call.word("eps") and facts.eps_of_none:
        return facts.eps_of_none
    default = facts.parameters[word].default
    if value is None and default not in (None, inspect.Parameter.empty):
        raise TypeError(
            f"{facts.call.given(**{word: ...})} must not be None. Leave it out for the "
            f"default, {default!r}."
        )
    return value
