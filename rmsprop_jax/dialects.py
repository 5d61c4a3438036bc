"""RMSProp as each framework means it: its names, its order, its defaults, its rule.

A call can be pasted: `torch.optim.RMSprop(params, lr=1e-3, alpha=0.9)` is
`dialects.torch(lr=1e-3, alpha=0.9)`. `python -m rmsprop_jax dialects` prints how they
differ. The equations are in the letters of `rmsprop`: gradient `g`, second moment `s`,
mean gradient `m`, direction `u`, momentum buffer `b`, parameter `p`.

Every learning rate may be a schedule, and every number may be scheduled with
`optax.inject_hyperparams`. A momentum of 0 keeps no buffer; one that is an array, also
an injected one, keeps a buffer, to the same result.

Where an original goes wrong this does not: centered, its variance is `s - m**2`, which
rounding makes negative for a steady gradient, and the root NaN.
"""

from typing import Any

import jax
import optax
from jax.typing import ArrayLike
from jaxtyping import PyTree

from ._alias import ScalarOrSchedule, in_arithmetic, rmsprop
from ._cached import cached
from ._checks import BELOW, check_choice, check_injected, check_number
from ._clipping import clip_by_global_norm, clip_by_value, clip_by_variable_norm
from ._complex import split_complex
from ._dialect_facts import DIALECTS, OURS
from ._storage import Format, find_format

_AT_LEAST = {"learning_rate": -float("inf")}
_KERAS_CLIPS = {
    "clipnorm": clip_by_variable_norm,
    "clipvalue": clip_by_value,
    "global_clipnorm": clip_by_global_norm,
}


@cached
def torch(
    lr: ScalarOrSchedule = 1e-2,
    alpha: ArrayLike = 0.99,
    eps: ArrayLike = 1e-8,
    weight_decay: ArrayLike = 0,
    momentum: ArrayLike = 0,
    centered: bool = False,
    *,
    maximize: bool = False,
    storage: str | Format = "float32",
    nonfinite: str = "propagate",
    seed: ArrayLike = 0,
) -> optax.GradientTransformationExtraArgs:
    """RMSProp of PyTorch, `torch.optim.RMSprop`.

        g <- -g if maximize;   g <- g + weight_decay*p
        s <- alpha*s + (1-alpha)*g**2
        b <- momentum*b + g/(sqrt(s) + eps);   p <- p - lr*b

    `optax.rmsprop(eps_in_sqrt=False)` is the same without momentum only: its buffer
    accumulates lr*u, this one u. The real and imaginary parts of a complex parameter
    are two parameters.

    Args:
      lr: step size; a number, an array or a schedule.
      alpha: decay of the second moment, in [0, 1).
      eps: added to the root, >= 0, in the unit of |g|.
      weight_decay: coupled weight decay, >= 0.
      momentum: weight of the past in the buffer, in [0, 1).
      centered: whether to divide by the standard deviation of the gradient.
      maximize: whether to climb; weight decay still shrinks.
      storage, nonfinite, seed: as in `rmsprop`.

    Returns:
      An `optax.GradientTransformationExtraArgs`. In its state a complex leaf is a
      pair of real ones.

    Raises:
      ValueError, TypeError: as `rmsprop`, in the words of this call.

    Example:
      >>> import jax.numpy as jnp, optax, rmsprop_jax
      >>> tx = rmsprop_jax.dialects.torch(lr=0.01, alpha=0.9)
      >>> params = jnp.array([1.0, -2.0])
      >>> updates, state = tx.update(params, tx.init(params), params)
      >>> optax.apply_updates(params, updates).round(4)
      Array([ 0.9684, -1.9684], dtype=float32)

    Source: pytorch/pytorch torch/optim/rmsprop.py
    """
    numbers = dict(
        lr=lr, alpha=alpha, eps=eps, weight_decay=weight_decay, momentum=momentum
    )
    tx = _build("torch", numbers, (storage, nonfinite, seed), centered=centered)
    return split_complex(_after(optax.scale(-1.0), tx) if maximize else tx)


@cached
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

        s <- decay*s + (1-decay)*g**2,   from s = 1
        b <- momentum*b + learning_rate*g/sqrt(s + epsilon);   p <- p - b

    Beside `sonnet` it differs by the start at 1 alone. `centered` is a keyword because
    `use_locking` stands in its place there.

    Args:
      learning_rate: step size; a number, an array or a schedule.
      decay: decay of the second moment, in [0, 1).
      momentum: weight of the past in the buffer, in [0, 1).
      epsilon: added under the root, >= 0, in the unit of |g|**2.
      centered: whether to divide by the standard deviation of the gradient.
      storage, nonfinite, seed: as in `rmsprop`.

    Returns:
      An `optax.GradientTransformationExtraArgs`.

    Raises:
      ValueError, TypeError: as `rmsprop`, in the words of this call.

    Source: tensorflow/tensorflow tensorflow/python/training/rmsprop.py and
      tensorflow/core/kernels/training_ops.cc
    """
    numbers = dict(
        learning_rate=learning_rate, decay=decay, momentum=momentum, epsilon=epsilon
    )
    return _build("tensorflow1", numbers, (storage, nonfinite, seed), centered=centered)


@cached
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
        s <- rho*s + (1-rho)*g**2
        b <- momentum*b + learning_rate*g/sqrt(s + epsilon);   p <- p - b

    The rule of `sonnet` with other defaults, clipping and decoupled weight decay.
    `keras_legacy` is what `tf.keras` used up to TensorFlow 2.10.

    Args:
      learning_rate: step size; a number, an array or a schedule.
      rho: decay of the second moment, in [0, 1).
      momentum: weight of the past in the buffer, in [0, 1).
      epsilon: added under the root, >= 0, in the unit of |g|**2.
      centered: whether to divide by the standard deviation of the gradient.
      weight_decay: decoupled weight decay, >= 0; None for none.
      clipnorm: largest norm of each leaf, >= 0; None or 0 for no clipping.
      clipvalue: largest size of each coordinate, >= 0; None or 0 for no clipping.
      global_clipnorm: largest norm of all leaves together; likewise. At most one of
        the three may be given.
      storage, nonfinite, seed: as in `rmsprop`. A NaN makes a norm NaN, and so every
        coordinate that shares it.

    Returns:
      An `optax.GradientTransformationExtraArgs`.

    Raises:
      ValueError, TypeError: as `rmsprop`, in the words of this call; ValueError for
        more than one way to clip.

    Source: keras-team/keras keras/src/optimizers/rmsprop.py and base_optimizer.py
    """
    tx = _build(
        "keras",
        dict(
            learning_rate=learning_rate,
            rho=rho,
            momentum=momentum,
            epsilon=epsilon,
            weight_decay=weight_decay,
        ),
        (storage, nonfinite, seed),
        centered=centered,
    )
    limits = dict(
        clipnorm=clipnorm, clipvalue=clipvalue, global_clipnorm=global_clipnorm
    )
    given = {name: limit for name, limit in limits.items() if limit is not None}
    if len(given) > 1:
        values = ", ".join(f"{name}={limit}" for name, limit in given.items())
        raise ValueError(
            f"`dialects.keras({values})`: Keras clips in one way only. Pass one of "
            "`clipnorm`, `clipvalue` and `global_clipnorm`, or put others before it "
            "with `optax.chain`."
        )
    for name, limit in given.items():
        check_number("dialects.keras", name, limit)
        tx = _after(_KERAS_CLIPS[name](limit), tx)
    return tx


@cached
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

        s <- rho*s + (1-rho)*g**2
        p <- p - learning_rate*g/(sqrt(s) + epsilon)                   momentum 0
        b <- momentum*b + learning_rate*g/sqrt(s + epsilon);   p <- p - b     else

    Two rules in one class. Without momentum it is `flax_legacy`, with momentum `keras`.
    A momentum that is an array takes the second rule whatever its value, as a tensor
    does there; so under `optax.inject_hyperparams` name "momentum" in `static_args`.

    Args:
      learning_rate: step size; a number, an array or a schedule.
      rho: decay of the second moment, in [0, 1).
      momentum: weight of the past in the buffer, in [0, 1).
      epsilon: added to the root, or under it; > 0, for 0 means 1e-7 there.
      centered: whether to divide by the standard deviation of the gradient.
      storage, nonfinite, seed: as in `rmsprop`.

    Returns:
      An `optax.GradientTransformationExtraArgs`.

    Raises:
      ValueError, TypeError: as `rmsprop`, in the words of this call; ValueError for
        an epsilon of 0.

    Source: keras-team/tf-keras tf_keras/src/optimizers/legacy/rmsprop.py
    """
    if _is_zero(epsilon):
        raise ValueError(
            "`dialects.keras_legacy(epsilon=0)` means 1e-7 in tf-keras. Pass "
            "`epsilon=1e-7` for that; for no eps use `dialects.keras(epsilon=0)`."
        )
    numbers = dict(
        learning_rate=learning_rate, rho=rho, momentum=momentum, epsilon=epsilon
    )
    return _build(
        "keras_legacy",
        numbers,
        (storage, nonfinite, seed),
        centered=centered,
        eps_in_sqrt=not _is_zero(momentum),
    )


@cached
def timm(
    lr: ScalarOrSchedule = 1e-2,
    alpha: ArrayLike = 0.9,
    eps: ArrayLike = 1e-10,
    weight_decay: ArrayLike = 0,
    momentum: ArrayLike = 0.0,
    centered: bool = False,
    decoupled_decay: bool = False,
    *,
    lr_in_momentum: bool = True,
    storage: str | Format = "float32",
    nonfinite: str = "propagate",
    seed: ArrayLike = 0,
) -> optax.GradientTransformationExtraArgs:
    """RMSProp of timm, `timm.optim.RMSpropTF`.

        g <- g + weight_decay*p,   or   p <- p - lr*weight_decay*p
        s <- alpha*s + (1-alpha)*g**2,   from s = 1
        b <- momentum*b + lr*g/sqrt(s + eps);   p <- p - b      lr_in_momentum
        b <- momentum*b + g/sqrt(s + eps);      p <- p - lr*b   otherwise

    `tensorflow1` with weight decay; with `lr_in_momentum=False`, `stable_baselines3`.
    `lr_in_momentum` is a keyword because timm 1.0 put `corrected_weight_decay` before
    it; that one and `caution` are not here.

    Args:
      lr: step size; a number, an array or a schedule.
      alpha: decay of the second moment, in [0, 1).
      eps: added under the root, >= 0, in the unit of |g|**2.
      weight_decay: strength of weight decay, >= 0.
      momentum: weight of the past in the buffer, in [0, 1).
      centered: whether to divide by the standard deviation of the gradient.
      decoupled_decay: whether weight decay acts on the parameter and not on the
        gradient.
      lr_in_momentum: whether the buffer accumulates steps or directions.
      storage, nonfinite, seed: as in `rmsprop`.

    Returns:
      An `optax.GradientTransformationExtraArgs`.

    Raises:
      ValueError, TypeError: as `rmsprop`, in the words of this call.

    Source: huggingface/pytorch-image-models timm/optim/rmsprop_tf.py
    """
    numbers = dict(
        lr=lr, alpha=alpha, eps=eps, weight_decay=weight_decay, momentum=momentum
    )
    return _build(
        "timm",
        numbers,
        (storage, nonfinite, seed),
        centered=centered,
        decoupled_weight_decay=decoupled_decay,
        lr_in_momentum=lr_in_momentum,
    )


@cached
def stable_baselines3(
    lr: ScalarOrSchedule = 1e-2,
    alpha: ArrayLike = 0.99,
    eps: ArrayLike = 1e-8,
    weight_decay: ArrayLike = 0,
    momentum: ArrayLike = 0,
    centered: bool = False,
    *,
    storage: str | Format = "float32",
    nonfinite: str = "propagate",
    seed: ArrayLike = 0,
) -> optax.GradientTransformationExtraArgs:
    """RMSProp of Stable-Baselines3, `RMSpropTFLike`.

        g <- g + weight_decay*p
        s <- alpha*s + (1-alpha)*g**2,   from s = 1
        b <- momentum*b + g/sqrt(s + eps);   p <- p - lr*b

    Like TensorFlow by half: start and eps are those of `tensorflow1`, momentum and
    defaults those of `torch`.

    Args:
      lr: step size; a number, an array or a schedule.
      alpha: decay of the second moment, in [0, 1).
      eps: added under the root, >= 0, in the unit of |g|**2.
      weight_decay: coupled weight decay, >= 0.
      momentum: weight of the past in the buffer, in [0, 1).
      centered: whether to divide by the standard deviation of the gradient.
      storage, nonfinite, seed: as in `rmsprop`.

    Returns:
      An `optax.GradientTransformationExtraArgs`.

    Raises:
      ValueError, TypeError: as `rmsprop`, in the words of this call.

    Source: DLR-RM/stable-baselines3
      stable_baselines3/common/sb2_compat/rmsprop_tf_like.py
    """
    numbers = dict(
        lr=lr, alpha=alpha, eps=eps, weight_decay=weight_decay, momentum=momentum
    )
    keep = (storage, nonfinite, seed)
    return _build("stable_baselines3", numbers, keep, centered=centered)


@cached
def jax_example_libraries(
    step_size: ScalarOrSchedule,
    gamma: ArrayLike = 0.9,
    eps: ArrayLike = 1e-8,
    momentum: ArrayLike | None = None,
    *,
    storage: str | Format = "float32",
    nonfinite: str = "propagate",
    seed: ArrayLike = 0,
) -> optax.GradientTransformationExtraArgs:
    """RMSProp of `jax.example_libraries.optimizers`.

        s <- gamma*s + (1-gamma)*g**2
        b <- momentum*b + step_size*g/sqrt(s + eps);   p <- p - b

    `rmsprop` there without a momentum, `rmsprop_momentum` with one, whose default is
    0.9. The defaults are those of `optax.rmsprop`.

    Args:
      step_size: step size; a number, an array or a schedule.
      gamma: decay of the second moment, in [0, 1).
      eps: added under the root, >= 0, in the unit of |g|**2.
      momentum: weight of the past in the buffer, in [0, 1); None for no buffer.
      storage, nonfinite, seed: as in `rmsprop`.

    Returns:
      An `optax.GradientTransformationExtraArgs`.

    Raises:
      ValueError, TypeError: as `rmsprop`, in the words of this call.

    Source: jax-ml/jax jax/example_libraries/optimizers.py
    """
    numbers = dict(step_size=step_size, gamma=gamma, eps=eps, momentum=momentum)
    return _build("jax_example_libraries", numbers, (storage, nonfinite, seed))


@cached
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

        s <- decay*s + (1-decay)*g**2
        b <- momentum*b + learning_rate*g/sqrt(s + epsilon);   p <- p - b

    `tensorflow1` with `s` from 0: its first steps are up to 1/sqrt(1-decay) times the
    learning rate, where those of `tensorflow1` are short for small gradients.

    Args:
      learning_rate: step size; a number, an array or a schedule.
      decay: decay of the second moment, in [0, 1).
      momentum: weight of the past in the buffer, in [0, 1).
      epsilon: added under the root, >= 0, in the unit of |g|**2.
      centered: whether to divide by the standard deviation of the gradient.
      storage, nonfinite, seed: as in `rmsprop`.

    Returns:
      An `optax.GradientTransformationExtraArgs`.

    Raises:
      ValueError, TypeError: as `rmsprop`, in the words of this call.

    Source: google-deepmind/sonnet sonnet/src/optimizers/rmsprop.py
    """
    numbers = dict(
        learning_rate=learning_rate, decay=decay, momentum=momentum, epsilon=epsilon
    )
    return _build("sonnet", numbers, (storage, nonfinite, seed), centered=centered)


@cached
def flax_legacy(
    learning_rate: ScalarOrSchedule,
    beta2: ArrayLike = 0.9,
    eps: ArrayLike = 1e-8,
    centered: bool = False,
    *,
    storage: str | Format = "float32",
    nonfinite: str = "propagate",
    seed: ArrayLike = 0,
) -> optax.GradientTransformationExtraArgs:
    """RMSProp of Flax before 0.6, `flax.optim.RMSProp`.

        s <- beta2*s + (1-beta2)*g**2;   p <- p - learning_rate*g/(sqrt(s) + eps)

    `torch` with a decay of 0.9. Centered it was meant for DQN, but `dqn` has eps
    inside the root.

    Args:
      learning_rate: step size; a number, an array or a schedule.
      beta2: decay of the second moment, in [0, 1).
      eps: added to the root, >= 0, in the unit of |g|.
      centered: whether to divide by the standard deviation of the gradient.
      storage, nonfinite, seed: as in `rmsprop`.

    Returns:
      An `optax.GradientTransformationExtraArgs`.

    Raises:
      ValueError, TypeError: as `rmsprop`, in the words of this call.

    Source: google/flax flax/optim/rmsprop.py, up to version 0.5.3
    """
    numbers = dict(learning_rate=learning_rate, beta2=beta2, eps=eps)
    return _build("flax_legacy", numbers, (storage, nonfinite, seed), centered=centered)


@cached
def bitsandbytes(
    lr: ScalarOrSchedule = 1e-2,
    alpha: ArrayLike = 0.99,
    eps: ArrayLike = 1e-8,
    weight_decay: ArrayLike = 0,
    *,
    storage: str | Format = "float32",
    nonfinite: str = "propagate",
    seed: ArrayLike = 0,
) -> optax.GradientTransformationExtraArgs:
    """RMSProp of bitsandbytes, `bitsandbytes.optim.RMSprop32bit`.

        g <- g + weight_decay*p
        s <- alpha*s + (1-alpha)*g**2;   p <- p - lr*g/(sqrt(s) + eps)

    `torch` without momentum and centering. There is no `momentum` here because the
    original takes one and never reads it: leave it out, or use `torch` for a run that
    was meant to have it. `centered` it refuses.

    Args:
      lr: step size; a number, an array or a schedule.
      alpha: decay of the second moment, in [0, 1).
      eps: added to the root, >= 0, in the unit of |g|.
      weight_decay: coupled weight decay, >= 0.
      storage, nonfinite, seed: as in `rmsprop`.

    Returns:
      An `optax.GradientTransformationExtraArgs`.

    Raises:
      ValueError, TypeError: as `rmsprop`, in the words of this call.

    Source: bitsandbytes-foundation/bitsandbytes bitsandbytes/optim/rmsprop.py
    """
    numbers = dict(lr=lr, alpha=alpha, eps=eps, weight_decay=weight_decay)
    return _build("bitsandbytes", numbers, (storage, nonfinite, seed))


@cached
def mlx(
    learning_rate: ScalarOrSchedule,
    alpha: ArrayLike = 0.99,
    eps: ArrayLike = 1e-8,
    *,
    storage: str | Format = "float32",
    nonfinite: str = "propagate",
    seed: ArrayLike = 0,
) -> optax.GradientTransformationExtraArgs:
    """RMSProp of MLX, `mlx.optimizers.RMSprop`.

        s <- alpha*s + (1-alpha)*g**2;   p <- p - learning_rate*g/(sqrt(s) + eps)

    `torch` without momentum, centering and weight decay.

    Args:
      learning_rate: step size; a number, an array or a schedule.
      alpha: decay of the second moment, in [0, 1).
      eps: added to the root, >= 0, in the unit of |g|.
      storage, nonfinite, seed: as in `rmsprop`.

    Returns:
      An `optax.GradientTransformationExtraArgs`.

    Raises:
      ValueError, TypeError: as `rmsprop`, in the words of this call.

    Source: ml-explore/mlx python/mlx/optimizers/optimizers.py
    """
    numbers = dict(learning_rate=learning_rate, alpha=alpha, eps=eps)
    return _build("mlx", numbers, (storage, nonfinite, seed))


@cached
def paddle(
    learning_rate: ScalarOrSchedule,
    rho: ArrayLike = 0.95,
    epsilon: ArrayLike = 1e-6,
    momentum: ArrayLike = 0.0,
    centered: bool = False,
    *,
    weight_decay: ArrayLike | None = None,
    storage: str | Format = "float32",
    nonfinite: str = "propagate",
    seed: ArrayLike = 0,
) -> optax.GradientTransformationExtraArgs:
    """RMSProp of PaddlePaddle, `paddle.optimizer.RMSProp`.

        g <- g + weight_decay*p
        s <- rho*s + (1-rho)*g**2
        b <- momentum*b + learning_rate*g/sqrt(s + epsilon);   p <- p - b

    The rule of `keras` but for weight decay, with `epsilon` before `momentum`. Its
    documentation calls the momentum Nesterov's; it is not.

    Args:
      learning_rate: step size; a number, an array or a schedule.
      rho: decay of the second moment, in [0, 1).
      epsilon: added under the root, >= 0, in the unit of |g|**2.
      momentum: weight of the past in the buffer, in [0, 1).
      centered: whether to divide by the standard deviation of the gradient.
      weight_decay: coupled weight decay, >= 0: a number there, `L2Decay` in words;
        None for none.
      storage, nonfinite, seed: as in `rmsprop`.

    Returns:
      An `optax.GradientTransformationExtraArgs`.

    Raises:
      ValueError, TypeError: as `rmsprop`, in the words of this call.

    Source: PaddlePaddle/Paddle python/paddle/optimizer/rmsprop.py and
      paddle/phi/kernels/impl/rmsprop_kernel_impl.h
    """
    numbers = dict(
        learning_rate=learning_rate,
        rho=rho,
        epsilon=epsilon,
        momentum=momentum,
        weight_decay=weight_decay,
    )
    return _build("paddle", numbers, (storage, nonfinite, seed), centered=centered)


@cached
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
        d = g - m;   m <- m + (1-decay)*d;   s <- decay*s + (1-decay)*d*(g - m)
        p <- p - lr*g/sqrt(s + eps)

    There is no momentum: what the paper's table calls gradient momentum and squared
    gradient momentum, both 0.95, are the decay of `m` and of `s`. `eps` of 0.01, the
    min squared gradient there, belongs to gradients summed over a batch of 32; for
    gradients of the mean the same rule has 0.01/32**2.

    Args:
      lr: step size; a number, an array or a schedule.
      decay: decay of the mean gradient and of its variance, in [0, 1); 0.95 is fixed
        there.
      eps: added under the root, >= 0, in the unit of |g|**2; 0.01 is fixed there.
      wc: coupled weight decay, >= 0.
      storage, nonfinite, seed: as in `rmsprop`.

    Returns:
      An `optax.GradientTransformationExtraArgs`.

    Raises:
      ValueError, TypeError: as `rmsprop`, in the words of this call.

    Source: kuz/DeepMind-Atari-Deep-Q-Learner dqn/NeuralQLearner.lua, a copy of
      DeepMind's release; Mnih et al., Human-level control through deep reinforcement
      learning, 2015, Extended Data Table 1.
    """
    numbers = dict(lr=lr, decay=decay, eps=eps, wc=wc)
    return _build("dqn", numbers, (storage, nonfinite, seed))


@cached
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

        d = g - m;   m <- m + (1-alpha)*d;   s <- alpha*s + (1-alpha)*d*(g - m)
        b <- momentum*b + lr*g/sqrt(s + eps);   p <- p - b

    `sonnet(centered=True)` with these defaults. Arguments and their order are those of
    `chainer.optimizers.RMSpropGraves`.

    Args:
      lr: step size; a number, an array or a schedule.
      alpha: decay of the mean gradient and of its variance, in [0, 1).
      momentum: weight of the past in the buffer, in [0, 1).
      eps: added under the root, >= 0, in the unit of |g|**2.
      storage, nonfinite, seed: as in `rmsprop`.

    Returns:
      An `optax.GradientTransformationExtraArgs`.

    Raises:
      ValueError, TypeError: as `rmsprop`, in the words of this call.

    Source: Graves, Generating Sequences With Recurrent Neural Networks, 2013,
      eq. 38-45; chainer/chainer chainer/optimizers/rmsprop_graves.py
    """
    numbers = dict(lr=lr, alpha=alpha, momentum=momentum, eps=eps)
    return _build("graves", numbers, (storage, nonfinite, seed))


@cached
def hinton(
    learning_rate: ScalarOrSchedule,
    decay: ArrayLike = 0.9,
    *,
    storage: str | Format = "float32",
    nonfinite: str = "propagate",
    seed: ArrayLike = 0,
) -> optax.GradientTransformationExtraArgs:
    """RMSProp of the lecture that introduced it.

        s <- decay*s + (1-decay)*g**2;   p <- p - learning_rate*g/sqrt(s)

    No eps is stated, and none is needed: here a zero gradient gives a zero step. The
    first step of every coordinate is learning_rate/sqrt(1-decay).

    Args:
      learning_rate: step size; a number, an array or a schedule.
      decay: decay of the second moment, in [0, 1).
      storage, nonfinite, seed: as in `rmsprop`.

    Returns:
      An `optax.GradientTransformationExtraArgs`.

    Raises:
      ValueError, TypeError: as `rmsprop`, in the words of this call.

    Source: Tieleman and Hinton, Lecture 6.5, COURSERA: Neural Networks for Machine
      Learning, 2012.
    """
    numbers = dict(learning_rate=learning_rate, decay=decay, eps=0.0)
    return _build("hinton", numbers, (storage, nonfinite, seed))


@cached
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

        s <- gamma*s + (1-gamma)*g**2;   p <- p - lr*g/sqrt(s + eps)

    `jax_example_libraries` with another eps. The book's concise version is `torch`.

    Args:
      lr: step size; a number, an array or a schedule.
      gamma: decay of the second moment, in [0, 1).
      eps: added under the root, >= 0, in the unit of |g|**2; 1e-6 is fixed there.
      storage, nonfinite, seed: as in `rmsprop`.

    Returns:
      An `optax.GradientTransformationExtraArgs`.

    Raises:
      ValueError, TypeError: as `rmsprop`, in the words of this call.

    Source: d2l-ai/d2l-en chapter_optimization/rmsprop.md
    """
    numbers = dict(lr=lr, gamma=gamma, eps=eps)
    return _build("d2l", numbers, (storage, nonfinite, seed))


def _build(
    dialect: str,
    numbers: dict[str, Any],
    keep: tuple[str | Format, str, ArrayLike],
    **switches: bool,
) -> optax.GradientTransformationExtraArgs:
    """Make the `rmsprop` of a dialect from its numbers, in its own words."""
    call, facts = f"dialects.{dialect}", DIALECTS[dialect]
    storage, nonfinite, seed = keep
    numbers = {name: value for name, value in numbers.items() if value is not None}
    find_format(call, storage)
    check_choice(call, "nonfinite", nonfinite, ("propagate", "hold"))
    for name, value in numbers.items():
        _check(call, name, value)
    arguments = {
        "eps_in_sqrt": facts.eps_in_sqrt,
        "lr_in_momentum": bool(facts.lr_in_momentum),
        "centered": bool(facts.centered),
        "decoupled_weight_decay": facts.weight_decay == "decoupled",
        **switches,
        **{OURS.get(name, name): value for name, value in numbers.items()},
    }
    for name in ("momentum", "weight_decay"):
        if _is_zero(arguments.get(name)):
            arguments[name] = None
    tx = rmsprop(
        initial_scale=facts.initial_scale,
        storage=storage,
        nonfinite=nonfinite,
        seed=seed,
        **arguments,
    )
    return _checked_at_init(call, numbers, tx)


def _check(call: str, name: str, value: Any) -> None:
    ours = OURS.get(name, name)
    if ours == "learning_rate" and callable(value):
        return
    at_least, below = _AT_LEAST.get(ours, 0.0), BELOW.get(ours, float("inf"))
    check_number(call, name, value, at_least=at_least, below=below)


def _checked_at_init(
    call: str, numbers: dict[str, Any], tx: optax.GradientTransformationExtraArgs
) -> optax.GradientTransformationExtraArgs:
    """Refuse a number that injection has rounded, in the words of the dialect."""

    def init(params: PyTree) -> Any:
        for name, value in numbers.items():
            ours = OURS.get(name, name)
            if ours != "learning_rate":
                check_injected(call, name, value, ours)
        return tx.init(params)

    return optax.GradientTransformationExtraArgs(init, tx.update)


def _after(
    first: optax.GradientTransformation, tx: optax.GradientTransformationExtraArgs
) -> optax.GradientTransformationExtraArgs:
    return in_arithmetic(optax.chain(first, tx))


def _is_zero(number: Any) -> bool:
    return not isinstance(number, jax.Array) and bool(number == 0)
