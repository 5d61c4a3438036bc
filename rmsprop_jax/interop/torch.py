"""PyTorch's RMSprop, and those that save as it does: timm, bitsandbytes 32-bit, SB3.

Source: `torch/optim/rmsprop.py`, PyTorch 2.13; `timm/optim/rmsprop_tf.py`, timm 1.0.31;
`bitsandbytes/optim/optimizer.py`, bitsandbytes 0.50.2.
"""

import copy
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import IO, Any, Protocol

import jax
import numpy as np
from jaxtyping import PyTree

from .._arguments import Call
from .._storage import Format
from .._trees import at
from . import _flax
from ._checkpoints import open_state_dict, open_weights
from ._files import save as save_file
from ._mapping import UNEXPECTED, Problem, by_path, parse_mapping, raise_for
from ._moments import export_moments, import_moments, wanted_of
from ._optax_states import our_slots
from ._torch_state import group_options, laid_out, parameter_names, parse
from ._weights import export_weights, import_weights


class _WithState(Protocol):
    """An optimizer, a model, or a wrapper of one."""

    def state_dict(self) -> Any: ...


Source = Mapping[str, Any] | str | os.PathLike | IO[bytes] | _WithState
Names = Sequence[str] | Sequence[Sequence[str]]


def from_state_dict(
    state_dict: Source,
    template: PyTree,
    mapping: Mapping[str, Any],
    *,
    names: Names | None = None,
    storage: str | Format = "float32",
) -> PyTree:
    """Turn `optimizer.state_dict()` into the state of the matching transformation.

        s = square_avg - grad_avg**2     centered, else  square_avg
        m = grad_avg
        b = momentum_buffer              its negative from timm with lr_in_momentum

    The difference is taken in float64; where rounding leaves it below zero it is 0.
    The counts of the state and of its schedules become the largest `step`. A parameter
    for which torch has no state yet, because it is frozen or had no gradient, stays as
    it is in the template.

    Args:
      state_dict: `optimizer.state_dict()`, with tensors or NumPy arrays; the optimizer
        itself; a checkpoint with one optimizer in it; or a file of one of these, by its
        path or open: in safetensors as `save` writes it, which needs no torch, or of
        `torch.save`, which is loaded with `weights_only=True`.
      template: the state to fill: `tx.init(params)` of any transformation with an
        RMSProp of ours in it, built as `options` says.
      mapping: from torch's names to paths in `params`, such as
        `{"0.weight": ("hidden/kernel", "o i -> i o")}`; see `flax_mapping`.
      names: names of the optimizer's parameters, one list per parameter group, in the
        order of the group: `[[{p: name for name, p in model.named_parameters()}[p] for
        p in group["params"]] for group in optimizer.param_groups]`. For one group its
        list will do. Not needed where the optimizer was given
        `model.named_parameters()`.
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
    picture = parse(call, open_state_dict(call, state_dict), mapping, names)
    return import_moments(picture, our_slots(call, template, storage))


def to_state_dict(
    state: PyTree,
    like: Source,
    mapping: Mapping[str, Any],
    *,
    names: Names | None = None,
    storage: str | Format = "float32",
    array: Callable[[np.ndarray], Any] = np.asarray,
) -> dict[str, Any]:
    """Turn a state into what `optimizer.load_state_dict` takes.

        square_avg = s + m**2            centered, else  s
        grad_avg = m
        momentum_buffer = b              its negative for timm with lr_in_momentum

    Args:
      state: a state of ours, such as `from_state_dict` returns.
      like: `optimizer.state_dict()` of the optimizer to load into, which may be new, or
        whatever else `from_state_dict` takes. Its hyperparameters and numbering are
        kept, and tell which moments it needs.
      mapping, names, storage: as in `from_state_dict`.
      array: converts each NumPy array; pass `torch.from_numpy` for tensors.

    Returns:
      A state dict with the groups of `like` and new "state". A parameter for which
      `state` has no moments has none there either: torch makes them when it needs them.

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
    opened, ours = open_state_dict(call, like), our_slots(call, state, storage)
    picture = wanted_of(parse(call, opened | {"state": {}}, mapping, names), ours)
    moments = export_moments(picture, ours)
    saved = laid_out(picture, moments, ours.step, array, opened["state"])
    return {"state": saved, "param_groups": copy.deepcopy(opened["param_groups"])}


def from_weights(
    weights: Source,
    params: PyTree,
    mapping: Mapping[str, Any],
) -> PyTree:
    """Turn `model.state_dict()` into parameters.

    Args:
      weights: `model.state_dict()`, with tensors or NumPy arrays; the model itself; a
        checkpoint with one model in it; or a file of one of these, as in
        `from_state_dict`.
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
    return import_weights(call, open_weights(call, weights, mapping), params, mapping)


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


def options(state_dict: Source, group: int | None = None) -> dict[str, Any]:
    """Return the hyperparameters of a parameter group, as arguments of its dialect.

    `lr` is the learning rate at the time of saving: replace it with your schedule if
    a scheduler of torch was setting it.

    Args:
      state_dict: as in `from_state_dict`.
      group: which of the parameter groups; None for all, which must then be equal. For
        groups that differ see `group_labels`.

    Returns:
      Arguments for `dialects.torch`; for `dialects.timm`, `stable_baselines3` or
      `bitsandbytes` if it was theirs.

    Raises:
      ValueError: for groups that differ; for a group that uses an option of timm that
        no dialect has, or that belongs to another optimizer.
      ImportError: if the file needs a package that is not installed.

    Example:
      >>> group = {"params": [0], "lr": 0.1, "betas": (0.99, 0), "eps": 1e-8}
      >>> options({"state": {}, "param_groups": [group | {"weight_decay": 0}]})
      {'lr': 0.1, 'alpha': 0.99, 'eps': 1e-08, 'weight_decay': 0.0}
    """
    call = Call("interop.torch.options")
    return group_options(call, open_state_dict(call, state_dict), group)


def group_labels(
    state_dict: Source,
    params: PyTree,
    mapping: Mapping[str, Any],
    *,
    names: Names | None = None,
) -> PyTree:
    """Label each parameter with its parameter group, for `optax.partition`.

    Args:
      state_dict, mapping, names: as in `from_state_dict`.
      params: the parameters.

    Returns:
      A tree like `params` of "0", "1" and so on; "frozen" for what is in no group. Give
      "frozen" the transformation `optax.set_to_zero()`.

    Raises:
      ValueError: for parameters of the optimizer that have no place in `params`.
      TypeError, ImportError: as `from_state_dict` does.

    Example:
      >>> import jax.numpy as jnp, optax
      >>> from rmsprop_jax import dialects
      >>> groups = [{"params": ["w"], "lr": 0.1}, {"params": ["b"], "lr": 0.01}]
      >>> saved = {"state": {}, "param_groups": groups}
      >>> params = {"w": jnp.zeros((2, 1)), "b": jnp.zeros(1)}
      >>> labels = group_labels(saved, params, {"w": "w", "b": "b"})
      >>> labels
      {'b': '1', 'w': '0'}
      >>> each = {str(k): dialects.torch(**options(saved, k)) for k in range(2)}
      >>> tx = optax.partition(each, labels)
    """
    call = Call("interop.torch.group_labels")
    groups, labels = open_state_dict(call, state_dict)["param_groups"], {}
    places, leaves = parse_mapping(call, mapping), by_path(call, params)
    problems: list[Problem] = []
    for number, own in enumerate(parameter_names(call, groups, names, places)):
        for name in own.values():
            place = places.get(name)
            if place is not None and place.to in leaves:
                labels[place.to] = str(number)
            elif place is not None or name not in places:
                problems.append((UNEXPECTED, f"{at(name)}, for which there is no path"))
    raise_for(call, problems, "Extend the mapping; None leaves a parameter out.")
    tree = [labels.get(path, "frozen") for path in leaves]
    return jax.tree.unflatten(jax.tree.structure(params), tree)


def flax_mapping(
    params: PyTree,
    modules: Mapping[str, str] | None = None,
    *,
    transposed: Collection[str] | None = None,
) -> dict[str, str | tuple[str, str] | None]:
    """Name the parameters of common Flax layers as torch does.

    Dense and Conv (linen) or Linear and Conv (nnx) lead to `weight` with its axes
    permuted; Embed, LayerNorm, GroupNorm and BatchNorm to `weight` and `bias` as they
    are. Leaves of other layers are left out: add their entries to the result.

    Args:
      params: parameters, with running averages beside them if those are to move too.
      modules: from our modules to torch's, such as `{"Dense_0": "0"}`; what lies below
        one keeps its name. Without it all modules have the same names.
      transposed: the modules of ours that are a `ConvTranspose` without
        `transpose_kernel`; `[]` if none is. Where it is None and a kernel has as many
        input as output channels, it may be of either kind, and is left out; unless
        `params` is an `nnx.Module`, or linen named the module `Conv_0` and so on.

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
    return _flax.flax_mapping(call, _flax.TORCH, params, modules, transposed)
