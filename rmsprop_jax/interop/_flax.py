"""The ready mapping: how the leaves of common Flax layers are named elsewhere."""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

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
    transposed_layouts: Mapping[int, str]  # of transposed convolutions
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
    transposed_layouts={
        3: "i o w -> -w i o",
        4: "i o h w -> -h -w i o",
        5: "i o d h w -> -d -h -w i o",
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
    transposed_layouts={
        3: "w o i -> -w i o",
        4: "h w o i -> -h -w i o",
        5: "d h w o i -> -d -h -w i o",
    },
    left_out={},
)


def flax_mapping(
    call: Call,
    names: Names,
    params: PyTree,
    modules: Mapping[str, str] | None,
    transposed: Collection[str] | None,
) -> dict[str, str | tuple[str, str] | None]:
    """Name the leaves of `params` as the other framework does."""
    modules = {"": ""} if modules is None else modules
    modules = {within(ours): theirs for ours, theirs in modules.items()}
    known = None if transposed is None else {*map(within, transposed)}
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
        layouts: Mapping[int, str] | None = {}
        if kind == "kernel":
            layouts = _kernel_layouts(names, params, parent, leaf.shape, known)
        if layouts is not None:
            layout = layouts.get(len(leaf.shape))
            entry = path if layout is None else (path, layout)
            mapping[names.separator.join([*module, theirs])] = entry
        if kind in names.left_out:
            mapping[names.separator.join([*module, names.left_out[kind]])] = None
    _check_names(call, "modules", modules, used, leaves)
    parents = {path.rpartition("/")[0] for path in leaves}
    _check_names(call, "transposed", known or (), parents, leaves)
    return mapping


def _kernel_layouts(
    names: Names,
    params: PyTree,
    parent: str,
    shape: Sequence[int],
    transposed: set[str] | None,
) -> Mapping[int, str] | None:
    """Return the layouts of a kernel by rank; None where its kind is not known.

    A kernel with as many input as output channels has the shape of a convolution and of
    a transposed one. An `nnx.Module` has its layers in it, and linen names a layer that
    has no name after its class.
    """
    layer = _layer(params, parent)
    if layer is not None and transposed is None:
        is_transposed = type(layer).__name__ == "ConvTranspose"
        # A kernel with `transpose_kernel` is laid out as that of a convolution.
        is_transposed = is_transposed and not layer.transpose_kernel
    elif transposed is None and len(shape) > 2 and shape[-1] == shape[-2]:
        name = parent.rpartition("/")[2]
        is_transposed = False if re.match(r"Conv(_\d+)?$", name) else None
    else:
        is_transposed = parent in (transposed or ())
    if is_transposed is None:
        return None
    return names.transposed_layouts if is_transposed else names.kernel_layouts


def _layer(module: Any, path: str) -> Any:
    """Find a layer in an `nnx.Module`; None in other trees."""
    for part in path.split("/"):
        found = getattr(module, part, None)
        if found is None and part.isdecimal() and hasattr(module, "__getitem__"):
            found = module[int(part)]
        module = found
    return module if hasattr(module, "kernel_size") else None  # a convolution


def _check_names(
    call: Call,
    argument: str,
    names: Collection[str],
    used: set[str],
    leaves: Mapping[str, Any],
) -> None:
    unused = [at(name) for name in names if name not in used]
    if unused:
        raise ValueError(
            f"{call.given(**{argument: ...})}: no parameter of a Flax layer lies under "
            f"{', '.join(unused)}; the paths are {', '.join(map(at, leaves))}. "
            "`modules` leads from our modules to theirs."
        )


def _longest_prefix(parent: str, modules: Mapping[str, str]) -> str | None:
    """Find the module, of those given, that `parent` is or lies in."""
    fitting = [m for m in modules if m == "" or f"{parent}/".startswith(f"{m}/")]
    return max(fitting, key=len, default=None)
