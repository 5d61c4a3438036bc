"""RMSProp of TensorFlow 1, and of Sonnet after it."""

import optax
from jax.typing import ArrayLike

from .._arguments import Pasted
from .._rmsprop import ScalarOrSchedule
from .._storage import Format
from ._dialect import build, dialect


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
    pasted=Pasted(inert=("name", "use_locking")),
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
    pasted=Pasted(inert=("name",)),
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
