"""Keras 3's RMSprop.

Source: `keras/src/optimizers/rmsprop.py` and `base_optimizer.py`, Keras 3.15.1.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import PyTree

from .._arguments import Call
from .._storage import Format
from . import _flax, _variables
from ._layout import to_numpy
from ._mapping import Problems
from ._moments import count_of, export_moments, import_moments
from ._weights import export_weights, import_weights

_OPTIONS = ("rho", "momentum", "epsilon", "centered", "weight_decay")
_CLIPPING = ("clipnorm", "clipvalue", "global_clipnorm")
_UNKNOWN = ("use_ema", "loss_scale_factor", "gradient_accumulation_steps")


def from_variables(
    variables: Mapping[str, Any],
    template: PyTree,
    mapping: Mapping[str, Any],
    *,
    paths: Sequence[str] | None = None,
    storage: str | Format = "float32",
) -> PyTree:
    """Turn the variables of a Keras optimizer into the state of the matching one.

        s = velocity - average_gradient**2     centered, else  velocity
        m = average_gradient
        b = -momentum

    The difference is taken in float64; where rounding leaves it below zero it is 0.
    The counts of the state and of its schedules become `iteration`.

    Args:
      variables: `{v.path: v.numpy() for v in optimizer.variables}`, or what
        `optimizer.save_own_variables` stores, by number.
      template: the state to fill: `tx.init(params)` of any transformation with an
        RMSProp of ours in it, built with the same settings.
      mapping: from the paths of Keras' weights to paths in `params`, such as
        `{"sequential/hidden/kernel": "hidden/kernel"}`; see `flax_mapping`.
      paths: `[v.path for v in optimizer.variables]`, for variables by number.
      storage: as the transformation has it.

    Returns:
      A state of the structure, dtypes and shardings of the template.

    Raises:
      ValueError: one error for all entries that are missing, unexpected or of another
        shape; for an impossible mapping; for a template whose momentum buffer has no
        learning rate in it.
      TypeError: for an entry of the mapping of another kind.

    Example:
      >>> import jax.numpy as jnp, rmsprop_jax
      >>> saved = {"rm_sprop/iteration": 7, "rm_sprop/hidden_kernel_velocity": [4.0]}
      >>> template = rmsprop_jax.scale_by_rmsprop().init({"w": jnp.zeros(1)})
      >>> from_variables(saved, template, {"hidden/kernel": "w"}).s
      {'w': Array([4.], dtype=float32)}
    """
    call = Call("interop.keras.from_variables")
    problems = Problems(call)
    convention = _variables.convention(call, mapping)
    named = _variables.by_path(call, variables, paths)
    moments, others = _variables.sort(named, convention.places)
    if "iteration" not in others:
        problems.missing.append("'iteration'")
    count = int(to_numpy(others.pop("iteration", 0)))
    problems.unexpected += [repr(p) for p in others if p != "learning_rate"]
    return import_moments(convention, moments, count, template, storage, problems)


def to_variables(
    state: PyTree,
    mapping: Mapping[str, Any],
    paths: Sequence[str],
    *,
    learning_rate: float | None = None,
    storage: str | Format = "float32",
) -> dict[str, np.ndarray]:
    """Turn a state into what `optimizer.load_own_variables` takes.

        velocity = s + m**2     centered, else  s
        average_gradient = m
        momentum = -b

    Args:
      state: a state of ours, such as `from_variables` gives.
      mapping, storage: as in `from_variables`.
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
    problems = Problems(call)
    convention = _variables.convention(call, mapping)
    wanted, others = _variables.sort(dict.fromkeys(paths), convention.places)
    values: dict[str, np.ndarray] = {
        "iteration": np.array(count_of(call, state), np.int32)
    }
    if learning_rate is not None:
        values["learning_rate"] = np.array(learning_rate, np.float32)
    problems.missing += [repr(path) for path in others if path not in values]
    moments = export_moments(convention, state, wanted, storage, problems)
    return _variables.write(paths, moments, values)


def from_weights(
    weights: Mapping[str, Any], params: PyTree, mapping: Mapping[str, Any]
) -> PyTree:
    """Turn `{v.path: v.numpy() for v in model.variables}` into parameters.

    Args:
      weights: arrays by path.
      params: parameters to be like, in structure, dtypes and shardings; with the
        running averages of BatchNorm beside them if those are to move too.
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
    return import_weights("interop.keras.from_weights", weights, params, mapping)


def to_weights(params: PyTree, mapping: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Turn parameters into arrays by path, to `assign` to the variables of a model.

    Args:
      params: parameters, and what else the mapping leads to.
      mapping: as in `from_variables`.

    Returns:
      Arrays by Keras' paths; bfloat16 as float32.

    Raises:
      ValueError: one error for all parameters that have no name; for an impossible
        mapping.
      TypeError: for an entry of the mapping of another kind.

    Example:
      >>> import jax.numpy as jnp
      >>> to_weights({"b": jnp.ones(1)}, {"dense/bias": "b"})
      {'dense/bias': array([1.], dtype=float32)}
    """
    return export_weights("interop.keras.to_weights", params, mapping)


def options(config: Mapping[str, Any]) -> dict[str, Any]:
    """Read the hyperparameters from `optimizer.get_config()`.

    Args:
      config: what `get_config` gives.

    Returns:
      Arguments for `dialects.keras`. A learning rate that is a schedule is left out,
      and has to be given as an optax schedule.

    Raises:
      ValueError: for a config with a switch on that nothing here has.

    Example:
      >>> options({"learning_rate": 0.01, "rho": 0.9, "name": "rmsprop"})
      {'learning_rate': 0.01, 'rho': 0.9}
    """
    foreign = [key for key in _UNKNOWN if config.get(key)]
    if foreign:
        raise ValueError(
            "`interop.keras.options`: no transformation here has "
            f"{' or '.join(foreign)}, which this config has on. Take it out of the "
            "config, and see to it yourself; `optax.MultiSteps` accumulates gradients."
        )
    kept = {key: config[key] for key in (*_OPTIONS, *_CLIPPING) if key in config}
    rate = config["learning_rate"]
    return kept if isinstance(rate, Mapping) else {"learning_rate": float(rate), **kept}


def flax_mapping(
    params: PyTree, modules: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Name the parameters of common Flax layers as Keras does.

    Dense, Conv, Embed, LayerNorm, GroupNorm and BatchNorm, whose axes are the same in
    both. What it has no rule for it leaves out: add those entries to the result.

    Args:
      params: parameters, with running averages beside them if those are to move too.
      modules: from modules of ours to Keras', such as `{"hidden":
        "sequential/hidden"}`, or `{"": "sequential"}` for all; what lies below one
        keeps its name. Without it all modules have the same names.

    Returns:
      A mapping for the functions here. Linen's collections, `params` and `batch_stats`,
      are no part of a path, so the mapping of the variables serves the optimizer too.

    Raises:
      ValueError: for a module with no parameter of a Flax layer under it.

    Example:
      >>> import jax.numpy as jnp
      >>> flax_mapping({"norm": {"scale": jnp.ones(5)}}, {"": "sequential"})
      {'sequential/norm/gamma': 'norm/scale'}
    """
    return _flax.flax_mapping(
        "interop.keras.flax_mapping", _flax.KERAS, params, modules
    )
