"""Keras 3's RMSprop.

Source: `keras/src/optimizers/rmsprop.py` and `base_optimizer.py`, Keras 3.15.1.
"""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import PyTree

from .._arguments import Call, check_numbers
from .._storage import Format
from . import _flax
from ._keras_variables import (
    ACCUMULATOR,
    arrays_of,
    averages_by_name,
    by_path,
    checked_paths,
    config_options,
    last,
    parse,
    variable,
)
from ._layout import owned
from ._mapping import MISSING, Arrays
from ._moments import export_moments, import_moments
from ._optax_states import our_slots
from ._slots import integer
from ._weights import export_weights, import_weights


@runtime_checkable
class _WithVariables(Protocol):
    """An optimizer or a model."""

    @property
    def variables(self) -> Sequence[Any]: ...


class _WithConfig(Protocol):
    """An optimizer."""

    def get_config(self) -> dict[str, Any]: ...


Variables = Mapping[str, Any] | Sequence[Any] | _WithVariables


def from_variables(
    variables: Variables,
    template: PyTree,
    mapping: Mapping[str, Any],
    *,
    paths: Sequence[str] | None = None,
    gradient_accumulation_steps: int | None = None,
    storage: str | Format = "float32",
) -> PyTree:
    """Turn the variables of a Keras optimizer into the state of the matching one.

        s = velocity - average_gradient**2     centered, else  velocity
        m = average_gradient
        b = -momentum

    The difference is taken in float64; where rounding leaves it below zero it is 0.
    The counts of the state and of its schedules become `iteration`, the number of
    updates where gradients are accumulated.

    Args:
      variables: `{v.path: v.numpy() for v in optimizer.variables}`; the optimizer, or
        the model that was compiled with it; an open `h5py.File` of either; or what
        `optimizer.save_own_variables` stores, by number.
      template: the state to fill: `tx.init(params)` of any transformation with an
        RMSProp of ours in it, built with the same settings.
      mapping: from the paths of Keras' weights to paths in `params`, such as
        `{"sequential/hidden/kernel": "hidden/kernel"}`; see `flax_mapping`.
      paths: `[v.path for v in optimizer.variables]`, for variables by number.
      gradient_accumulation_steps: that of the optimizer, if it has one. Gradients that
        it has accumulated go to `optax.MultiSteps(tx, gradient_accumulation_steps)`.
      storage: the `storage` of the transformation.

    Returns:
      A state of the structure, dtypes and shardings of the template.

    Raises:
      ValueError: one error for all entries that are missing, unexpected or of another
        shape; for an impossible mapping; for a template whose momentum buffer does not
        have the learning rate in it; for variables of another optimizer.
      TypeError: for a mapping entry of the wrong type, or a file.

    Example:
      >>> import jax.numpy as jnp, rmsprop_jax
      >>> saved = {"rm_sprop/iteration": 7, "rm_sprop/hidden_kernel_velocity": [4.0]}
      >>> template = rmsprop_jax.scale_by_rmsprop().init({"w": jnp.zeros(1)})
      >>> from_variables(saved, template, {"hidden/kernel": "w"}).s
      {'w': Array([4.], dtype=float32)}
    """
    call = Call("interop.keras.from_variables")
    ours = our_slots(call, template, storage)
    accumulates = bool(ours.moments("acc_grads"))
    given = by_path(call, variables, paths)
    steps = gradient_accumulation_steps
    return import_moments(parse(call, given, mapping, steps, accumulates), ours)


def to_variables(
    state: PyTree,
    mapping: Mapping[str, Any],
    paths: Sequence[str],
    *,
    learning_rate: float | None = None,
    gradient_accumulation_steps: int | None = None,
    storage: str | Format = "float32",
) -> dict[str, np.ndarray]:
    """Turn a state into what `optimizer.load_own_variables` takes.

        velocity = s + m**2     centered, else  s
        average_gradient = m
        momentum = -b

    Args:
      state: a state of ours, such as `from_variables` returns.
      mapping, gradient_accumulation_steps, storage: as in `from_variables`.
      paths: `[v.path for v in optimizer.variables]` of the optimizer to load into,
        which may be new: `optimizer.build(model.trainable_variables)`.
      learning_rate: value of its variable `learning_rate`, if it has one.

    Returns:
      Arrays by number, "0" and so on, in the order of `paths`.

    Raises:
      ValueError, TypeError: as `from_variables` does.

    Example:
      >>> import jax.numpy as jnp, rmsprop_jax
      >>> state = rmsprop_jax.scale_by_rmsprop().init({"w": jnp.zeros(1)})
      >>> paths = ["rm_sprop/iteration", "rm_sprop/hidden_kernel_velocity"]
      >>> to_variables(state, {"hidden/kernel": "w"}, paths)
      {'0': array(0, dtype=int32), '1': array([0.], dtype=float32)}
    """
    call = Call("interop.keras.to_variables")
    ours = our_slots(call, state, storage)
    accumulated = ours.moments("acc_grads")
    steps, paths = gradient_accumulation_steps, checked_paths(call, paths)
    picture = parse(call, dict.fromkeys(paths), mapping, steps, bool(accumulated))
    minis = [slot.array for slot in ours.found if slot.field == "mini_step"]
    mini_step = integer(minis[0]) if minis and steps else 0
    iteration = (ours.step or 0) * (steps or 1) + mini_step
    values: Arrays = {"iteration": np.array(iteration, np.int32)}
    if learning_rate is not None:
        check_numbers(call, learning_rate=learning_rate)
        values["learning_rate"] = np.array(learning_rate, np.float32)
    unknown = tuple((MISSING, repr(x)) for x in picture.others if x not in values)
    moments = export_moments(dataclasses.replace(picture, problems=unknown), ours)
    for word, arrays in moments.items():
        factor = mini_step if word == ACCUMULATOR else 1
        values |= {
            variable(name, word): owned(factor * x) for name, x in arrays.items()
        }
    if not accumulated:
        for name in picture.moments[ACCUMULATOR]:
            zeros = np.zeros_like(moments["velocity"][name])
            values[variable(name, ACCUMULATOR)] = zeros
    return {str(i): values[last(path)] for i, path in enumerate(paths)}


def averages(
    variables: Variables,
    params: PyTree,
    mapping: Mapping[str, Any],
    *,
    paths: Sequence[str] | None = None,
) -> PyTree:
    """Return the averages of the weights that an optimizer with `use_ema` keeps.

    Args:
      variables, mapping, paths: as in `from_variables`.
      params: as in `from_weights`.

    Returns:
      A tree like `params`.

    Raises:
      ValueError, TypeError: as `from_variables` does.

    Example:
      >>> import jax.numpy as jnp
      >>> saved = {"rm_sprop/iteration": 7, "rm_sprop/dense_bias_average": [4.0]}
      >>> averages(saved, {"b": jnp.zeros(1)}, {"dense/bias": "b"})
      {'b': Array([4.], dtype=float32)}
    """
    call = Call("interop.keras.averages")
    found = averages_by_name(call, by_path(call, variables, paths), mapping)
    return import_weights(call, found, params, mapping)


def from_weights(
    weights: Variables, params: PyTree, mapping: Mapping[str, Any]
) -> PyTree:
    """Turn `{v.path: v.numpy() for v in model.variables}` into parameters.

    Args:
      weights: arrays by path, or the model itself.
      params: parameters of the structure, dtypes and shardings that are wanted; with
        the running averages of BatchNorm beside them if those are to move too.
      mapping: as in `from_variables`; None for a path leaves it out.

    Returns:
      A tree like `params`.

    Raises:
      ValueError, TypeError: as `from_variables` does.

    Example:
      >>> import jax.numpy as jnp
      >>> from_weights({"dense/bias": [1.0]}, {"b": jnp.zeros(1)}, {"dense/bias": "b"})
      {'b': Array([1.], dtype=float32)}
    """
    call = Call("interop.keras.from_weights")
    return import_weights(call, arrays_of(call, weights), params, mapping)


def to_weights(params: PyTree, mapping: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Turn parameters into arrays by path, to `assign` to the variables of a model.

    Args:
      params: parameters, and whatever else the mapping leads to.
      mapping: as in `from_variables`.

    Returns:
      Arrays by Keras' paths; bfloat16 as float32.

    Raises:
      ValueError: one error for all parameters that have no name; for an impossible
        mapping.
      TypeError: for a mapping entry of the wrong type.

    Example:
      >>> import jax.numpy as jnp
      >>> to_weights({"b": jnp.ones(1)}, {"dense/bias": "b"})
      {'dense/bias': array([1.], dtype=float32)}
    """
    return export_weights(Call("interop.keras.to_weights"), params, mapping)


def options(config: Mapping[str, Any] | _WithConfig) -> dict[str, Any]:
    """Return the hyperparameters in a config, as arguments of `dialects.keras`.

    Args:
      config: `optimizer.get_config()`, `keras.optimizers.serialize(optimizer)`, or the
        optimizer itself.

    Returns:
      Arguments for `dialects.keras`; for `dialects.keras_legacy` if the config is of
      TensorFlow 2.10 or earlier, which has "decay". A learning rate that is a schedule
      is left out: pass an optax schedule in its place.

    Raises:
      ValueError: for a config that uses an option that no dialect has, or that is of
        another optimizer.

    Example:
      >>> options({"learning_rate": 0.01, "rho": 0.9, "name": "rmsprop"})
      {'learning_rate': 0.01, 'rho': 0.9}
    """
    return config_options(Call("interop.keras.options"), config)


def flax_mapping(
    params: PyTree,
    modules: Mapping[str, str] | None = None,
    *,
    transposed: Collection[str] | None = None,
) -> dict[str, Any]:
    """Name the parameters of common Flax layers as Keras does.

    Dense, Conv, Embed, LayerNorm, GroupNorm and BatchNorm, whose axes are the same in
    both. Leaves of other layers are left out: add their entries to the result.

    Args:
      params: parameters, with running averages beside them if those are to move too.
      modules: from our modules to Keras', such as `{"hidden":
        "sequential/hidden"}`, or `{"": "sequential"}` for all; what lies below one
        keeps its name. Without it all modules have the same names.
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
      >>> flax_mapping({"norm": {"scale": jnp.ones(5)}}, {"": "sequential"})
      {'sequential/norm/gamma': 'norm/scale'}
    """
    call = Call("interop.keras.flax_mapping")
    return _flax.flax_mapping(call, _flax.KERAS, params, modules, transposed)
