"""RMSProp of a lecture, two papers and a book."""

import optax
from jax.typing import ArrayLike

from .._rmsprop import ScalarOrSchedule
from .._storage import Format
from ._dialect import NOT_RUN, build, dialect


@dialect(
    framework="Hinton, 2012",
    original="Lecture 6e, slide 29",
    initial_scale=0.0,
    eps_in_sqrt=True,
    lr_in_momentum=None,
    centered=False,
    weight_decay="none",
    source="Tieleman and Hinton, Lecture 6.5, COURSERA: Neural Networks for Machine "
    "Learning, 2012",
    verified=NOT_RUN,
    surprise="it states neither eps nor the start of `s`; both are 0 here",
)
def hinton(
    learning_rate: ScalarOrSchedule,
    decay: ArrayLike = 0.9,
    *,
    storage: str | Format = "float32",
    nonfinite: str = "propagate",
    seed: ArrayLike = 0,
) -> optax.GradientTransformationExtraArgs:
    """RMSProp of the lecture that introduced it.

        s <- decay*s + (1-decay)*|g|**2;   p <- p - learning_rate * g / sqrt(s)

    The lecture states no eps, and none is needed: here a zero gradient gives a zero
    step. The first step of every coordinate is learning_rate/sqrt(1-decay) long.

    Args:
      learning_rate: step size; a number, an array or a schedule.
      decay: decay of the second moment, in [0, 1).
      storage, nonfinite, seed: as in `rmsprop`.
    """
    return build("hinton", locals(), eps=0.0)


@dialect(
    framework="Graves, 2013",
    original="equations 38-45; chainer.optimizers.RMSpropGraves",
    initial_scale=0.0,
    eps_in_sqrt=True,
    lr_in_momentum=True,
    centered=True,
    weight_decay="none",
    source="Graves, Generating Sequences With Recurrent Neural Networks, 2013, "
    "eq. 38-45; chainer/chainer chainer/optimizers/rmsprop_graves.py",
    verified=NOT_RUN,
    surprise="the first centered form; it is always centered",
)
def graves(
    lr: ScalarOrSchedule = 1e-4,
    alpha: ArrayLike = 0.95,
    momentum: ArrayLike = 0.9,
    eps: ArrayLike = 1e-4,
    *,
    storage: str | Format = "float32",
    nonfinite: str = "propagate",
    seed: ArrayLike = 0,
) -> optax.GradientTransformationExtraArgs:
    """RMSProp of Graves's handwriting networks, the first centered one.

        m <- m + (1-alpha) * (g - m);   d = g - m
        s <- alpha*s + (1-alpha)/alpha * |d|**2;   u = g / sqrt(s + eps)
        b <- momentum*b + lr*u;   p <- p - b

    It is `sonnet(centered=True)` with other defaults. The arguments and their order are
    those of `chainer.optimizers.RMSpropGraves`.

    Args:
      lr: step size; a number, an array or a schedule.
      alpha: decay of the mean gradient and of its variance, in [0, 1).
      momentum: weight of the past in the buffer, in [0, 1).
      eps: added under the root, >= 0, in the unit of |g|**2.
      storage, nonfinite, seed: as in `rmsprop`.
    """
    return build("graves", locals())


@dialect(
    framework="DQN (Nature, 2015)",
    original="NeuralQLearner:qLearnMinibatch",
    initial_scale=0.0,
    eps_in_sqrt=True,
    lr_in_momentum=None,
    centered=True,
    weight_decay="coupled",
    source="kuz/DeepMind-Atari-Deep-Q-Learner dqn/NeuralQLearner.lua, a copy of "
    "DeepMind's release; Mnih et al., Human-level control through deep reinforcement "
    "learning, 2015, Extended Data Table 1",
    verified=NOT_RUN,
    surprise="what the paper calls gradient momentum, 0.95, is the decay of the mean "
    "gradient; eps of 0.01 is for gradients that are summed over 32 samples",
)
def dqn(
    lr: ScalarOrSchedule = 0.00025,
    decay: ArrayLike = 0.95,
    eps: ArrayLike = 0.01,
    wc: ArrayLike = 0,
    *,
    storage: str | Format = "float32",
    nonfinite: str = "propagate",
    seed: ArrayLike = 0,
) -> optax.GradientTransformationExtraArgs:
    """RMSProp of the Nature DQN, as its Lua code has it.

        g <- g + wc*p
        m <- m + (1-decay) * (g - m);   d = g - m
        s <- decay*s + (1-decay)/decay * |d|**2;   p <- p - lr * g / sqrt(s + eps)

    There is no momentum: what the paper's table calls gradient momentum and squared
    gradient momentum, both 0.95, are the decay of `m` and that of `s`. The eps of 0.01,
    which the table calls min squared gradient, is for gradients that are summed over a
    batch of 32; for gradients of the mean the same rule has an eps of 0.01/32**2.

    Args:
      lr: step size; a number, an array or a schedule.
      decay: decay of the mean gradient and of its variance, in [0, 1); the original
        always uses 0.95.
      eps: added under the root, >= 0, in the unit of |g|**2; the original always
        uses 0.01.
      wc: coupled weight decay, >= 0.
      storage, nonfinite, seed: as in `rmsprop`.
    """
    return build("dqn", locals())


@dialect(
    framework="Dive into Deep Learning",
    original="chapter 12.8, RMSProp",
    initial_scale=0.0,
    eps_in_sqrt=True,
    lr_in_momentum=None,
    centered=False,
    weight_decay="none",
    source="d2l-ai/d2l-en chapter_optimization/rmsprop.md",
    verified=NOT_RUN,
    surprise="the book's concise version, which is PyTorch's, has eps outside the root",
)
def d2l(
    lr: ScalarOrSchedule = 0.01,
    gamma: ArrayLike = 0.9,
    eps: ArrayLike = 1e-6,
    *,
    storage: str | Format = "float32",
    nonfinite: str = "propagate",
    seed: ArrayLike = 0,
) -> optax.GradientTransformationExtraArgs:
    """RMSProp of the book Dive into Deep Learning, from scratch.

        s <- gamma*s + (1-gamma)*|g|**2;   p <- p - lr * g / sqrt(s + eps)

    It is `jax_example_libraries` with another eps. The book's concise version is
    `torch`.

    Args:
      lr: step size; a number, an array or a schedule.
      gamma: decay of the second moment, in [0, 1).
      eps: added under the root, >= 0, in the unit of |g|**2; the book uses 1e-6.
      storage, nonfinite, seed: as in `rmsprop`.
    """
    return build("d2l", locals())
