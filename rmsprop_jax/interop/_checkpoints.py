"""The optimizer or the model in what people have of torch: files, objects, checkpoints.

Everything here works on tensors as on NumPy arrays, and imports no torch.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from .._arguments import Call
from ._files import load

NESTED = "__bnb_optimizer_quant_state__"  # where bitsandbytes hides moments from FSDP
_WRAPPER = re.compile(
    r"(?<![^.])(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module|"
    r"_forward_module)\."
)


def open_state_dict(call: Call, source: Any) -> dict[str, Any]:
    """Find the state dict of one optimizer in a file, an object or a checkpoint."""
    source = load(call, source)
    found = list(_state_dicts(source, ""))
    if not found:
        raise ValueError(
            f"`{call}`: there is no state of an optimizer; {_got(source)} Pass "
            "`optimizer.state_dict()`, which has 'state' and 'param_groups'."
        )
    _check_one(call, "optimizers", found)
    state_dict = found[0][1]
    groups, state = state_dict["param_groups"], state_dict["state"]
    fits = isinstance(state, Mapping) and groups and all(map(_is_group, groups))
    keys = [str(key) for group in groups for key in group["params"]] if fits else []
    if not fits or len({*keys}) < len(keys):
        raise ValueError(
            f"`{call}`: the 'state' of a state dict must be a dict, and each of its "
            "'param_groups' a dict with 'params', a list in which each parameter "
            "stands once. Pass `optimizer.state_dict()`."
        )
    return {"state": state, "param_groups": groups}


def open_weights(call: Call, source: Any, mapping: Collection[str]) -> dict[str, Any]:
    """Find the state dict of one model in a file, an object or a checkpoint."""
    source = load(call, source)
    source = source.state_dict() if hasattr(source, "state_dict") else source
    if not isinstance(source, Mapping):
        raise TypeError(
            f"`{call}`: expected `model.state_dict()` or a file of it; {_got(source)}"
        )
    found = list(_weights(source, ""))
    _check_one(call, "models", found)
    weights = found[0][1] if found else source
    renamed = {known_name(name, mapping): x for name, x in weights.items()}
    return renamed if len(renamed) == len(weights) else {**weights}


def known_name(name: Any, known: Collection[str]) -> Any:
    """Return a name as the mapping has it, without what wraps the model."""
    candidates = (name, *bare_names([name])) if isinstance(name, str) else ()
    return next((x for x in candidates if x in known), name)


def bare_names(names: Iterable[str]) -> list[str]:
    """Remove what `torch.compile`, FSDP and DataParallel add to names."""
    return [_WRAPPER.sub("", name).removeprefix("module.") for name in names]


def _state_dicts(node: Any, where: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the state dicts of optimizers, and how to write where they are."""
    if hasattr(node, "param_groups") and hasattr(node, "state_dict"):
        node = node.state_dict()
    if isinstance(node, Mapping):
        node = _unflattened(node)
        if {"state", "param_groups"} <= node.keys():
            yield where, node
        else:
            for key, value in node.items():
                yield from _state_dicts(value, f"{where}[{key!r}]")
    elif isinstance(node, list | tuple):
        for number, value in enumerate(node):
            yield from _state_dicts(value, f"{where}[{number}]")


def _weights(node: Any, where: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the dicts of arrays that are inside a dict and not of an optimizer."""
    for key, value in () if "param_groups" in node else node.items():
        if isinstance(value, Mapping) and "param_groups" not in value:
            inside = f"{where}[{key!r}]"
            if any(hasattr(x, "shape") for x in value.values()):
                yield inside, value
            else:
                yield from _weights(value, inside)


def _unflattened(flat: Mapping[Any, Any]) -> Mapping[Any, Any]:
    """Undo `flatten_optimizer_state_dict` of torch.distributed."""
    keys = [key for key in flat if isinstance(key, str) and "param_groups." in key]
    if not keys:
        return flat
    prefixes = dict.fromkeys(key.partition("param_groups.")[0] for key in keys)
    every = {prefix: _of_one(flat, prefix) for prefix in prefixes}
    return every if len(every) > 1 else every.popitem()[1]


def _of_one(flat: Mapping[Any, Any], prefix: str) -> Mapping[str, Any]:
    """Return the state dict of the optimizer whose keys begin with a prefix."""
    state, options, groups = {}, {}, {}
    for key, value in flat.items():
        kind, _, rest = str(key).removeprefix(prefix).partition(".")
        name, _, slot = rest.rpartition(".")
        name = name.removesuffix(f".{NESTED}")
        if kind in ("state", "param_groups"):
            kept = state if kind == "state" else options
            kept.setdefault(name, {})[slot] = value
    for name, kept in options.items():
        kept.pop("param_names", None)
        groups.setdefault(repr(sorted(kept.items())), {**kept, "params": []})
        groups[repr(sorted(kept.items()))]["params"].append(name)
    return {"state": state, "param_groups": list(groups.values())}


def _is_group(group: Any) -> bool:
    return isinstance(group, Mapping) and isinstance(group.get("params"), list | tuple)


def _check_one(call: Call, kind: str, found: Sequence[tuple[str, Any]]) -> None:
    if len(found) > 1:
        where = ", ".join(f"`checkpoint{place}`" for place, _ in found)
        raise ValueError(
            f"`{call}`: the checkpoint holds {len(found)} {kind}, {where}. Pass one."
        )


def _got(source: Any) -> str:
    if isinstance(source, Mapping):
        return f"got a dict with {some([str(key) for key in source]) or 'nothing'}."
    return f"got {type(source).__name__}."


def some(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:5])) + " and so on" * (len(names) > 5)
