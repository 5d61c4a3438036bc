"""PyTorch's RMSprop, and those that save as it does: timm, bitsandbytes 32-bit, SB3.

Source: `torch/optim/rmsprop.py`, PyTorch 2.13; `timm/optim/rmsprop_tf.py`, timm 1.0.31;
`bitsandbytes/optim/optimizer.py`, bitsandbytes 0.50.2.
"""

import copy
import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import PyTree

from .._arguments import Call
from .._storage import Format
from . import _flax
from ._files import load
from ._files import save as save_file
from ._layout import owned, to_numpy
from ._mapping import MISSING, UNEXPECTED, Problem, parse_mapping
from ._moments import Moments, Picture, export_moments, import_moments
from ._slots import our_slots
from ._weights import export_weights, import_weights

Groups = Sequence[Mapping[str, Any]]

_WORDS = ("square_avg", "grad_avg", "momentum_buffer")
_BITSANDBYTES = ("state1", "state2", "momentum")  # RMSprop has only the first
_NESTED = "__bnb_optimizer_quant_state__"  # where bitsandbytes hides it from FSDP
_NUMBERS = ("lr", "alpha", "eps", "weight_decay", "momentum")
_SWITCHES = ("centered", "maximize", "decoupled_decay", "lr_in_momentum")
_UNKNOWN = ("caution", "corrected_weight_decay")  # of timm
_ADVICE = (
    "Compare `interop.torch.options(state_dict)` with what the transformation was "
    "built with, and the mapping with the names of the parameters. Nothing was changed."
)


def from_state_dict(
    state_dict: Mapping[str, Any] | str | os.PathLike,
    template: PyTree,
    mapping: Mapping[str, Any],
    *,
    names: Sequence[str] | None = None,
    storage: str | Format = "float32",
) -> PyTree:
    """Turn `optimizer.state_dict()` into the state of the matching transformation.

        s = square_avg - grad_avg**2     centered, else  square_avg
        m = grad_avg
        b = momentum_buffer              its negative from timm with lr_in_momentum

    The difference is taken in float64; where rounding leaves it below zero it is 0.
    The counts of the state and of its schedules become the largest `step`.

    Args:
      state_dict: `optimizer.state_dict()`, with tensors or NumPy arrays, or the path of
        a file: `.safetensors` as `save` writes it, which needs no torch, or a file of
        `torch.save`, which is loaded with `weights_only=True`.
      template: the state to fill: `tx.init(params)` of any transformation with an
        RMSProp of ours in it, built as `options` says.
      mapping: from torch's names to paths in `params`, such as
        `{"0.weight": ("hidden/kernel", "o i -> i o")}`; see `flax_mapping`.
      names: names of the optimizer's parameters, in its order:
        `[name for name, _ in model.named_parameters()]`. Not needed where the
        optimizer was given `model.named_parameters()`.
      storage: the `storage` of the transformation.

    Returns:
      A state of the structure, dtypes and shardings of the template.

    Raises:
      ValueError: one error for all entries that are missing, unexpected or of another
        shape; for an impossible mapping; for a template whose momentum buffer has the
        learning rate in it where torch's does not.
      TypeError: for a mapping entry of the wrong type.
      ImportError: if the file needs a package that is not installed.

    Example:
      >>> import jax.numpy as jnp, rmsprop_jax
      >>> saved = {"state": {0: {"step": 7, "square_avg": [[4.0, 9.0]]}},
      ...          "param_groups": [{"params": [0], "lr": 0.1}]}
      >>> template = rmsprop_jax.scale_by_rmsprop().init({"kernel": jnp.zeros((2, 1))})
      >>> mapping = {"weight": ("kernel", "o i -> i o")}
      >>> from_state_dict(saved, template, mapping, names=["weight"]).s["kernel"].shape
      (2, 1)
    """
    call = Call("interop.torch.from_state_dict")
    picture = _parse(call, load(call, state_dict), mapping, names)
    return import_moments(picture, our_slots(call, template, storage))


def to_state_dict(
    state: PyTree,
    like: Mapping[str, Any] | str | os.PathLike,
    mapping: Mapping[str, Any],
    *,
    names: Sequence[str] | None = None,
    storage: str | Format = "float32",
    array: Callable[[np.ndarray], Any] = np.asarray,
) -> dict[str, Any]:
    """Turn a state into what `optimizer.load_state_dict` takes.

        square_avg = s + m**2            centered, else  s
        grad_avg = m
        momentum_buffer = b              its negative for timm with lr_in_momentum

    Args:
      state: a state of ours, such as `from_state_dict` returns.
      like: `optimizer.state_dict()` of the optimizer to load into, which may be new.
        Its hyperparameters and numbering are kept, and tell which moments it needs.
      mapping, names, storage: as in `from_state_dict`.
      array: converts each NumPy array; pass `torch.from_numpy` for tensors.

    Returns:
      A dict like `like` with new "state".

    Raises:
      ValueError, TypeError: as `from_state_dict` does.
      ImportError: if `like` is a file that needs a package that is not installed.

    Example:
      >>> import jax.numpy as jnp, rmsprop_jax
      >>> state = rmsprop_jax.scale_by_rmsprop().init({"kernel": jnp.zeros((2, 1))})
      >>> like = {"state": {}, "param_groups": [{"params": [0], "lr": 0.1}]}
      >>> mapping = {"weight": ("kernel", "o i -> i o")}
      >>> to_state_dict(state, like, mapping, names=["weight"])["state"][0].keys()
      dict_keys(['step', 'square_avg'])
    """
    call = Call("interop.torch.to_state_dict")
    groups = load(call, like)["param_groups"]
    new = {"state": {}, "param_groups": groups}
    picture, ours = _parse(call, new, mapping, names), our_slots(call, state, storage)
    saved = _state(picture, export_moments(picture, ours), ours.step, array)
    return {"state": saved, "param_groups": copy.deepcopy(groups)}


def from_weights(
    weights: Mapping[str, Any] | str | os.PathLike,
    params: PyTree,
    mapping: Mapping[str, Any],
) -> PyTree:
    """Turn `model.state_dict()` into parameters.

    Args:
      weights: `model.state_dict()`, with tensors or NumPy arrays, or the path of a
        file, as in `from_state_dict`.
      params: parameters of the structure, dtypes and shardings that are wanted; with
        the running averages of BatchNorm beside them if those are to move too.
      mapping: as in `from_state_dict`; None for a name leaves it out.

    Returns:
      A tree like `params`.

    Raises:
      ValueError, TypeError, ImportError: as `from_state_dict` does.

    Example:
      >>> import jax.numpy as jnp
      >>> params = {"kernel": jnp.zeros((2, 1))}
      >>> mapping = {"w": ("kernel", "o i -> i o")}
      >>> from_weights({"w": [[1.0, 2.0]]}, params, mapping)["kernel"].shape
      (2, 1)
    """
    call = Call("interop.torch.from_weights")
    return import_weights(call, load(call, weights), params, mapping)


def to_weights(params: PyTree, mapping: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Turn parameters into what `model.load_state_dict` takes, as NumPy arrays.

    Args:
      params: parameters, and whatever else the mapping leads to.
      mapping: as in `from_state_dict`. Names that lead to None, or to no path in
        `params`, are not in the result: load it with `strict=False` then.

    Returns:
      Arrays by torch's names, in torch's layout; bfloat16 as float32.

    Raises:
      ValueError: one error for all parameters that have no name; for an impossible
        mapping.
      TypeError: for a mapping entry of the wrong type.

    Example:
      >>> import jax.numpy as jnp
      >>> to_weights({"kernel": jnp.ones((2, 1))}, {"w": ("kernel", "o i -> i o")})
      {'w': array([[1., 1.]], dtype=float32)}
    """
    return export_weights(Call("interop.torch.to_weights"), params, mapping)


def save(tree: Mapping[str, Any], path: str | os.PathLike) -> None:
    """Write a state dict or weights to a file, completely or not at all.

    Args:
      tree: what `to_state_dict` or `to_weights` returns.
      path: `.safetensors`, which needs no torch, or another suffix for `torch.save`. A
        state dict in safetensors has arrays `state.<number>.<slot>` and its
        `param_groups` as JSON in the metadata.

    Raises:
      ImportError: if the package that writes the file is not installed.
    """
    save_file(Call("interop.torch.save"), tree, path)


def options(
    state_dict: Mapping[str, Any] | str | os.PathLike, group: int = 0
) -> dict[str, Any]:
    """Return the hyperparameters of a parameter group, as arguments of its dialect.

    `lr` is the learning rate at the time of saving: replace it with your schedule if
    a scheduler of torch was setting it.

    Args:
      state_dict: as in `from_state_dict`.
      group: which of the parameter groups.

    Returns:
      Arguments for `dialects.torch`; for `dialects.timm`, `stable_baselines3` or
      `bitsandbytes` if it was theirs.

    Raises:
      ValueError: for a group that uses an option of timm that no dialect has.
      ImportError: if the file needs a package that is not installed.

    Example:
      >>> group = {"params": [0], "lr": 0.1, "betas": (0.99, 0), "eps": 1e-8}
      >>> options({"state": {}, "param_groups": [group | {"weight_decay": 0}]})
      {'lr': 0.1, 'alpha': 0.99, 'eps': 1e-08, 'weight_decay': 0.0}
    """
    call = Call("interop.torch.options")
    chosen = load(call, state_dict)["param_groups"][group]
    foreign = [key for key in _UNKNOWN if chosen.get(key)]
    if foreign:
        raise ValueError(
            f"`{call}`: no dialect has {' or '.join(foreign)}, which this group uses."
        )
    if "betas" in chosen:  # bitsandbytes takes a momentum, and never uses it
        chosen = {**chosen, "alpha": chosen["betas"][0]}
    numbers = {key: float(chosen[key]) for key in _NUMBERS if key in chosen}
    return numbers | {key: bool(chosen[key]) for key in _SWITCHES if key in chosen}


def flax_mapping(
    params: PyTree, modules: Mapping[str, str] | None = None
) -> dict[str, str | tuple[str, str] | None]:
    """Name the parameters of common Flax layers as torch does.

    Dense and Conv (linen) or Linear and Conv (nnx) lead to `weight` with its axes
    permuted; Embed, LayerNorm, GroupNorm and BatchNorm to `weight` and `bias` as they
    are. Leaves of other layers are left out: add their entries to the result.

    Args:
      params: parameters, with running averages beside them if those are to move too.
      modules: from our modules to torch's, such as `{"Dense_0": "0"}`; what lies below
        one keeps its name. Without it all modules have the same names.

    Returns:
      A mapping for the functions here. Linen's collections, `params` and `batch_stats`,
      are not part of a path, so one mapping serves the variables and the optimizer.

    Raises:
      ValueError: for a module with no parameter of a Flax layer under it.

    Example:
      >>> import jax.numpy as jnp
      >>> params = {"Dense_0": {"kernel": jnp.zeros((10, 5)), "bias": jnp.zeros(5)}}
      >>> flax_mapping(params, {"Dense_0": "0"})["0.weight"]
      ('Dense_0/kernel', 'o i -> i o')
    """
    call = Call("interop.torch.flax_mapping")
    return _flax.flax_mapping(call, _flax.TORCH, params, modules)


def _parse(
    call: Call,
    state_dict: Mapping[str, Any],
    mapping: Mapping[str, Any],
    names: Sequence[str] | None,
) -> Picture:
    """Parse what PyTorch, timm or bitsandbytes saves of an optimizer."""
    groups = state_dict["param_groups"]
    named = _names(call, groups, names)
    words = _BITSANDBYTES if any("betas" in group for group in groups) else _WORDS
    moments, step, problems = _moments(state_dict["state"], named, words)
    inside = frozenset(
        bool(group.get("lr_in_momentum", False))
        for group in groups
        if group.get("momentum", 0) > 0
    )
    return Picture(
        call,
        words,
        parse_mapping(call, mapping),
        moments,
        _wanted(groups, named, words),
        step,
        _ADVICE,
        problems,
        named,
        # timm subtracts a buffer of lr*u; ours, of -lr*u, is added.
        sign=-1.0 if True in inside else 1.0,
        lr_in_momentum=inside,
        complex_as_parts=True,
    )


def _names(call: Call, groups: Groups, names: Sequence[str] | None) -> dict[Any, str]:
    """Name the parameters by the keys under which the optimizer keeps them."""
    keys = [key for group in groups for key in group["params"]]
    saved = [name for group in groups for name in group.get("param_names", ())]
    if names is None:
        by_name = all(isinstance(key, str) for key in keys)
        names = keys if by_name else saved
    if len(names) != len(keys):
        got = f"{len(names)}: {', '.join(names)}" if names else "none"
        raise ValueError(
            f"{call.given(names=...)} must name the {len(keys)} parameters of the "
            f"optimizer in its order; got {got}. Pass `[name for name, _ in "
            "model.named_parameters()]`."
        )
    return dict(zip(keys, names, strict=True))


def _moments(
    state: Mapping[Any, Mapping[str, Any]],
    named: Mapping[Any, str],
    words: tuple[str, str, str],
) -> tuple[Moments, int, tuple[Problem, ...]]:
    """Sort what is kept for each parameter by moment, and find the largest step."""
    moments, steps, problems = {word: {} for word in words}, [0], []
    for key, kept in state.items():
        name = named.get(key, f"parameter {key}")
        kept = {**kept, **kept.get(_NESTED, {})}
        kept.pop(_NESTED, None)
        if "step" in kept:
            steps.append(int(to_numpy(kept.pop("step"))))
        else:
            problems.append((MISSING, f"step of {name!r}"))
        for word, array in kept.items():
            if word in moments and "qmap1" not in kept:
                moments[word][name] = array
            else:
                note = " (8-bit moments do not move)" if "qmap1" in kept else ""
                problems.append((UNEXPECTED, f"{word} of {name!r}{note}"))
    return moments, max(steps), tuple(problems)


def _wanted(
    groups: Groups, named: Mapping[Any, str], words: tuple[str, str, str]
) -> Moments:
    """Tell which moments an optimizer with these groups keeps."""
    wanted = {word: {} for word in words}
    for group in groups:
        kept = (True, group.get("centered"), group.get("momentum", 0) > 0)
        for word in itertools.compress(words, kept):
            wanted[word] |= {named[key]: None for key in group["params"]}
    return wanted


def _state(
    picture: Picture,
    moments: Moments,
    step: int | None,
    array: Callable[[np.ndarray], Any],
) -> dict[Any, dict[str, Any]]:
    """Lay moments out as the "state" of a state dict."""
    # PyTorch and timm keep the step as a float32 tensor.
    integer = picture.words is _BITSANDBYTES
    return {
        key: {"step": step if integer else array(np.array(step, np.float32))}
        | {
            word: array(owned(arrays[name]))
            for word, arrays in moments.items()
            if name in arrays
        }
        for key, name in picture.names.items()
    }
