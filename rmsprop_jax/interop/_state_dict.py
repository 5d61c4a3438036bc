"""What the `state_dict` of an optimizer of PyTorch, timm or bitsandbytes holds."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .._arguments import Call
from ._layout import to_numpy
from ._mapping import Problems, parse_mapping
from ._moments import Convention, Moments

StateDict = Mapping[str, Any]

_TORCH = ("square_avg", "grad_avg", "momentum_buffer")
_BITSANDBYTES = ("state1", "state2", "momentum")  # RMSprop has the first only
_NESTED = "__bnb_optimizer_quant_state__"  # where bitsandbytes hides it from FSDP
_NUMBERS = ("lr", "alpha", "eps", "weight_decay", "momentum")
_SWITCHES = ("centered", "maximize", "decoupled_decay", "lr_in_momentum")
_UNKNOWN = ("caution", "corrected_weight_decay")  # of timm
_HINT = (
    "Compare `interop.torch.options(state_dict)` with what the transformation was "
    "built with, and the mapping with the names of the parameters. Nothing was changed."
)


def convention(
    call: Call, state_dict: StateDict, mapping: Mapping[str, Any]
) -> Convention:
    """Tell from the parameter groups whose moments these are."""
    inside = frozenset(
        bool(group.get("lr_in_momentum", False))
        for group in state_dict["param_groups"]
        if group.get("momentum", 0) > 0
    )
    return Convention(
        call,
        _slots(state_dict),
        parse_mapping(call, mapping),
        _HINT,
        # timm subtracts a buffer of lr*u; ours, of -lr*u, is added.
        sign=-1.0 if True in inside else 1.0,
        lr_in_momentum=inside,
    )


def names_of(
    call: Call, state_dict: StateDict, names: Sequence[str] | None
) -> dict[Any, str]:
    """Name the parameters by the numbers under which the optimizer keeps them."""
    groups = state_dict["param_groups"]
    keys = [key for group in groups for key in group["params"]]
    saved = [name for group in groups for name in group.get("param_names", ())]
    if names is None and all(isinstance(key, str) for key in keys):
        names = keys
    names = (saved or None) if names is None else names
    if names is None or len(names) != len(keys):
        got = "none" if names is None else f"{len(names)}: {', '.join(names)}"
        raise ValueError(
            f"`{call}(names=...)` must name the {len(keys)} parameters of the "
            f"optimizer in its order; got {got}. Pass `[name for name, _ in "
            "model.named_parameters()]`."
        )
    return dict(zip(keys, names, strict=True))


def read(
    state_dict: StateDict, named: Mapping[Any, str], problems: Problems
) -> tuple[Moments, int]:
    """Sort what is kept for each parameter into slots, and find the largest step."""
    moments, steps = Moments({}, {}, {}), [0]
    slots = dict(zip(_slots(state_dict), moments, strict=True))
    for key, kept in state_dict["state"].items():
        name = named.get(key, f"parameter {key}")
        kept = {**kept, **kept.get(_NESTED, {})}
        kept.pop(_NESTED, None)
        if "step" in kept:
            steps.append(int(to_numpy(kept.pop("step"))))
        else:
            problems.missing.append(f"step of {name!r}")
        for slot, value in kept.items():
            if slot in slots and "qmap1" not in kept:
                slots[slot][name] = value
            else:
                note = " (8-bit moments do not move)" if "qmap1" in kept else ""
                problems.unexpected.append(f"{slot} of {name!r}{note}")
    return moments, max(steps)


def wanted(state_dict: StateDict, named: Mapping[Any, str]) -> Moments:
    """Tell which moments an optimizer with these groups keeps."""
    moments = Moments({}, {}, {})
    for group in state_dict["param_groups"]:
        names = dict.fromkeys(named[key] for key in group["params"])
        moments.square.update(names)
        moments.mean.update(names if group.get("centered") else {})
        moments.buffer.update(names if group.get("momentum", 0) > 0 else {})
    return moments


def write(
    like: StateDict,
    named: Mapping[Any, str],
    moments: Moments,
    step: int,
    array: Callable[[np.ndarray], Any],
) -> dict[Any, dict[str, Any]]:
    """Lay moments out as the "state" of a state dict."""
    slots = _slots(like)
    # PyTorch and timm keep the step as a float32 tensor.
    count = step if slots is _BITSANDBYTES else np.array(step, np.float32)
    state = {}
    for key, name in named.items():
        kept = {s: m[name] for s, m in zip(slots, moments, strict=True) if name in m}
        state[key] = {
            slot: array(np.array(x, order="C")) if isinstance(x, np.ndarray) else x
            for slot, x in {"step": count, **kept}.items()
        }
    return state


def options(call: Call, group: Mapping[str, Any]) -> dict[str, Any]:
    """Give the arguments that a parameter group was made with."""
    foreign = [key for key in _UNKNOWN if group.get(key)]
    if foreign:
        raise ValueError(
            f"`{call}`: no transformation here has {' or '.join(foreign)}, which this "
            "group has on."
        )
    if "betas" in group:  # bitsandbytes takes a momentum, and never reads it
        group = {**group, "alpha": group["betas"][0]}
    numbers = {key: float(group[key]) for key in _NUMBERS if key in group}
    return numbers | {key: bool(group[key]) for key in _SWITCHES if key in group}


def _slots(state_dict: StateDict) -> tuple[str, str, str]:
    bitsandbytes = any("betas" in group for group in state_dict["param_groups"])
    return _BITSANDBYTES if bitsandbytes else _TORCH
