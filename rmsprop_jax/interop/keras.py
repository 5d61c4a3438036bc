"""Keras 3's RMSprop.

Source: `keras/src/optimizers/rmsprop.py` and `base_optimizer.py`, Keras 3.15.1.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import PyTree

from .._arguments import Call
from .._storage import Format
from . import _flax
from ._layout import owned, to_numpy
from ._mapping import MISSING, UNEXPECTED, Arrays, parse_mapping
from ._moments import Picture, export_moments, import_moments
from ._slots import our_slots
from ._weights import export_weights, import_weights

_WORDS = ("velocity", "average_gradient", "momentum")
_OPTIONS = ("rho", "momentum", "epsilon", "centered", "weight_decay")
_CLIPPING = ("clipnorm", "clipvalue", "global_clipnorm")
_UNKNOWN = ("use_ema", "loss_scale_factor", "gradient_accumulation_steps")
_ADVICE = (
    "Compare the optimizer's `momentum` and `centered` with those of the "
    "transformation, and the mapping with the paths of the weights. Nothing was "
    "changed."
)


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
      storage: the `storage` of the transformation.

    Returns:
      A state of the structure, dtypes and shardings of the template.

    Raises:
      ValueError: one error for all entries that are missing, unexpected or of another
        shape; for an impossible mapping; for a template whose momentum buffer does not
        have the learning rate in it.
      TypeError: for a mapping entry of the wrong type.

    Example:
      >>> import jax.numpy as jnp, rmsprop_jax
      >>> saved = {"rm_sprop/iteration": 7, "rm_sprop/hidden_kernel_velocity": [4.0]}
      >>> template = rmsprop_jax.scale_by_rmsprop().init({"w": jnp.zeros(1)})
      >>> from_variables(saved, template, {"hidden/kernel": "w"}).s
      {'w': Array([4.], dtype=float32)}
    """
    call = Call("interop.keras.from_variables")
    picture = _parse(call, _by_path(call, variables, paths), mapping)
    return import_moments(picture, our_slots(call, template, storage))


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
      state: a state of ours, such as `from_variables` returns.
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
    ours = our_slots(call, state, storage)
    picture = _parse(call, dict.fromkeys(paths), mapping)
    values: Arrays = {"iteration": np.array(ours.step, np.int32)}
    if learning_rate is not None:
        values["learning_rate"] = np.array(learning_rate, np.float32)
    unknown = tuple((MISSING, repr(x)) for x in picture.others if x not in values)
    picture = dataclasses.replace(picture, problems=unknown)
    for word, arrays in export_moments(picture, ours).items():
        values |= {_variable(name, word): owned(x) for name, x in arrays.items()}
    return {str(i): values[_last(path)] for i, path in enumerate(paths)}


def from_weights(
    weights: Mapping[str, Any], params: PyTree, mapping: Mapping[str, Any]
) -> PyTree:
    """Turn `{v.path: v.numpy() for v in model.variables}` into parameters.

    Args:
      weights: arrays by path.
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
    return import_weights(Call("interop.keras.from_weights"), weights, params, mapping)


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


def options(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the hyperparameters in a config, as arguments of `dialects.keras`.

    Args:
      config: `optimizer.get_config()`.

    Returns:
      Arguments for `dialects.keras`. A learning rate that is a schedule is left out:
      pass an optax schedule in its place.

    Raises:
      ValueError: for a config that uses an option that no dialect has.

    Example:
      >>> options({"learning_rate": 0.01, "rho": 0.9, "name": "rmsprop"})
      {'learning_rate': 0.01, 'rho': 0.9}
    """
    call = Call("interop.keras.options")
    foreign = [key for key in _UNKNOWN if config.get(key)]
    if foreign:
        raise ValueError(
            f"`{call}`: no dialect has {' or '.join(foreign)}, which this config uses. "
            "Take it out of the config, and replace it by a transformation of your "
            "own; `optax.MultiSteps` accumulates gradients."
        )
    kept = {key: config[key] for key in (*_OPTIONS, *_CLIPPING) if key in config}
    rate = config["learning_rate"]
    return kept if isinstance(rate, Mapping) else {"learning_rate": float(rate), **kept}


def flax_mapping(
    params: PyTree, modules: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Name the parameters of common Flax layers as Keras does.

    Dense, Conv, Embed, LayerNorm, GroupNorm and BatchNorm, whose axes are the same in
    both. Leaves of other layers are left out: add their entries to the result.

    Args:
      params: parameters, with running averages beside them if those are to move too.
      modules: from our modules to Keras', such as `{"hidden":
        "sequential/hidden"}`, or `{"": "sequential"}` for all; what lies below one
        keeps its name. Without it all modules have the same names.

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
    return _flax.flax_mapping(call, _flax.KERAS, params, modules)


def _parse(call: Call, variables: Arrays, mapping: Mapping[str, Any]) -> Picture:
    """Parse the variables of an optimizer, by path."""
    places = parse_mapping(call, mapping)
    known = {_variable(name, word): name for name in places for word in _WORDS}
    moments, others = {word: {} for word in _WORDS}, {}
    for path, value in variables.items():
        variable = _last(path)
        word = next((x for x in _WORDS if variable.endswith(f"_{x}")), None)
        if word is None:
            others[variable] = value
        else:
            name = known.get(variable, variable.removesuffix(f"_{word}"))
            moments[word][name] = value
    step, expected = others.get("iteration"), ("iteration", "learning_rate")
    problems = [(UNEXPECTED, repr(name)) for name in others if name not in expected]
    problems += [(MISSING, "'iteration'")] if "iteration" not in others else []
    return Picture(
        call,
        _WORDS,
        places,
        moments,
        moments,
        None if step is None else int(to_numpy(step)),
        _ADVICE,
        tuple(problems),
        others=others,
        # Keras subtracts a buffer of lr*u; ours, of -lr*u, is added.
        sign=-1.0,
        lr_in_momentum=frozenset({True}),
    )


def _by_path(
    call: Call, variables: Mapping[str, Any], paths: Sequence[str] | None
) -> Arrays:
    """Return the variables by path, also where they come by number."""
    if not all(key.isdigit() for key in variables):
        return dict(variables)
    if paths is None or len(paths) != len(variables):
        got = "none" if paths is None else f"{len(paths)}"
        raise ValueError(
            f"{call.given(paths=...)} must name the {len(variables)} variables of the "
            f"optimizer in its order; got {got}. Pass `[v.path for v in "
            "optimizer.variables]`."
        )
    return {path: variables[str(i)] for i, path in enumerate(paths)}


def _variable(name: str, word: str) -> str:
    """Name the variable of a weight's moment as Keras does."""
    return f"{name.replace('/', '_')}_{word}"


def _last(path: str) -> str:
    return path.rpartition("/")[2]
