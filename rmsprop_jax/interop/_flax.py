"""The ready mapping: how the leaves of common Flax layers are named elsewhere."""

from collections.abc import Mapping
from typing import NamedTuple

from jaxtyping import PyTree

from .._arguments import Call
from .._trees import at
from ._mapping import by_path, within


class Names(NamedTuple):
    """How a framework names what Flax calls kernel, bias, scale and so on."""

    separator: str
    leaves: Mapping[str, str]
    norm_bias: str
    kernel_layouts: Mapping[int, str]  # by rank; none where the axes are as in Flax
    left_out: Mapping[str, str]  # what is saved beside a leaf and has no place in Flax


TORCH = Names(
    separator=".",
    leaves={
        "kernel": "weight",
        "scale": "weight",
        "embedding": "weight",
        "bias": "bias",
        "mean": "running_mean",
        "var": "running_var",
    },
    norm_bias="bias",
    kernel_layouts={
        2: "o i -> i o",
        3: "o i w -> w i o",
        4: "o i h w -> h w i o",
        5: "o i d h w -> d h w i o",
    },
    left_out={"mean": "num_batches_tracked"},
)

KERAS = Names(
    separator="/",
    leaves={
        "kernel": "kernel",
        "scale": "gamma",
        "embedding": "embeddings",
        "bias": "bias",
        "mean": "moving_mean",
        "var": "moving_variance",
    },
    norm_bias="beta",
    kernel_layouts={},
    left_out={},
)


def flax_mapping(
    call: Call, names: Names, params: PyTree, modules: Mapping[str, str] | None
) -> dict[str, str | tuple[str, str] | None]:
    """Name the leaves of `params` as the other framework does."""
    modules = {"": ""} if modules is None else modules
    modules = {within(ours): theirs for ours, theirs in modules.items()}
    leaves, mapping, used = by_path(call, params), {}, set()
    for path, leaf in leaves.items():
        parent, _, kind = path.rpartition("/")
        ours = _longest_prefix(parent, modules)
        if ours is None or kind not in names.leaves:
            continue
        used.add(ours)
        below = parent[len(ours) :].strip("/").split("/")
        module = [part for part in (modules[ours], *below) if part]
        is_norm = kind == "bias" and f"{parent}/scale".lstrip("/") in leaves
        theirs = names.norm_bias if is_norm else names.leaves[kind]
        layout = names.kernel_layouts.get(len(leaf.shape)) if kind == "kernel" else None
        entry = path if layout is None else (path, layout)
        mapping[names.separator.join([*module, theirs])] = entry
        if kind in names.left_out:
            mapping[names.separator.join([*module, names.left_out[kind]])] = None
    unused = [at(module) for module in modules if module not in used]
    if unused:
        raise ValueError(
            f"{call.given(modules=...)}: no parameter of a Flax layer lies under "
            f"{', '.join(unused)}; the paths are {', '.join(map(at, leaves))}. "
            "`modules` leads from our modules to theirs."
        )
    return mapping


def _longest_prefix(parent: str, modules: Mapping[str, str]) -> str | None:
    """Find the module, of those given, that `parent` is or lies in."""
    fitting = [m for m in modules if m == "" or f"{parent}/".startswith(f"{m}/")]
    return max(fitting, key=len, default=None)
