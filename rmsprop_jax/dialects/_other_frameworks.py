"""RMSProp of JAX, Flax, MLX and PaddlePaddle."""

import optax
from jax.typing import ArrayLike

from .._arguments import Pasted
from .._rmsprop import Mask, ScalarOrSchedule
from .._storage import Format
from ._dialect import build, dialect


@dialect(
    framework="JAX",
    original="jax.example_libraries.optimizers.rmsprop, rmsprop_momentum",
    initial_scale=0.0,
    eps_in_sqrt=True,
    lr_in_momentum=True,
    centered=False,
    weight_decay="none",
    source="jax-ml/jax jax/example_libraries/optimizers.py",
    verified="run: JAX 0.10.2",
    surprise="there are two functions, and `rmsprop_momentum` is the one with momentum",
)
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

        s <- gamma*s + (1-gamma)*|g|**2;   u = g / sqrt(s + eps)
        b <- momentum*b + step_size*u;   p <- p - b

    Without a momentum it is `rmsprop` of that module, and with one `rmsprop_momentum`,
    which has a momentum of 0.9 by default. The other defaults are those of
    `optax.rmsprop`.

    Args:
      step_size: step size; a number, an array or a schedule.
      gamma: decay of the second moment, in [0, 1).
      eps: added under the root, >= 0, in the unit of |g|**2.
      momentum: weight of the past in the buffer, in [0, 1); None for no buffer.
      storage, nonfinite, seed: as in `rmsprop`.
    """
    return build("jax_example_libraries", locals())


@dialect(
    framework="Flax before 0.6",
    original="flax.optim.RMSProp",
    initial_scale=0.0,
    eps_in_sqrt=False,
    lr_in_momentum=None,
    centered=None,
    weight_decay="none",
    source="google/flax flax/optim/rmsprop.py, up to version 0.5.3",
    verified="run: Flax 0.5.3",
    surprise="`centered` was added for DQN, but eps is outside the root, and in DQN "
    "inside",
)
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

        s <- beta2*s + (1-beta2)*|g|**2
        p <- p - learning_rate * g / (sqrt(s) + eps)

    It is `torch` with a decay of 0.9. `centered` was meant for DQN, but `dqn` has eps
    inside the root.

    Args:
      learning_rate: step size; a number, an array or a schedule.
      beta2: decay of the second moment, in [0, 1).
      eps: added to the root, >= 0, in the unit of |g|.
      centered: whether to divide by the standard deviation of the gradient.
      storage, nonfinite, seed: as in `rmsprop`.
    """
    return build("flax_legacy", locals())


@dialect(
    framework="MLX",
    original="mlx.optimizers.RMSprop",
    initial_scale=0.0,
    eps_in_sqrt=False,
    lr_in_momentum=None,
    centered=False,
    weight_decay="none",
    source="ml-explore/mlx python/mlx/optimizers/optimizers.py",
    verified="run: MLX 0.32.4 (CPU)",
    surprise="PyTorch's rule and defaults without momentum, centering and weight decay",
)
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

        s <- alpha*s + (1-alpha)*|g|**2
        p <- p - learning_rate * g / (sqrt(s) + eps)

    It is `torch` without momentum, centering and weight decay.

    Args:
      learning_rate: step size; a number, an array or a schedule.
      alpha: decay of the second moment, in [0, 1).
      eps: added to the root, >= 0, in the unit of |g|.
      storage, nonfinite, seed: as in `rmsprop`.
    """
    return build("mlx", locals())


@dialect(
    framework="PaddlePaddle",
    original="paddle.optimizer.RMSProp",
    initial_scale=0.0,
    eps_in_sqrt=True,
    lr_in_momentum=True,
    centered=None,
    weight_decay="coupled",
    source="PaddlePaddle/Paddle python/paddle/optimizer/rmsprop.py, "
    "paddle/phi/kernels/impl/rmsprop_kernel_impl.h",
    verified="run: PaddlePaddle 3.3.1 (CPU)",
    surprise="its documentation says Nesterov momentum, and its kernel computes plain "
    "momentum; `epsilon` comes before `momentum`",
    pasted=Pasted(
        inert=("name",),
        refused={
            "grad_clip": (None, "Chain clipping before it, with `optax.chain`."),
            "regularization": (None, "Pass the number as `weight_decay`."),
        },
    ),
)
def paddle(
    learning_rate: ScalarOrSchedule,
    rho: ArrayLike = 0.95,
    epsilon: ArrayLike = 1e-6,
    momentum: ArrayLike = 0.0,
    centered: bool = False,
    *,
    weight_decay: ArrayLike | None = None,
    weight_decay_mask: Mask = None,
    storage: str | Format = "float32",
    nonfinite: str = "propagate",
    seed: ArrayLike = 0,
) -> optax.GradientTransformationExtraArgs:
    """RMSProp of PaddlePaddle, `paddle.optimizer.RMSProp`.

        g <- g + weight_decay*p
        s <- rho*s + (1-rho)*|g|**2;   u = g / sqrt(s + epsilon)
        b <- momentum*b + learning_rate*u;   p <- p - b

    It is the rule of `keras`, with other weight decay and `epsilon` before `momentum`.
    PaddlePaddle's documentation calls the momentum Nesterov's, but it is not.

    Args:
      learning_rate: step size; a number, an array or a schedule.
      rho: decay of the second moment, in [0, 1).
      epsilon: added under the root, >= 0, in the unit of |g|**2.
      momentum: weight of the past in the buffer, in [0, 1).
      centered: whether to divide by the standard deviation of the gradient.
      weight_decay: coupled weight decay, >= 0, as PaddlePaddle's `L2Decay`; None for
        none.
      weight_decay_mask, storage, nonfinite, seed: as in `rmsprop`.
    """
    return build("paddle", locals())
