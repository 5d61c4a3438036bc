"""The state dict of a PyTorch optimizer, parsed.

Everything here works on tensors as on NumPy arrays, and imports no torch.
"""

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from .._arguments import Call
from ._checkpoints import NESTED, bare_names, known_name, some
from ._layout import owned, shown, to_numpy, whole
from ._mapping import MISSHAPEN, MISSING, UNEXPECTED, Places, Problem, parse_mapping
from ._moments import Moments, Picture

Group = Mapping[str, Any]

_WORDS = ("square_avg", "grad_avg", "momentum_buffer")
_BITSANDBYTES = ("state1", "grad_avg", "momentum_buffer")  # it has only the first
_NUMBERS = ("lr", "alpha", "eps", "weight_decay", "momentum")
_SWITCHES = ("centered", "maximize", "decoupled_decay", "lr_in_momentum")
_UNKNOWN = ("caution", "corrected_weight_decay")  # of timm
# Of other optimizers; a group may have keys of the user, which RMSprop does not read.
_FOREIGN = frozenset(
    "amsgrad dampening nesterov rho lr_decay initial_accumulator_value etas step_sizes "
    "lambd t0 momentum_decay beta2_decay decoupled_weight_decay t_alpha max_iter "
    "history_size ns_steps ns_coefficients decay_rate relative_step".split()
)
_STATES = frozenset("exp_avg exp_avg_sq exp_inf state2 sum acc_delta prev".split())
_ADVICE = (
    "Compare `interop.torch.options(state_dict)` with what the transformation was "
    "built with, and the mapping with the names of the parameters. Nothing was changed."
)
_NAMES = (
    "[[{p: name for name, p in model.named_parameters()}[p] for p in group['params']] "
    "for group in optimizer.param_groups]"
)


def group_options(
    call: Call, state_dict: Mapping[str, Any], group: int | None
) -> dict[str, Any]:
    """Return the hyperparameters of one group, or of all if they are equal."""
    kept = (own for own in state_dict["state"].values() if isinstance(own, Mapping))
    foreign = sorted({word for own in kept for word in own} & _STATES)
    if foreign:
        raise ValueError(
            f"`{call}`: the state is that of another optimizer than RMSprop; it has "
            f"{some(foreign)}."
        )
    groups = state_dict["param_groups"]
    every = [_options(call, own, number) for number, own in enumerate(groups)]
    if group is not None:
        if group not in range(len(every)):
            allowed = ", ".join(map(str, range(len(every))))
            raise ValueError(
                f"{call.given(group=...)} must be one of {allowed}; got {group!r}."
            )
        return every[group]
    values = {key: [own.get(key) for own in every] for own in every for key in own}
    differing = [f"{key} {x}" for key, x in values.items() if x.count(x[0]) < len(x)]
    if differing:
        raise ValueError(
            f"{call.given(group=...)}: the {len(every)} groups differ in "
            f"{' and '.join(differing)}. Pass `group`, the number of one, to build a "
            "transformation for each: `optax.partition({str(k): dialects.torch("
            f"**interop.torch.options(state_dict, k)) for k in range({len(every)})}}, "
            "interop.torch.group_labels(state_dict, params, mapping))`."
        )
    return every[0]


def _options(call: Call, group: Group, number: int) -> dict[str, Any]:
    """Return the hyperparameters of one group, in the words of its dialect."""
    of_bitsandbytes = "betas" in group and not {"foreach", "maximize"} & {*group}
    foreign = [key for key in _UNKNOWN if group.get(key)]
    foreign += [key for key in group if key in _FOREIGN]
    foreign += ["betas"] if "betas" in group and not of_bitsandbytes else []
    if foreign:
        raise ValueError(
            f"`{call}`: no dialect of RMSProp has {' or '.join(foreign)}, which group "
            f"{number} has. Pass the state of another optimizer, or take it out."
        )
    if of_bitsandbytes:  # which takes a momentum, and never uses it
        betas = group["betas"]
        group = {
            **group,
            "alpha": betas[0] if isinstance(betas, tuple | list) and betas else betas,
        }
    numbers = {key: _number(call, group, key) for key in _NUMBERS if key in group}
    return numbers | {key: bool(group[key]) for key in _SWITCHES if key in group}


def _number(call: Call, group: Group, key: str) -> float:
    """Return a number of a group, which may be a tensor."""
    try:
        return float(to_numpy(group.get(key, 0.0)).reshape(()))
    except (TypeError, ValueError):
        raise ValueError(
            f"`{call}`: {key!r} of each parameter group must be a number; got "
            f"{group[key]!r}."
        ) from None


def parameter_names(
    call: Call, groups: Sequence[Group], names: Any, places: Places
) -> list[dict[Any, str]]:
    """Name the parameters by their keys in the state, for each group."""
    sizes, given = [len(group["params"]) for group in groups], _lists(names)
    named = [_saved_names(group) for group in groups]
    if sizes != [len(own) for own in named]:
        named = given
    elif names is not None and _flat(given) != _flat(named):
        raise ValueError(
            f"{call.given(names=...)}: the groups have names of their own, "
            f"{some(_flat(named))}; got {some(_flat(given))}. Leave `names` out."
        )
    if sizes != [len(own) for own in named]:
        raise ValueError(_nameless(call, sizes, given))
    flat = _flat(named)
    twice = sorted({name for name in flat if flat.count(name) > 1})
    if twice:
        raise ValueError(
            f"{call.given(names=...)}: two parameters have the name {some(twice)}."
        )
    return [
        {
            key: known_name(name, places)
            for key, name in zip(group["params"], own, strict=True)
        }
        for group, own in zip(groups, named, strict=True)
    ]


def parse(
    call: Call, state_dict: Mapping[str, Any], mapping: Mapping[str, Any], names: Any
) -> Picture:
    """Parse what PyTorch, timm or bitsandbytes saves of an optimizer."""
    groups, places = state_dict["param_groups"], parse_mapping(call, mapping)
    named = parameter_names(call, groups, names, places)
    words = _BITSANDBYTES if any("betas" in group for group in groups) else _WORDS
    every = {key: name for own in named for key, name in own.items()}
    moments, step, stateless, problems = _moments(state_dict["state"], every, words)
    wanted, inside = {word: {} for word in words}, {}
    for group, own in zip(groups, named, strict=True):
        with_momentum = _number(call, group, "momentum") > 0
        kept = (True, group.get("centered"), with_momentum)
        for word in itertools.compress(words, kept):
            wanted[word] |= dict.fromkeys(own.values())
        for place in filter(None, map(places.get, own.values())):
            if with_momentum:
                inside[place.to] = bool(group.get("lr_in_momentum", False))
    return Picture(
        call,
        words,
        places,
        moments,
        wanted,
        step,
        _ADVICE,
        problems,
        every,
        stateless,
        rate_inside=inside,
        sign=-1.0,  # timm subtracts a buffer of lr*u; ours, of -lr*u, is added
        complex_as_parts=True,
    )


def laid_out(
    picture: Picture,
    moments: Moments,
    step: int | None,
    array: Callable[[np.ndarray], Any],
    like: Mapping[Any, Any],
) -> dict[Any, dict[str, Any]]:
    """Lay moments out as the "state" of a state dict."""
    # PyTorch and timm keep the step as a float32 tensor.
    integral = picture.words is _BITSANDBYTES
    step_like = step if integral else array(np.array(step, np.float32))
    touched, state = {str(key) for key, kept in like.items() if kept}, {}
    for key, name in picture.names.items():
        kept = {word: own[name] for word, own in moments.items() if name in own}
        # Zeros are what torch starts with, where `like` shows that it did not start.
        started = not touched or str(key) in touched or any(map(np.any, kept.values()))
        if kept and started:
            arrays = {word: array(owned(x)) for word, x in kept.items()}
            state[key] = {"step": step_like, **arrays}
    return state


def _moments(
    state: Mapping[Any, Any], names: Mapping[Any, str], words: tuple[str, ...]
) -> tuple[Moments, int, frozenset[str], tuple[Problem, ...]]:
    """Sort what is kept for each parameter by moment, and find the largest step."""
    moments, steps, problems = {word: {} for word in words}, [0], []
    stateless, by_text = {*names.values()}, {str(key): key for key in names}
    for key, kept in state.items():
        name = names.get(by_text.get(str(key), key), f"parameter {key}")
        if not isinstance(kept, Mapping):
            what = f"the state of {name!r}: got a {type(kept).__name__}"
            problems.append((MISSHAPEN, what))
            continue
        kept = {**kept, **kept.get(NESTED, {})}
        kept.pop(NESTED, None)
        if not kept:  # torch makes the state with the first gradient
            continue
        stateless.discard(name)
        if "step" not in kept:
            problems.append((MISSING, f"step of {name!r}"))
        given = kept.pop("step", 0)
        steps.append(whole(given) or 0)
        if whole(given) is None:
            what = f"step of {name!r}: got {shown(given)}, expected a number of steps"
            problems.append((MISSHAPEN, what))
        for word, array in kept.items():
            if word in moments and "qmap1" not in kept:
                moments[word][name] = array
            else:
                note = " (8-bit moments do not move)" if "qmap1" in kept else ""
                problems.append((UNEXPECTED, f"{word} of {name!r}{note}"))
    return moments, max(steps), frozenset(stateless), tuple(problems)


def _saved_names(group: Group) -> list[str]:
    """Return the names in a group; some ways to save have them in place of numbers."""
    names = list(group.get("param_names") or group["params"])
    written = all(isinstance(name, str) and not name.isdigit() for name in names)
    return names if written else []


def _lists(names: Any) -> list[list[str]]:
    """Return names as one list per group; one list is for one group."""
    listed = isinstance(names, Iterable) and not isinstance(names, str)
    names = [*names] if listed else []
    if all(isinstance(name, str) for name in names):
        names = [names]
    lists = [[*own] for own in names if isinstance(own, list | tuple)]
    written = all(isinstance(name, str) for own in lists for name in own)
    return lists if written and len(lists) == len(names) else []


def _nameless(call: Call, sizes: Sequence[int], given: list[list[str]]) -> str:
    """Write the error for names that do not number the parameters of each group."""
    each = f"the {sizes[0]} parameters of the optimizer"
    if len(sizes) > 1:
        numbers = " and ".join(map(str, sizes))
        each = f"the {numbers} parameters of the groups, in one list per group"
    return (
        f"{call.given(names=...)} must name {each}, in the order of the optimizer, "
        f"which need not be that of the model; got {some(_flat(given)) or 'none'}. "
        f"Pass `{_NAMES}`."
    )


def _flat(names: Iterable[list[str]]) -> list[str]:
    """Return the names of all groups in one list, without what wraps the model."""
    return bare_names(itertools.chain.from_iterable(names))
