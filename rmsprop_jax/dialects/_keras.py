"""RMSProp of Keras 3, and of tf.keras up to TensorFlow 2.10."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from .._arguments import (
    Call,
    Pasted,
    check_arrays,
    check_learning_rate,
    check_numbers,
)
from .._rmsprop import Mask, ScalarOrSchedule
from .._storage import Format
from ._clipping import clip_by_global_norm, clip_by_value, clip_by_variable_norm
from ._dialect import DIALECTS, build, dialect, none_if_zero

_CLIPPING = {
    "clipvalue": clip_by_value,
    "clipnorm": clip_by_variable_norm,
    "global_clipnorm": clip_by_global_norm,
}


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
    eps_of_none=1e-7,
    pasted=Pasted(
        also={"lr": "learning_rate"},
        inert=(
            "name",
            "jit_compile",
            "is_legacy_optimizer",
            "ema_momentum",
            "ema_overwrite_frequency",
        ),
        refused={
            "decay": (
                0,
                "Keras 3 ignores it. For the time decay of the learning rate "
                "in Keras 2 use `dialects.keras_legacy`.",
            ),
            "use_ema": (
                False,
                "Average the parameters beside it, with `optax.incremental_update`.",
            ),
            "loss_scale_factor": (
                None,
                "Chain `optax.scale(1/loss_scale_factor)` before it.",
            ),
            "gradient_accumulation_steps": (None, "Wrap it in `optax.MultiSteps`."),
        },
    ),
)
def keras(
    learning_rate: ScalarOrSchedule = 0.001,
    rho: ArrayLike = 0.9,
    momentum: ArrayLike = 0.0,
    epsilon: ArrayLike | None = 1e-7,
    centered: bool = False,
    *,
    weight_decay: ArrayLike | None = None,
    clipnorm: ArrayLike | None = None,
    clipvalue: ArrayLike | None = None,
    global_clipnorm: ArrayLike | None = None,
    weight_decay_mask: Mask = None,
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
      epsilon: added under the root, >= 0, in the unit of |g|**2; None for 1e-7.
      centered: whether to divide by the standard deviation of the gradient.
      weight_decay: decoupled weight decay, >= 0; None for none.
      clipnorm: largest norm of the gradient of each parameter, >= 0; None or 0 for no
        clipping. At most one of the three limits may be given.
      clipvalue: largest size of each coordinate, >= 0; None or 0 for no clipping.
      global_clipnorm: largest norm of all gradients together, >= 0; None or 0 for no
        clipping.
      weight_decay_mask, storage, nonfinite, seed: as in `rmsprop`. With clipping by a
        norm, a NaN makes all gradients NaN that share the norm.
    """
    arguments = locals()
    first = _clipping(DIALECTS["keras"].call, arguments, [*_CLIPPING])
    return build("keras", arguments, first, apart=_CLIPPING)


@dialect(
    framework="tf.keras, TensorFlow 2.0 to 2.10",
    original="tf.keras.optimizers.legacy.RMSprop",
    initial_scale=0.0,
    eps_in_sqrt=None,
    lr_in_momentum=True,
    centered=None,
    weight_decay="none",
    source="keras-team/tf-keras tf_keras/src/optimizers/legacy/rmsprop.py, "
    "tf_keras/src/optimizers/legacy/optimizer_v2.py",
    verified="run: tf-keras 2.21.0, dense; time decay and clipping not run",
    surprise="eps is added to the root without momentum and under it with momentum",
    eps_of_zero=1e-7,
    eps_of_none=1e-7,
    pasted=Pasted(also={"lr": "learning_rate", "decay": "time_decay"}, inert=("name",)),
)
def keras_legacy(
    learning_rate: ScalarOrSchedule = 0.001,
    rho: ArrayLike = 0.9,
    momentum: ArrayLike = 0.0,
    epsilon: ArrayLike | None = 1e-7,
    centered: bool = False,
    *,
    time_decay: ArrayLike = 0.0,
    clipnorm: ArrayLike | None = None,
    clipvalue: ArrayLike | None = None,
    global_clipnorm: ArrayLike | None = None,
    storage: str | Format = "float32",
    nonfinite: str = "propagate",
    seed: ArrayLike = 0,
) -> optax.GradientTransformationExtraArgs:
    """RMSProp of TensorFlow 2.0 to 2.10, `tf.keras.optimizers.legacy.RMSprop`.

        g <- clip(g);   learning_rate <- learning_rate / (1 + time_decay*step)
        s <- rho*s + (1-rho)*|g|**2
        u  = g / (sqrt(s) + epsilon);   p <- p - learning_rate*u       without momentum
        u  = g / sqrt(s + epsilon)                                     with momentum
        b <- momentum*b + learning_rate*u;   p <- p - b

    The class has two rules. Without momentum it is `flax_legacy`, with momentum
    `keras`. Name "momentum" in `static_args` of `optax.inject_hyperparams`: an array,
    whose value may be 0, is refused.

    Args:
      learning_rate: step size; a number, an array or a schedule.
      rho: decay of the second moment, in [0, 1).
      momentum: weight of the past in the buffer, in [0, 1).
      epsilon: added to the root, or under it with momentum; > 0, because 0 and None
        mean 1e-7 in tf.keras.
      centered: whether to divide by the standard deviation of the gradient.
      time_decay: decay of the learning rate per step, counted from 0; >= 0. It is
        `decay` in tf.keras, and this function takes that word too.
      clipnorm, clipvalue, global_clipnorm: as in `keras`, but `clipvalue` may be
        given with one of the norms, and clips first. In tf.keras a limit of 0 makes
        all gradients 0; here it clips nothing.
      storage, nonfinite, seed: as in `rmsprop`.
    """
    arguments, call = locals(), DIALECTS["keras_legacy"].call
    _check_rule(call, momentum, epsilon)
    check_learning_rate(call, learning_rate)
    check_numbers(call, time_decay=time_decay)
    check_arrays(call, time_decay=time_decay)
    if none_if_zero(time_decay) is not None:
        arguments["learning_rate"] = _over_time(learning_rate, time_decay)
    first = _clipping(call, arguments, ["clipnorm", "global_clipnorm"])
    return build("keras_legacy", arguments, first, apart=("time_decay", *_CLIPPING))


def _check_rule(call: Call, momentum: Any, epsilon: Any) -> None:
    """Refuse a momentum that selects no rule, and an epsilon that means another."""
    if callable(momentum) or isinstance(momentum, jax.Array) and momentum.ndim == 0:
        raise TypeError(
            f"{call.given(momentum=...)} must be a Python number, because a momentum "
            'of 0 selects another rule. Name "momentum" in `static_args` of '
            "`optax.inject_hyperparams`; to change it during a run use "
            "`dialects.keras`, which has the rule with momentum."
        )
    meant = DIALECTS["keras_legacy"].eps_of_zero
    if epsilon is not None and none_if_zero(epsilon) is None:
        raise ValueError(
            f"{call.given(epsilon=0)} means {meant:g} in tf.keras. "
            "Pass that number; for no eps use `dialects.keras(epsilon=0)`."
        )


def _clipping(
    call: Call, arguments: dict[str, Any], exclusive: list[str]
) -> list[optax.GradientTransformation]:
    """Make the links that clip; at most one of those in `exclusive` may be given."""
    given = {x: arguments[x] for x in _CLIPPING if arguments[x] is not None}
    rivals = {x: given[x] for x in sorted(exclusive) if x in given}
    if len(rivals) > 1:
        *others, last = (f"`{x}`" for x in sorted(exclusive))
        raise ValueError(
            f"{call.given(**rivals)}: Keras clips in one way only. Pass one of "
            f"{', '.join(others)} and {last}, and chain the others with "
            "`optax.chain`, before it."
        )
    check_numbers(call, **given)
    return [_CLIPPING[x](limit) for x, limit in given.items()]


def _over_time(learning_rate: Any, time_decay: ArrayLike) -> optax.Schedule:
    """Divide a learning rate by 1 + time_decay*step."""

    def rate(step: Any) -> jax.Array:
        now = learning_rate(step) if callable(learning_rate) else learning_rate
        slower = 1 + jnp.asarray(time_decay, float) * jnp.asarray(step, float)
        return jnp.asarray(now, float) / slower

    return rate
