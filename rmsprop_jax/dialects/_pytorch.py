"""RMSProp of PyTorch, and of packages with its argument names."""

import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from .._arguments import Pasted, check_flags
from .._rmsprop import Mask, ScalarOrSchedule
from .._storage import Format
from ._clipping import map_gradients
from ._dialect import DIALECTS, build, dialect


@dialect(
    framework="PyTorch",
    original="torch.optim.RMSprop",
    initial_scale=0.0,
    eps_in_sqrt=False,
    lr_in_momentum=False,
    centered=None,
    weight_decay="coupled",
    source="pytorch/pytorch torch/optim/rmsprop.py",
    verified="run: torch 2.13.0",
    surprise="the buffer accumulates directions, so a new learning rate acts on "
    "the whole buffer at once; the two parts of a complex number are two parameters",
    complex_as_parts=True,
    pasted=Pasted(inert=("foreach", "fused", "capturable", "differentiable")),
)
def torch(
    lr: ScalarOrSchedule = 1e-2,
    alpha: ArrayLike = 0.99,
    eps: ArrayLike = 1e-8,
    weight_decay: ArrayLike = 0,
    momentum: ArrayLike = 0,
    centered: bool = False,
    *,
    maximize: bool = False,
    weight_decay_mask: Mask = None,
    storage: str | Format = "float32",
    nonfinite: str = "propagate",
    seed: ArrayLike = 0,
) -> optax.GradientTransformationExtraArgs:
    """RMSProp of PyTorch, `torch.optim.RMSprop`.

        g <- -g if maximize;   g <- g + weight_decay*p
        s <- alpha*s + (1-alpha)*|g|**2;   u = g / (sqrt(s) + eps)
        b <- momentum*b + u;   p <- p - lr*b

    `optax.rmsprop(eps_in_sqrt=False)` is equal to it only without momentum: its buffer
    accumulates `lr*u`, and this one `u`. The real and imaginary parts of a complex
    parameter are two parameters; in the state they are a pair of real arrays.

    Args:
      lr: step size; a number, an array or a schedule.
      alpha: decay of the second moment, in [0, 1).
      eps: added to the root, >= 0, in the unit of |g|.
      weight_decay: coupled weight decay, >= 0.
      momentum: weight of the past in the buffer, in [0, 1).
      centered: whether to divide by the standard deviation of the gradient.
      maximize: whether to go up the gradient; weight decay shrinks parameters still.
      weight_decay_mask, storage, nonfinite, seed: as in `rmsprop`.

    Example:
      >>> import jax.numpy as jnp, optax, rmsprop_jax
      >>> tx = rmsprop_jax.dialects.torch(lr=0.01, alpha=0.9)
      >>> params = jnp.array([1.0, -2.0])
      >>> updates, state = tx.update(params, tx.init(params), params)
      >>> optax.apply_updates(params, updates).round(4)
      Array([ 0.9684, -1.9684], dtype=float32)
    """
    arguments = locals()
    check_flags(DIALECTS["torch"].call, maximize=maximize)
    negate = optax.stateless(lambda updates, _: map_gradients(jnp.negative, updates))
    first = [negate] if maximize else []
    return build("torch", arguments, first, apart=("maximize",))


@dialect(
    framework="timm",
    original="timm.optim.RMSpropTF",
    initial_scale=1.0,
    eps_in_sqrt=True,
    lr_in_momentum=True,
    centered=None,
    weight_decay="either",
    source="huggingface/pytorch-image-models timm/optim/rmsprop_tf.py",
    verified="run: timm 1.0.31",
    surprise="TensorFlow's rule with PyTorch's argument names; `lr_in_momentum=False` "
    "selects PyTorch's momentum",
    pasted=Pasted(
        refused={
            "corrected_weight_decay": (
                False,
                "Schedule `weight_decay` in proportion to the learning rate, with "
                "`optax.inject_hyperparams`.",
            ),
            "caution": (
                False,
                "It masks updates as Liang et al., Cautious Optimizers, 2024, do. "
                "Chain a transformation that does so after it.",
            ),
        }
    ),
)
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
    weight_decay_mask: Mask = None,
    storage: str | Format = "float32",
    nonfinite: str = "propagate",
    seed: ArrayLike = 0,
) -> optax.GradientTransformationExtraArgs:
    """RMSProp of timm, `timm.optim.RMSpropTF`.

        g <- g + weight_decay*p,   or   p <- p - lr*weight_decay*p   decoupled_decay
        s <- alpha*s + (1-alpha)*|g|**2, from s = 1;   u = g / sqrt(s + eps)
        b <- momentum*b + lr*u;   p <- p - b                         lr_in_momentum
        b <- momentum*b + u;      p <- p - lr*b                      otherwise

    It is `tensorflow1` with weight decay, or with `lr_in_momentum=False` the rule of
    `stable_baselines3`. `lr_in_momentum` is a keyword because timm 1.0 has
    `corrected_weight_decay` before it. That argument and `caution` do not exist here.

    Args:
      lr: step size; a number, an array or a schedule.
      alpha: decay of the second moment, in [0, 1).
      eps: added under the root, >= 0, in the unit of |g|**2.
      weight_decay: strength of weight decay, >= 0.
      momentum: weight of the past in the buffer, in [0, 1).
      centered: whether to divide by the standard deviation of the gradient.
      decoupled_decay: whether weight decay acts on the parameter instead of on the
        gradient.
      lr_in_momentum: whether the buffer accumulates steps or directions.
      weight_decay_mask, storage, nonfinite, seed: as in `rmsprop`.
    """
    return build("timm", locals())


@dialect(
    framework="Stable-Baselines3",
    original="RMSpropTFLike",
    initial_scale=1.0,
    eps_in_sqrt=True,
    lr_in_momentum=False,
    centered=None,
    weight_decay="coupled",
    source="DLR-RM/stable-baselines3 "
    "stable_baselines3/common/sb2_compat/rmsprop_tf_like.py",
    verified="run: Stable-Baselines3 2.9.2",
    surprise="TensorFlow's start and place of eps, but PyTorch's momentum and defaults",
)
def stable_baselines3(
    lr: ScalarOrSchedule = 1e-2,
    alpha: ArrayLike = 0.99,
    eps: ArrayLike = 1e-8,
    weight_decay: ArrayLike = 0,
    momentum: ArrayLike = 0,
    centered: bool = False,
    *,
    weight_decay_mask: Mask = None,
    storage: str | Format = "float32",
    nonfinite: str = "propagate",
    seed: ArrayLike = 0,
) -> optax.GradientTransformationExtraArgs:
    """RMSProp of Stable-Baselines3, `RMSpropTFLike`.

        g <- g + weight_decay*p
        s <- alpha*s + (1-alpha)*|g|**2, from s = 1;   u = g / sqrt(s + eps)
        b <- momentum*b + u;   p <- p - lr*b

    The start and the place of eps are those of `tensorflow1`, momentum and defaults
    those of `torch`.

    Args:
      lr: step size; a number, an array or a schedule.
      alpha: decay of the second moment, in [0, 1).
      eps: added under the root, >= 0, in the unit of |g|**2.
      weight_decay: coupled weight decay, >= 0.
      momentum: weight of the past in the buffer, in [0, 1).
      centered: whether to divide by the standard deviation of the gradient.
      weight_decay_mask, storage, nonfinite, seed: as in `rmsprop`.
    """
    return build("stable_baselines3", locals())


@dialect(
    framework="bitsandbytes",
    original="bitsandbytes.optim.RMSprop32bit",
    initial_scale=0.0,
    eps_in_sqrt=False,
    lr_in_momentum=None,
    centered=False,
    weight_decay="coupled",
    source="bitsandbytes-foundation/bitsandbytes bitsandbytes/optim/rmsprop.py, "
    "bitsandbytes/backends/cpu/ops.py",
    verified="run: bitsandbytes 0.50.2 (CPU)",
    surprise="its `momentum` argument is accepted and has no effect",
    pasted=Pasted(
        inert=("args", "min_8bit_size", "block_wise"),
        refused={
            "momentum": (
                0,
                "The original ignores it. Leave it out, or use `dialects.torch`.",
            ),
            "centered": (False, "The original refuses it. Use `dialects.torch`."),
            "optim_bits": (32, 'For a state in 8 bits pass `storage="uint8"`.'),
            "percentile_clipping": (
                100,
                "Chain clipping before it, with `optax.chain`.",
            ),
        },
    ),
)
def bitsandbytes(
    lr: ScalarOrSchedule = 1e-2,
    alpha: ArrayLike = 0.99,
    eps: ArrayLike = 1e-8,
    weight_decay: ArrayLike = 0,
    *,
    weight_decay_mask: Mask = None,
    storage: str | Format = "float32",
    nonfinite: str = "propagate",
    seed: ArrayLike = 0,
) -> optax.GradientTransformationExtraArgs:
    """RMSProp of bitsandbytes, `bitsandbytes.optim.RMSprop32bit`.

        g <- g + weight_decay*p
        s <- alpha*s + (1-alpha)*|g|**2;   p <- p - lr * g / (sqrt(s) + eps)

    It is `torch` without momentum and centering. There is no `momentum` here, because
    the original accepts one and does not use it: leave it out to repeat such a run, or
    use `torch` for momentum. The original refuses `centered=True`.

    Args:
      lr: step size; a number, an array or a schedule.
      alpha: decay of the second moment, in [0, 1).
      eps: added to the root, >= 0, in the unit of |g|.
      weight_decay: coupled weight decay, >= 0.
      weight_decay_mask, storage, nonfinite, seed: as in `rmsprop`.
    """
    return build("bitsandbytes", locals())
