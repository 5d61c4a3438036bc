"""Arguments: their ranges, and the call that an error speaks for.

A public function makes one `Call` and hands it down; every check below it speaks in the
words of that call. Numbers are checked once, by the function that the person called;
arrays, whose values `optax.inject_hyperparams` sets, are checked once at `init`. The
values of tracers are unknown, so only their kind is checked.
"""

import dataclasses
import functools
import inspect
import math
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, NamedTuple, ParamSpec, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

P = ParamSpec("P")
R = TypeVar("R")

NONFINITE = ("propagate", "hold")

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


class Range(NamedTuple):
    """The values that a number may have.

    Attributes:
      least: the smallest of them.
      below: what they must stay below.
      typical: a usual value that 16 bits may round out of the range.
      otherwise: what to do with a value outside the range.
    """

    least: float = 0.0
    below: float = math.inf
    typical: float | None = None
    otherwise: str = ""

    def __contains__(self, value: float) -> bool:
        return self.least <= value < self.below

    def __str__(self) -> str:
        if self.least == -math.inf:
            return "be finite"
        return f"lie in [{self.least:g}, {self.below:g})"


# By our names for the arguments; a number that is not here must be at least 0.
RANGES = {
    "learning_rate": Range(-math.inf),
    "decay": Range(0, 1, 0.9999, " For no decay use `optax.scale_by_rss`."),
    "eps": Range(typical=1e-8),
    "momentum": Range(0, 1, 0.9999),
    "seed": Range(-math.inf),
    **dict.fromkeys(("batch_size", "steps_per_epoch", "steps_per_update"), Range(1)),
    **dict.fromkeys(("total_steps", "total_updates", "total_timesteps"), Range(1)),
    **dict.fromkeys(("total_frames", "frames_per_update"), Range(1)),
}


_WITHOUT_EFFECT = {"lr_in_momentum": True}  # other flags are False by default
_PARAMETERS = {"params", "parameters", "parameter_list", "var_list"}


@dataclasses.dataclass(frozen=True)
class Call:
    """The function that a person called, and that function's words for our arguments.

    Attributes:
      name: the function, as one writes it after `rmsprop_jax.`
      words: pairs of our word and the word of the function, where they differ.
      injectable: whether `optax.inject_hyperparams` takes the function.
    """

    name: str
    words: tuple[tuple[str, str], ...] = ()
    injectable: bool = False

    def __str__(self) -> str:
        return self.name

    def word(self, argument: str) -> str:
        """Give the function's word for an argument of ours."""
        return dict(self.words).get(argument, argument)

    def given(self, method: str = "", /, **arguments: Any) -> str:
        """Write the call with some of its arguments; `...` stands for any value."""
        written = ", ".join(
            f"{self.word(name)}={'...' if value is ... else repr(value)}"
            for name, value in arguments.items()
        )
        return f"`{self.name}({written}){method}`"


def check_numbers(call: Call, **numbers: Any) -> None:
    """Refuse what is not a number, None too, and numbers outside their range."""
    for name, value in numbers.items():
        _check_kind(call, name, value)
        if not isinstance(value, jax.Array) and float(value) not in _range(name):
            raise ValueError(_out_of_range(call, name, value))


def check_learning_rate(call: Call, learning_rate: Any) -> None:
    """Refuse what is neither a number, which may have shape (1,), nor a schedule."""
    if not callable(learning_rate):
        if getattr(learning_rate, "shape", ()) == (1,):
            learning_rate = learning_rate[0]
        check_numbers(call, learning_rate=learning_rate)


def check_flags(call: Call, **flags: Any) -> None:
    """Refuse what is neither True nor False, such as a number in the wrong place."""
    for name, value in flags.items():
        if not isinstance(value, bool | np.bool_):
            raise TypeError(
                f"{call.given(**{name: ...})} must be True or False; got {value!r}. "
                "Pass arguments after the learning rate by name."
            )


def check_unused(call: Call, needed: str, **given: Any) -> None:
    """Refuse arguments that have no effect where `needed` is not given."""
    for name, value in given.items():
        if value is not None and value is not _WITHOUT_EFFECT.get(name, False):
            raise ValueError(
                f"{call.given(**{name: value})} has no effect without `{needed}`. Pass "
                f"`{needed}=...`, or leave `{name}` out."
            )


def check_arrays(call: Call, **numbers: Any) -> None:
    """Refuse arrays outside their range, or that rounding may have taken there.

    `optax.inject_hyperparams` casts numbers to the dtype of the parameters: the
    bfloat16 nearest to 0.999 is 1, the float16 nearest to 1e-8 is 0.
    """
    for name, value in numbers.items():
        if isinstance(value, jax.Array):
            _check_array(call, name, value)


def check_choice(call: Call, name: str, value: Any, choices: tuple[str, ...]) -> None:
    """Refuse a string that is not among the choices."""
    if value not in choices:
        raise ValueError(
            f"{call.given(**{name: ...})} must be one of "
            f"{', '.join(map(repr, choices))}; got {value!r}."
        )


def check_start(call: Call, initial_scale: Any, bias_correction: bool) -> None:
    """Refuse a start other than 0 with bias correction, where its value is known."""
    if bias_correction and not is_traced(initial_scale) and float(initial_scale):
        raise ValueError(
            f"{call.given(initial_scale=initial_scale, bias_correction=True)}: bias "
            "correction undoes a start at 0 and means nothing with another start. "
            "Drop one of the two."
        )


def check_state(
    call: Call, state: Any, kind: type, *, method: str = ".update", of: str = "params"
) -> None:
    """Refuse a state of another class, which `init(of)` does not return."""
    if not isinstance(state, kind):
        raise TypeError(
            f"`{call}{method}`: the state must be a `{kind.__name__}`, as `init` "
            f"returns it; got {type(state).__name__}. Restore a checkpoint into the "
            f"structure of `init({of})`, with the same options."
        )


@dataclasses.dataclass(frozen=True)
class Pasted:
    """Words that calls of an original have, and that the signature here does not have.

    Attributes:
      also: other words for arguments in the signature.
      inert: words that do not change the updates.
      refused: words that change them: the value without effect, which is taken, and
        what to do instead of another.
    """

    also: Mapping[str, str] = dataclasses.field(default_factory=dict)
    inert: Collection[str] = ()
    refused: Mapping[str, tuple[Any, str]] = dataclasses.field(default_factory=dict)


def cached(make: Callable[P, R], pasted: Pasted | None = None) -> Callable[P, R]:
    """Return the same transformation for the same arguments, if these can be hashed.

    An optax transformation is a pair of closures, equal only to itself: without this
    `jax.jit` would compile again for each new one. A call that does not fit the
    signature is refused with the word that does.
    """
    remembered: Any = functools.lru_cache(typed=True)(make)
    signature, pasted = inspect.signature(make), pasted or Pasted()
    call = Call(".".join([*make.__module__.split(".")[1:-1], make.__name__]))

    @functools.wraps(make)
    def made(*args: P.args, **kwargs: P.kwargs) -> R:
        given = _fitted(call, signature, pasted, args, kwargs)
        given.apply_defaults()  # so that all ways to write a call are one
        try:
            hash((given.args, *given.kwargs.values()))
        except TypeError:  # an array, or a mask
            return make(*given.args, **given.kwargs)
        return remembered(*given.args, **given.kwargs)

    return made


def is_traced(value: Any) -> bool:
    """Tell whether the value of a number is unknown until the program runs."""
    return isinstance(value, Tracer)


def _fitted(
    call: Call,
    signature: inspect.Signature,
    pasted: Pasted,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
) -> inspect.BoundArguments:
    """Return the arguments of a call under the names of the signature."""
    if _are_parameters(args) or _PARAMETERS & {*kwargs}:
        raise TypeError(
            f"`{call}(params, ...)`: leave the parameters out; `init(params)` of the "
            "result takes them."
        )
    words = _translated(call, pasted, kwargs)
    for word in words:
        if word not in signature.parameters:
            raise TypeError(_unknown(call, word, signature.parameters))
    try:
        return signature.bind(*args, **words)
    except TypeError as error:
        there = ", ".join(f"`{word}`" for word in signature.parameters)
        raise TypeError(f"`{call}(...)`: {error}. Its arguments are {there}.") from None


def _translated(
    call: Call, pasted: Pasted, kwargs: Mapping[str, Any]
) -> dict[str, Any]:
    """Return keywords in the words of the signature, without those of no effect."""
    words, written = {}, {}
    for word, value in kwargs.items():
        if word in pasted.refused:
            _check_without_effect(call, word, value, *pasted.refused[word])
        elif word not in pasted.inert:
            ours = pasted.also.get(word, word)
            if ours in words:
                both = call.given(**{written[ours]: ..., word: ...})
                raise TypeError(f"{both}: the two are one argument. Pass one of them.")
            words[ours], written[ours] = value, word
    return words


def _are_parameters(args: tuple[Any, ...]) -> bool:
    kinds = list | Mapping | Iterator
    return bool(args) and (isinstance(args[0], kinds) or type(args[0]) is tuple)


def _check_without_effect(
    call: Call, word: str, value: Any, without_effect: Any, instead: str
) -> None:
    known = value is None or isinstance(value, bool | int | float)
    if not (known and value in (None, without_effect)):
        raise TypeError(f"`{call}` has no argument `{word}`. {instead}")


def _unknown(call: Call, word: str, parameters: Collection[str]) -> str:
    meaning = OURS.get(word, word)
    for theirs in parameters:
        if OURS.get(theirs, theirs) == meaning:
            return f"`{call}` has no argument `{word}`; its word is `{theirs}`."
    there = ", ".join(f"`{theirs}`" for theirs in parameters)
    return f"`{call}` has no argument `{word}`. Its arguments are {there}."


def _range(name: str) -> Range:
    return RANGES.get(name, Range())


def _check_kind(call: Call, name: str, value: Any) -> None:
    if callable(value):
        scheduled = f"`optax.inject_hyperparams({call})(..., {call.word(name)}=...)`"
        way_out = f" To schedule it use {scheduled}." if call.injectable else ""
        raise TypeError(
            f"{call.given(**{name: ...})} must be a number; got a function.{way_out}"
        )
    if value is None or isinstance(value, bool) or not _is_scalar(value):
        raise TypeError(
            f"{call.given(**{name: ...})} must be a number or a scalar array; got "
            f"{value!r}."
        )


def _is_scalar(value: Any) -> bool:
    try:
        dtype, rank = jnp.result_type(value), jnp.ndim(value)
    except (TypeError, ValueError):
        return False
    real = jnp.issubdtype(dtype, jnp.floating) or jnp.issubdtype(dtype, jnp.integer)
    return real and rank == 0


def _check_array(call: Call, name: str, value: jax.Array) -> None:
    allowed, dtype, argument = _range(name), value.dtype, call.given(**{name: ...})
    typical, lossy, rounded = allowed.typical, False, None
    if typical is not None and jnp.issubdtype(dtype, jnp.floating):
        rounded = float(np.asarray(typical).astype(dtype))
        lossy = rounded <= 0 or rounded not in allowed
    if is_traced(value):
        problem = f"{argument} is a traced {dtype}, which cannot hold {typical}"
        if not lossy:
            return
        problem += ", and its value cannot be checked."
    elif float(value) not in allowed:
        problem = _out_of_range(call, name, value)
    elif lossy and float(value) == rounded:
        problem = f"{argument} is {value} in {dtype}, which cannot hold {typical}."
    else:
        return
    way_out = (
        " Under `optax.inject_hyperparams` pass `hyperparam_dtype=jnp.float32`: "
        f"otherwise it rounds numbers to the {dtype} of the parameters."
    )
    raise ValueError(problem + (way_out if lossy and call.injectable else ""))


def _out_of_range(call: Call, name: str, value: Any) -> str:
    allowed = _range(name)
    return (
        f"{call.given(**{name: ...})} must {allowed}; got {value}.{allowed.otherwise}"
    )
