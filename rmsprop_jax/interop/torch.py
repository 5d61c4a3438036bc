"""PyTorch's RMSprop, and those that save as it does: timm, bitsandbytes 32-bit, SB3.

Source: `torch/optim/rmsprop.py`, PyTorch 2.13; `timm/optim/rmsprop_tf.py`, timm 1.0.31;
`bitsandbytes/optim/optimizer.py`, bitsandbytes 0.50.2.
"""

import copy
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import PyTree

from .._arguments import Call
from .._storage import Format
from . import _flax, _slots, _state_dict
from ._complex_parts import join, split, split_places
from ._files import load
from ._files import save as save_file
from ._mapping import Problems
from ._moments import Convention, count_of, export_moments, import_moments
from ._weights import export_weights, import_weights


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
      state_dict: what `optimizer.state_dict()` gives, with tensors or NumPy arrays, or
        the path of a file: `.safetensors` as `save` writes it, which needs no torch, or
        one of `torch.save`, which is loaded with `weights_only=True`.
      template: the state to fill: `tx.init(params)` of any transformation with an
        RMSProp of ours in it, built as `options` says.
      mapping: from torch's names to paths in `params`, such as
        `{"0.weight": ("hidden/kernel", "o i -> i o")}`; see `flax_mapping`.
      names: names of the optimizer's parameters, in its order:
        `[name for name, _ in model.named_parameters()]`. Not needed where the
        optimizer was given `model.named_parameters()`.
      storage: as the transformation has it.

    Returns:
      A state of the structure, dtypes and shardings of the template.

    Raises:
      ValueError: one error for all entries that are missing, unexpected or of another
        shape; for an impossible mapping; for a template whose momentum buffer has the
        learning rate in it where torch's has not.
      TypeError: for an entry of the mapping of another kind.
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
    loaded = load(call, state_dict)
    problems = Problems(call)
    named = _state_dict.names_of(call, loaded, names)
    moments, count = _state_dict.read(loaded, named, problems)
    convention = _convention(call, loaded, mapping, template)
    moments = split(moments, convention.places)
    return import_moments(convention, moments, count, template, storage, problems)


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
      state: a state of ours, such as `from_state_dict` gives.
      like: `optimizer.state_dict()` of the optimizer to load into, which may be new.
        Its hyperparameters and numbering are kept, and say which moments it needs.
      mapping, names, storage: as in `from_state_dict`.
      array: what makes the arrays: give `torch.from_numpy` to load them at once.

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
    target = load(call, like)
    named = _state_dict.names_of(call, target, names)
    convention = _convention(call, target, mapping, state)
    wanted = split(_state_dict.wanted(target, named), convention.places)
    moments = export_moments(convention, state, wanted, storage, Problems(call))
    moments = join(moments, named.values())
    saved = _state_dict.write(target, named, moments, count_of(call, state), array)
    return {"state": saved, "param_groups": copy.deepcopy(target["param_groups"])}


def from_weights(
    weights: Mapping[str, Any] | str | os.PathLike,
    params: PyTree,
    mapping: Mapping[str, Any],
) -> PyTree:
    """Turn `model.state_dict()` into parameters.

    Args:
      weights: what `model.state_dict()` gives, with tensors or NumPy arrays, or the
        path of a file, as in `from_state_dict`.
      params: parameters to be like, in structure, dtypes and shardings; with the
        running averages of BatchNorm beside them if those are to move too.
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
      params: parameters, and what else the mapping leads to.
      mapping: as in `from_state_dict`. Names that lead nowhere in `params`, or to
        None, are not in the result: load it with `strict=False` then.

    Returns:
      Arrays by torch's names, in torch's layout; bfloat16 as float32.

    Raises:
      ValueError: one error for all parameters that have no name; for an impossible
        mapping.
      TypeError: for an entry of the mapping of another kind.

    Example:
      >>> import jax.numpy as jnp
      >>> to_weights({"kernel": jnp.ones((2, 1))}, {"w": ("kernel", "o i -> i o")})
      {'w': array([[1., 1.]], dtype=float32)}
    """
    return export_weights("interop.torch.to_weights", params, mapping)


def save(tree: Mapping[str, Any], path: str | os.PathLike) -> None:
    """Write a state dict or weights to a file: the whole of it or nothing.

    Args:
      tree: what `to_state_dict` or `to_weights` gives.
      path: `.safetensors`, which needs no torch, or another suffix for `torch.save`. A
        state dict in safetensors has arrays `state.<number>.<slot>` and its
        `param_groups` as JSON in the metadata.

    Raises:
      ImportError: if the package that writes the file is not installed.
    """
    save_file("interop.torch.save", tree, path)


def options(
    state_dict: Mapping[str, Any] | str | os.PathLike, group: int = 0
) -> dict[str, Any]:
    """Read the hyperparameters of a parameter group.

    `lr` is the learning rate at the time of saving: replace it with your schedule if
    a torch scheduler was setting it.

    Args:
      state_dict: as in `from_state_dict`.
      group: which of the parameter groups.

    Returns:
      Arguments for `dialects.torch`; for `dialects.timm`, `stable_baselines3` or
      `bitsandbytes` if it was theirs.

    Raises:
      ValueError: for a group with a switch of timm on that nothing here has.
      ImportError: if the file needs a package that is not installed.

    Example:
      >>> group = {"params": [0], "lr": 0.1, "betas": (0.99, 0), "eps": 1e-8}
      >>> options({"state": {}, "param_groups": [group | {"weight_decay": 0}]})
      {'lr': 0.1, 'alpha': 0.99, 'eps': 1e-08, 'weight_decay': 0.0}
    """
    call = Call("interop.torch.options")
    return _state_dict.options(call, load(call, state_dict)["param_groups"][group])


def flax_mapping(
    params: PyTree, modules: Mapping[str, str] | None = None
) -> dict[str, str | tuple[str, str] | None]:
    """Name the parameters of common Flax layers as torch does.

    Dense and Conv (linen) or Linear and Conv (nnx) lead to `weight` with its axes
    permuted; Embed, LayerNorm, GroupNorm and BatchNorm to `weight` and `bias` as they
    are. What it has no rule for it leaves out: add those entries to the result.

    Args:
      params: parameters, with running averages beside them if those are to move too.
      modules: from modules of ours to torch's, such as `{"Dense_0": "0"}`; what lies
        below one keeps its name. Without it all modules have the same names.

    Returns:
      A mapping for the functions here. Linen's collections, `params` and `batch_stats`,
      are no part of a path, so the mapping of the variables serves the optimizer too.

    Raises:
      ValueError: for a module with no parameter of a Flax layer under it.

    Example:
      >>> import jax.numpy as jnp
      >>> params = {"Dense_0": {"kernel": jnp.zeros((10, 5)), "bias": jnp.zeros(5)}}
      >>> flax_mapping(params, {"Dense_0": "0"})["0.weight"]
      ('Dense_0/kernel', 'o i -> i o')
    """
    return _flax.flax_mapping(
        "interop.torch.flax_mapping", _flax.TORCH, params, modules
    )


def _convention(
    call: Call, state_dict: Mapping[str, Any], mapping: Mapping[str, Any], state: PyTree
) -> Convention:
    """Tell how torch keeps moments, a complex parameter being kept in parts by us."""
    convention = _state_dict.convention(call, state_dict, mapping)
    places = split_places(convention.places, _slots.read(call, state).get("s", {}))
    return convention._replace(places=places)
