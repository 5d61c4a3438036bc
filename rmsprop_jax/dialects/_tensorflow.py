"""RMSProp of TensorFlow, Keras and Sonnet."""

import optax
from jax.typing import ArrayLike

from .._arguments import check_numbers
from .._rmsprop import ScalarOrSchedule
from .._storage import Format
from ._clipping import clip_by_global_norm, clip_by_value, clip_by_variable_norm
from ._dialect import DIALECTS, build, dialect, none_if_zero

_CLIPPING = {
    "clipnorm": clip_by_variable_norm,
    "clipvalue": clip_by_value,
    "global_clipnorm": clip_by_global_norm,
}


@dialect(
    framework="TensorFlow 1",
    original="tf.train.RMSPropOptimizer",
    initial_scale=1.0,
    eps_in_sqrt=True,
    lr_in_momentum=True,
    centered=None,
    weight_decay="none",
    source="tensorflow/tensorflow tensorflow/python/training/rmsprop.py, "
    "tensorflow/core/kernels/training_ops.cc",
    verified="run: TensorFlow 2.21.0 (v1.train), dense",
    surprise="`s` starts at 1, so the steps of small gradients are short for the first "
    "1/(1-decay) steps",
)
def tensorflow1(
    learning_rate: ScalarOrSchedule,
    decay: ArrayLike = 0.9,
    momentum: ArrayLike = 0.0,
    epsilon: ArrayLike = 1e-10,
    *,
    centered: bool = False,
    storage: str | Format = "float32",
    nonfinite: str = "propagate",
    seed: ArrayLike = 0,
) -> optax.GradientTransformationExtraArgs:
    """RMSProp of TensorFlow 1, `tf.train.RMSPropOptimizer`, for dense gradients.

        s <- decay*s + (1-decay)*|g|**2, from s = 1;   u = g / sqrt(s + epsilon)
        b <- momentum*b + learning_rate*u;   p <- p - b

    It differs from `sonnet` only in the start of `s` at 1. `centered` is a keyword,
    because in TensorFlow `use_locking` has its place.

    Args:
      learning_rate: step size; a number, an array or a schedule.
      decay: decay of the second moment, in [0, 1).
      momentum: weight of the past in the buffer, in [0, 1).
      epsilon: added under the root, >= 0, in the unit of |g|**2.
      centered: whether to divide by the standard deviation of the gradient.
      storage, nonfinite, seed: as in `rmsprop`.
    """
    return build("tensorflow1", locals())


@dialect(
    framework="Keras 3",
    original="keras.optimizers.RMSprop",
    initial_scale=0.0,
    eps_in_sqrt=True,
    lr_in_momentum=True,
    centered=None,
    weight_decay="decoupled",
    source="keras-team/keras keras/src/optimizers/rmsprop.py, "
    "keras/src/optimizers/base_optimizer.py",
    verified="run: Keras 3.15.1 (JAX backend)",
    surprise="weight decay is decoupled and multiplied by the learning rate, unlike "
    "the L2 penalty of the TensorFlow recipes",
)
def keras(
    learning_rate: ScalarOrSchedule = 0.001,
    rho: ArrayLike = 0.9,
    momentum: ArrayLike = 0.0,
    epsilon: ArrayLike = 1e-7,
    centered: bool = False,
    *,
    weight_decay: ArrayLike | None = None,
    clipnorm: ArrayLike | None = None,
    clipvalue: ArrayLike | None = None,
    global_clipnorm: ArrayLike | None = None,
    storage: str | Format = "float32",
    nonfinite: str = "propagate",
    seed: ArrayLike = 0,
) -> optax.GradientTransformationExtraArgs:
    """RMSProp of Keras 3, `keras.optimizers.RMSprop`.

        g <- clip(g);   p <- p - learning_rate*weight_decay*p
        s <- rho*s + (1-rho)*|g|**2;   u = g / sqrt(s + epsilon)
        b <- momentum*b + learning_rate*u;   p <- p - b

    It is the rule of `sonnet` with other defaults, clipping and decoupled weight decay.
    `keras_legacy` is what `tf.keras` used up to TensorFlow 2.10.

    Args:
      learning_rate: step size; a number, an array or a schedule.
      rho: decay of the second moment, in [0, 1).
      momentum: weight of the past in the buffer, in [0, 1).
      epsilon: added under the root, >= 0, in the unit of |g|**2.
      centered: whether to divide by the standard deviation of the gradient.
      weight_decay: decoupled weight decay, >= 0; None for none.
      clipnorm: largest norm of the gradient of each parameter, >= 0; None or 0 for no
        clipping. At most one of the three limits may be given.
      clipvalue: largest size of each coordinate, >= 0; None or 0 for no clipping.
      global_clipnorm: largest norm of all gradients together, >= 0; None or 0 for no
        clipping.
      storage, nonfinite, seed: as in `rmsprop`. With clipping by a norm, a NaN makes
        all gradients NaN that share the norm.
    """
    arguments, call = locals(), DIALECTS["keras"].call
    limits = {name: arguments[name] for name in _CLIPPING}
    given = {name: limit for name, limit in limits.items() if limit is not None}
    if len(given) > 1:
        raise ValueError(
            f"{call.given(**given)}: Keras clips in one way only. Pass one of "
            "`clipnorm`, `clipvalue` and `global_clipnorm`, and chain the others with "
            "`optax.chain`, before it."
        )
    check_numbers(call, **given)
    first = [_CLIPPING[name](limit) for name, limit in given.items()]
    return build("keras", arguments, first, apart=_CLIPPING)


@dialect(
    framework="tf.keras, TensorFlow 2.0 to 2.10",
    original="tf.keras.optimizers.legacy.RMSprop",
    initial_scale=0.0,
    eps_in_sqrt=None,
    lr_in_momentum=True,
    centered=None,
    weight_decay="none",
    source="keras-team/tf-keras tf_keras/src/optimizers/legacy/rmsprop.py",
    verified="run: tf-keras 2.21.0, dense",
    surprise="eps is added to the root without momentum and under it with momentum",
    eps_of_zero=1e-7,
)
def keras_legacy(
    learning_rate: ScalarOrSchedule = 0.001,
    rho: ArrayLike = 0.9,
    momentum: ArrayLike = 0.0,
    epsilon: ArrayLike = 1e-7,
    centered: bool = False,
    *,
    storage: str | Format = "float32",
    nonfinite: str = "propagate",
    seed: ArrayLike = 0,
) -> optax.GradientTransformationExtraArgs:
    """RMSProp of TensorFlow 2.0 to 2.10, `tf.keras.optimizers.legacy.RMSprop`.

        s <- rho*s + (1-rho)*|g|**2
        u  = g / (sqrt(s) + epsilon);   p <- p - learning_rate*u       without momentum
        u  = g / sqrt(s + epsilon)                                     with momentum
        b <- momentum*b + learning_rate*u;   p <- p - b

    The class has two rules. Without momentum it is `flax_legacy`, with momentum
    `keras`. A momentum that is an array selects the second rule even if it is 0, as a
    tensor does in TensorFlow; so name "momentum" in `static_args` of
    `optax.inject_hyperparams`.

    Args:
      learning_rate: step size; a number, an array or a schedule.
      rho: decay of the second moment, in [0, 1).
      momentum: weight of the past in the buffer, in [0, 1).
      epsilon: added to the root, or under it with momentum; > 0, because 0 means 1e-7
        in tf.keras.
      centered: whether to divide by the standard deviation of the gradient.
      storage, nonfinite, seed: as in `rmsprop`.
    """
    arguments, facts = locals(), DIALECTS["keras_legacy"]
    if epsilon is not None and none_if_zero(epsilon) is None:
        raise ValueError(
            f"{facts.call.given(epsilon=0)} means {facts.eps_of_zero:g} in tf.keras. "
            "Pass that number; for no eps use `dialects.keras(epsilon=0)`."
        )
    return build("keras_legacy", arguments)


@dialect(
    framework="Sonnet 2",
    original="sonnet.optimizers.RMSProp",
    initial_scale=0.0,
    eps_in_sqrt=True,
    lr_in_momentum=True,
    centered=None,
    weight_decay="none",
    source="google-deepmind/sonnet sonnet/src/optimizers/rmsprop.py",
    verified="run: Sonnet 2.0.2, dense",
    surprise="TensorFlow 1's arguments and defaults, but `s` starts at 0",
)
def sonnet(
    learning_rate: ScalarOrSchedule,
    decay: ArrayLike = 0.9,
    momentum: ArrayLike = 0.0,
    epsilon: ArrayLike = 1e-10,
    centered: bool = False,
    *,
    storage: str | Format = "float32",
    nonfinite: str = "propagate",
    seed: ArrayLike = 0,
) -> optax.GradientTransformationExtraArgs:
    """RMSProp of Sonnet 2, `sonnet.optimizers.RMSProp`, for dense gradients.

        s <- decay*s + (1-decay)*|g|**2;   u = g / sqrt(s + epsilon)
        b <- momentum*b + learning_rate*u;   p <- p - b

    It is `tensorflow1` with `s` from 0: its first steps are up to 1/sqrt(1-decay) times
    the learning rate, while those of `tensorflow1` are short for small gradients.

    Args:
      learning_rate: step size; a number, an array or a schedule.
      decay: decay of the second moment, in [0, 1).
      momentum: weight of the past in the buffer, in [0, 1).
      epsilon: added under the root, >= 0, in the unit of |g|**2.
      centered: whether to divide by the standard deviation of the gradient.
      storage, nonfinite, seed: as in `rmsprop`.
    """
    return build("sonnet", locals())
