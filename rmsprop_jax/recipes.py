"""Published settings of RMSProp, each with its schedule and its clipping.

A recipe is the part of a published training setting that an optimizer can hold: a
dialect, its numbers, the learning rate over time, clipping before it, and weight decay
where that was in the loss. `python -m rmsprop_jax recipes` prints every number with its
source, and whether it was read in code, in the paper, or is only reported. What no
source gives is a required argument.

Every recipe also takes `storage`, `nonfinite` and `seed`, as `rmsprop` does.
"""

from collections.abc import Callable
from typing import Any, TypedDict, Unpack

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PyTree

from . import dialects
from ._alias import in_arithmetic, rmsprop
from ._checks import check_choice, check_number
from ._clipping import clip_by_global_norm
from ._recipe_facts import RECIPES
from ._storage import Format

_Mask = PyTree | Callable[[PyTree], PyTree] | None


class _Options(TypedDict, total=False):
    storage: str | Format
    nonfinite: str
    seed: ArrayLike


def efficientnet(
    batch_size: int | float,
    steps_per_epoch: int | float,
    weight_decay_mask: _Mask,
    **options: Unpack[_Options],
) -> optax.GradientTransformationExtraArgs:
    """RMSProp as EfficientNet was trained on ImageNet.

        lr = 0.016 * batch_size/256 * 0.97**floor(epoch/2.4)     after 5 warm-up epochs
        g <- g + 1e-5*p;   tensorflow1(lr, decay=0.9, momentum=0.9, epsilon=0.001)

    The warm-up rises from 0, so the very first step is none. The decay counts from the
    start, warm-up included.

    Args:
      batch_size: images a step, over all devices.
      steps_per_epoch: steps a pass over the training set.
      weight_decay_mask: True where weight decay applies: all but the scales and biases
        of batch normalization. A tree of booleans, a function from the parameters to
        one, or None for everywhere.
      **options: `storage`, `nonfinite` and `seed` of `rmsprop`.

    Returns:
      An `optax.GradientTransformationExtraArgs`; its `update` needs the parameters.

    Raises:
      ValueError, TypeError: for a number below 1 or of the wrong kind.

    Source: tensorflow/tpu models/official/efficientnet; Tan and Le, EfficientNet, 2019.
    """
    return _mobile(
        "efficientnet", batch_size, steps_per_epoch, weight_decay_mask, options
    )


def mnasnet(
    batch_size: int | float,
    steps_per_epoch: int | float,
    weight_decay_mask: _Mask,
    **options: Unpack[_Options],
) -> optax.GradientTransformationExtraArgs:
    """RMSProp as MnasNet was trained on ImageNet: the numbers of `efficientnet`.

    Args:
      batch_size: images a step, over all devices; 1024 there.
      steps_per_epoch: steps a pass over the training set.
      weight_decay_mask: True where weight decay applies, as in `efficientnet`.
      **options: `storage`, `nonfinite` and `seed` of `rmsprop`.

    Returns:
      An `optax.GradientTransformationExtraArgs`; its `update` needs the parameters.

    Raises:
      ValueError, TypeError: for a number below 1 or of the wrong kind.

    Source: tensorflow/tpu models/official/mnasnet
    """
    return _mobile("mnasnet", batch_size, steps_per_epoch, weight_decay_mask, options)


def mobilenet_v2(
    steps_per_epoch: int | float, weight_decay_mask: _Mask, **options: Unpack[_Options]
) -> optax.GradientTransformationExtraArgs:
    """RMSProp as MobileNetV2 was trained on ImageNet.

        lr = 0.045 * 0.98**epoch
        g <- g + 4e-5*p;   tensorflow1(lr, decay=0.9, momentum=0.9, epsilon=1.0)

    Args:
      steps_per_epoch: steps a pass over the training set, at the paper's batch of 96.
      weight_decay_mask: True where weight decay applies: in the authors' code the
        kernels of ordinary convolutions, not of depthwise ones. A tree of booleans, a
        function from the parameters to one, or None for everywhere.
      **options: `storage`, `nonfinite` and `seed` of `rmsprop`.

    Returns:
      An `optax.GradientTransformationExtraArgs`; its `update` needs the parameters.

    Raises:
      ValueError, TypeError: for a number below 1 or of the wrong kind.

    Source: Sandler et al., MobileNetV2, 2018, section 6.1; epsilon from
      tensorflow/models research/slim/train_image_classifier.py
    """
    call, n = "mobilenet_v2", _numbers("mobilenet_v2")
    rule = _tensorflow1(n, _staircase(call, n, steps_per_epoch), options)
    return _decayed(n, weight_decay_mask, rule)


def mobilenet_v3_torchvision(
    steps_per_epoch: int | float, **options: Unpack[_Options]
) -> optax.GradientTransformationExtraArgs:
    """RMSProp as torchvision trained MobileNetV3 on ImageNet.

        lr = 0.064 * 0.973**floor(epoch/2)
        torch(lr, alpha=0.9, eps=0.0316, weight_decay=1e-5, momentum=0.9)

    PyTorch's rule, so the eps of 0.001 that the TensorFlow recipes have inside the root
    is its square root outside. The paper itself gives neither decay nor eps.

    Args:
      steps_per_epoch: steps a pass over the training set, at a batch of 8 x 128.
      **options: `storage`, `nonfinite` and `seed` of `rmsprop`.

    Returns:
      An `optax.GradientTransformationExtraArgs`; its `update` needs the parameters.

    Raises:
      ValueError, TypeError: for a number below 1 or of the wrong kind.

    Source: pytorch/vision references/classification
    """
    n = _numbers("mobilenet_v3_torchvision")
    rate = _staircase("mobilenet_v3_torchvision", n, steps_per_epoch)
    return _torch(n, rate, options, weight_decay=n["weight_decay"])


def inception_v3(
    steps_per_epoch: int | float, weight_decay_mask: _Mask, **options: Unpack[_Options]
) -> optax.GradientTransformationExtraArgs:
    """RMSProp as Inception v3 was trained on ImageNet.

        lr = 0.045 * 0.94**floor(epoch/2)
        g <- g + 4e-5*p;   g <- g * min(1, 2/|g|)
        tensorflow1(lr, decay=0.9, momentum=0.9, epsilon=1.0)

    Args:
      steps_per_epoch: steps a pass over the training set.
      weight_decay_mask: True where weight decay applies: kernels. A tree of booleans,
        a function from the parameters to one, or None for everywhere.
      **options: `storage`, `nonfinite` and `seed` of `rmsprop`.

    Returns:
      An `optax.GradientTransformationExtraArgs`; its `update` needs the parameters.

    Raises:
      ValueError, TypeError: for a number below 1 or of the wrong kind.

    Source: Szegedy et al., Rethinking the Inception Architecture for Computer Vision,
      2015, section 8; momentum and weight decay from tensorflow/models
    """
    n = _numbers("inception_v3")
    rule = _tensorflow1(n, _staircase("inception_v3", n, steps_per_epoch), options)
    return _decayed(n, weight_decay_mask, _clipped(n, rule))


def inception_v4(
    steps_per_epoch: int | float, weight_decay_mask: _Mask, **options: Unpack[_Options]
) -> optax.GradientTransformationExtraArgs:
    """RMSProp as Inception v4 was trained on ImageNet: `inception_v3`, unclipped.

        lr = 0.045 * 0.94**floor(epoch/2)
        g <- g + 4e-5*p;   tensorflow1(lr, decay=0.9, momentum=0.9, epsilon=1.0)

    Args:
      steps_per_epoch: steps a pass over the training set.
      weight_decay_mask: True where weight decay applies: kernels. A tree of booleans,
        a function from the parameters to one, or None for everywhere.
      **options: `storage`, `nonfinite` and `seed` of `rmsprop`.

    Returns:
      An `optax.GradientTransformationExtraArgs`; its `update` needs the parameters.

    Raises:
      ValueError, TypeError: for a number below 1 or of the wrong kind.

    Source: Szegedy et al., Inception-v4, Inception-ResNet and the Impact of Residual
      Connections on Learning, 2016, section 4; momentum and weight decay from
      tensorflow/tpu models/experimental/inception/inception_v4.py
    """
    n = _numbers("inception_v4")
    rule = _tensorflow1(n, _staircase("inception_v4", n, steps_per_epoch), options)
    return _decayed(n, weight_decay_mask, rule)


def dqn_nature(
    loss: str, batch_size: int | float = 32, **options: Unpack[_Options]
) -> optax.GradientTransformationExtraArgs:
    """RMSProp of the Nature DQN.

        dqn(lr=0.00025, decay=0.95, eps=0.01)                    loss="sum"
        dqn(lr=0.00025, decay=0.95, eps=0.01/batch_size**2)      loss="mean"

    Both are the same rule: the eps of the paper is in the unit of squared gradients of
    a sum. Given to gradients of a mean it would be 1024 times too large.

    Args:
      loss: whether the loss is the "sum" or the "mean" over the batch.
      batch_size: transitions a step.
      **options: `storage`, `nonfinite` and `seed` of `rmsprop`.

    Returns:
      An `optax.GradientTransformationExtraArgs`.

    Raises:
      ValueError, TypeError: for another loss, a batch below 1 or of the wrong kind.

    Source: kuz/DeepMind-Atari-Deep-Q-Learner dqn/NeuralQLearner.lua, run_gpu
    """
    call, n = "recipes.dqn_nature", _numbers("dqn_nature")
    check_choice(call, "loss", loss, ("sum", "mean"))
    check_number(call, "batch_size", batch_size, at_least=1.0)
    unit = {"sum": 1.0, "mean": float(batch_size) ** 2}[loss]
    return dialects.dqn(n["learning_rate"], n["decay"], n["eps"] / unit, **options)


def dqn_dopamine(
    **options: Unpack[_Options],
) -> optax.GradientTransformationExtraArgs:
    """RMSProp of Dopamine's DQN with the settings of Nature, in TensorFlow.

        tensorflow1(0.00025, decay=0.95, epsilon=1e-5, centered=True)

    Its loss is a mean, so eps is nearly that of `dqn_nature`; but `s` starts at 1.

    Args:
      **options: `storage`, `nonfinite` and `seed` of `rmsprop`.

    Returns:
      An `optax.GradientTransformationExtraArgs`.

    Source: google/dopamine dopamine/agents/dqn/configs/dqn_nature.gin
    """
    n = _numbers("dqn_dopamine")
    return _tensorflow1(n, n["learning_rate"], options, centered=True)


def dqn_zoo(**options: Unpack[_Options]) -> optax.GradientTransformationExtraArgs:
    """RMSProp of DQN Zoo's DQN: `dqn_nature(loss="mean")`.

        dqn(lr=0.00025, decay=0.95, eps=0.01/32**2)

    Args:
      **options: `storage`, `nonfinite` and `seed` of `rmsprop`.

    Returns:
      An `optax.GradientTransformationExtraArgs`.

    Source: google-deepmind/dqn_zoo dqn_zoo/dqn/run_atari.py
    """
    n = _numbers("dqn_zoo")
    return dialects.dqn(n["learning_rate"], n["decay"], n["eps"], **options)


def a3c(
    learning_rate: int | float,
    eps: int | float,
    initial_scale: int | float,
    total_steps: int | float,
    **options: Unpack[_Options],
) -> optax.GradientTransformationExtraArgs:
    """RMSProp of A3C, as far as its paper goes.

        lr = learning_rate * (1 - step/total_steps)
        rmsprop(lr, decay=0.99, eps, initial_scale)

    The paper draws the learning rate from LogUniform(1e-4, 1e-2) and gives no eps and
    no start; ports have an eps of 0.1 inside the root, and start at 0 or at 1.

    Args:
      learning_rate: the first step size.
      eps: added under the root, >= 0, in the unit of |g|**2.
      initial_scale: `s` before the first step, >= 0.
      total_steps: updates in the run.
      **options: `storage`, `nonfinite` and `seed` of `rmsprop`.

    Returns:
      An `optax.GradientTransformationExtraArgs`.

    Raises:
      ValueError, TypeError: for a number out of range or of the wrong kind.

    Source: Mnih et al., Asynchronous Methods for Deep Reinforcement Learning, 2016
    """
    check_number("recipes.a3c", "learning_rate", learning_rate)
    check_number("recipes.a3c", "total_steps", total_steps, at_least=1.0)
    rate = _linear(learning_rate, total_steps)
    decay = _numbers("a3c")["decay"]
    return rmsprop(rate, decay, eps, initial_scale, **options)


def a2c_baselines(
    total_timesteps: int | float, batch_size: int | float, **options: Unpack[_Options]
) -> optax.GradientTransformationExtraArgs:
    """RMSProp of A2C in OpenAI Baselines.

        lr = 7e-4 * (1 - timestep/total_timesteps)
        g <- g * min(1, 0.5/|g|);   tensorflow1(lr, decay=0.99, epsilon=1e-5)

    Its schedule reads the rate at the last timestep of each batch.

    Args:
      total_timesteps: steps of all environments in the run; 80e6 there.
      batch_size: of these in each update: environments times steps.
      **options: `storage`, `nonfinite` and `seed` of `rmsprop`.

    Returns:
      An `optax.GradientTransformationExtraArgs`.

    Raises:
      ValueError, TypeError: for a number below 1 or of the wrong kind.

    Source: openai/baselines baselines/a2c/a2c.py
    """
    call, n = "recipes.a2c_baselines", _numbers("a2c_baselines")
    check_number(call, "total_timesteps", total_timesteps, at_least=1.0)
    check_number(call, "batch_size", batch_size, at_least=1.0)
    rate = _linear(n["learning_rate"], total_timesteps, batch_size, batch_size - 1)
    return _clipped(n, _tensorflow1(n, rate, options))


def acer_baselines(
    total_updates: int | float, **options: Unpack[_Options]
) -> optax.GradientTransformationExtraArgs:
    """RMSProp of ACER in OpenAI Baselines.

        lr = 7e-4 * (1 - update/total_updates)
        g <- g * min(1, 10/|g|);   tensorflow1(lr, decay=0.99, epsilon=1e-5)

    There the rate falls with environment steps, and each batch is followed by 4 replay
    updates on average: so count those too.

    Args:
      total_updates: updates in the run, with those from replay.
      **options: `storage`, `nonfinite` and `seed` of `rmsprop`.

    Returns:
      An `optax.GradientTransformationExtraArgs`.

    Raises:
      ValueError, TypeError: for a number below 1 or of the wrong kind.

    Source: openai/baselines baselines/acer/acer.py
    """
    n = _numbers("acer_baselines")
    check_number("recipes.acer_baselines", "total_updates", total_updates, at_least=1.0)
    rate = _linear(n["learning_rate"], total_updates)
    return _clipped(n, _tensorflow1(n, rate, options))


def a2c_sb3(**options: Unpack[_Options]) -> optax.GradientTransformationExtraArgs:
    """RMSProp of A2C in Stable-Baselines3.

        g <- g * min(1, 0.5/|g|);   torch(7e-4, alpha=0.99, eps=1e-5)

    The numbers of `a2c_baselines` under another rule: eps is outside the root and `s`
    starts at 0, so early steps are up to ten times as long.

    Args:
      **options: `storage`, `nonfinite` and `seed` of `rmsprop`.

    Returns:
      An `optax.GradientTransformationExtraArgs`.

    Source: DLR-RM/stable-baselines3 stable_baselines3/a2c/a2c.py
    """
    n = _numbers("a2c_sb3")
    return _clipped(n, _torch(n, n["learning_rate"], options))


def impala(
    total_frames: int | float,
    frames_per_update: int | float,
    **options: Unpack[_Options],
) -> optax.GradientTransformationExtraArgs:
    """RMSProp of IMPALA.

        lr = 0.00048 * (1 - frame/total_frames)
        tensorflow1(lr, decay=0.99, epsilon=0.1)

    Eps belongs to losses that are sums over time and batch.

    Args:
      total_frames: environment frames in the run; 1e9 there.
      frames_per_update: of these in each update: batch times unroll times action
        repeats; 800 there.
      **options: `storage`, `nonfinite` and `seed` of `rmsprop`.

    Returns:
      An `optax.GradientTransformationExtraArgs`.

    Raises:
      ValueError, TypeError: for a number below 1 or of the wrong kind.

    Source: google-deepmind/scalable_agent experiment.py
    """
    call, n = "recipes.impala", _numbers("impala")
    check_number(call, "total_frames", total_frames, at_least=1.0)
    check_number(call, "frames_per_update", frames_per_update, at_least=1.0)
    rate = _linear(n["learning_rate"], total_frames, frames_per_update)
    return _tensorflow1(n, rate, options)


def torchbeast(
    total_steps: int | float, steps_per_update: int | float, **options: Unpack[_Options]
) -> optax.GradientTransformationExtraArgs:
    """RMSProp of TorchBeast's IMPALA.

        lr = 0.00048 * (1 - step/total_steps)
        g <- g * min(1, 40/|g|);   torch(lr, alpha=0.99, eps=0.01)

    The eps is outside the root, and 0.01 where `impala` has sqrt(0.1) = 0.32 and a
    start at 1.

    Args:
      total_steps: environment steps in the run.
      steps_per_update: of these in each update: batch times unroll; 640 there.
      **options: `storage`, `nonfinite` and `seed` of `rmsprop`.

    Returns:
      An `optax.GradientTransformationExtraArgs`.

    Raises:
      ValueError, TypeError: for a number below 1 or of the wrong kind.

    Source: facebookresearch/torchbeast torchbeast/monobeast.py
    """
    call, n = "recipes.torchbeast", _numbers("torchbeast")
    check_number(call, "total_steps", total_steps, at_least=1.0)
    check_number(call, "steps_per_update", steps_per_update, at_least=1.0)
    rate = _linear(n["learning_rate"], total_steps, steps_per_update)
    return _clipped(n, _torch(n, rate, options))


def graves_handwriting(
    **options: Unpack[_Options],
) -> optax.GradientTransformationExtraArgs:
    """RMSProp of Graves's handwriting prediction and synthesis.

        graves(lr=1e-4, alpha=0.95, momentum=0.9, eps=1e-4)

    The paper also clips derivatives inside the network, before they reach a parameter.

    Args:
      **options: `storage`, `nonfinite` and `seed` of `rmsprop`.

    Returns:
      An `optax.GradientTransformationExtraArgs`.

    Source: Graves, Generating Sequences With Recurrent Neural Networks, 2013, eq. 38-45
    """
    n = _numbers("graves_handwriting")
    return dialects.graves(
        n["learning_rate"], n["decay"], n["momentum"], n["eps"], **options
    )


def _numbers(recipe: str) -> dict[str, float]:
    numbers = RECIPES[recipe].numbers
    return {x.name: x.value for x in numbers if x.value is not None}


def _mobile(
    recipe: str,
    batch_size: int | float,
    steps_per_epoch: int | float,
    mask: _Mask,
    options: _Options,
) -> optax.GradientTransformationExtraArgs:
    """Build the recipe that EfficientNet and MnasNet share."""
    n = _numbers(recipe)
    check_number(f"recipes.{recipe}", "batch_size", batch_size, at_least=1.0)
    n["learning_rate"] *= batch_size / 256
    rate = _staircase(recipe, n, steps_per_epoch)
    return _decayed(n, mask, _tensorflow1(n, rate, options))


def _tensorflow1(
    n: dict[str, float], rate: Any, options: _Options, centered: bool = False
) -> optax.GradientTransformationExtraArgs:
    return dialects.tensorflow1(
        rate, n["decay"], n["momentum"], n["eps"], centered=centered, **options
    )


def _torch(
    n: dict[str, float], rate: Any, options: _Options, weight_decay: float = 0
) -> optax.GradientTransformationExtraArgs:
    return dialects.torch(
        rate, n["decay"], n["eps"], weight_decay, n["momentum"], **options
    )


def _decayed(
    n: dict[str, float], mask: _Mask, rule: optax.GradientTransformationExtraArgs
) -> optax.GradientTransformationExtraArgs:
    """Put coupled weight decay, an L2 penalty of the loss, before a rule."""
    penalty = optax.add_decayed_weights(n["weight_decay"], mask)
    return in_arithmetic(optax.chain(penalty, rule))


def _clipped(
    n: dict[str, float], rule: optax.GradientTransformationExtraArgs
) -> optax.GradientTransformationExtraArgs:
    return in_arithmetic(optax.chain(clip_by_global_norm(n["max_norm"]), rule))


def _staircase(
    recipe: str, n: dict[str, float], steps_per_epoch: int | float
) -> optax.Schedule:
    """Multiply the rate by a factor every few epochs, after a linear warm-up."""
    check_number(f"recipes.{recipe}", "steps_per_epoch", steps_per_epoch, at_least=1.0)
    every = n["epochs_per_factor"] * steps_per_epoch
    warmup = float(int(n.get("warmup_epochs", 0) * steps_per_epoch))

    def rate(count: Any) -> Float[Array, ""]:
        step = jnp.asarray(count, float)
        decayed = n["rate_factor"] ** jnp.floor(step / every)
        rising = step / max(warmup, 1.0)
        return n["learning_rate"] * jnp.where(step < warmup, rising, decayed)

    return rate


def _linear(
    first: int | float,
    total: int | float,
    per_update: int | float = 1,
    offset: int | float = 0,
) -> optax.Schedule:
    """Fall to 0 at `total`, `per_update` of it an update; read `offset` into it."""
    # JAX takes a Python int for an int32, which 5e9 frames are not.
    first, total, per_update, offset = (
        x if isinstance(x, jax.Array) else float(x)
        for x in (first, total, per_update, offset)
    )

    def rate(count: Any) -> Float[Array, ""]:
        done = (jnp.asarray(count, float) * per_update + offset) / total
        return first * jnp.maximum(1 - done, 0.0)

    return rate
