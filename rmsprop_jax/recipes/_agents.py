"""Published settings of reinforcement learning agents."""

import optax
from jax.typing import ArrayLike

from .._arguments import check_choice
from .._rmsprop import rmsprop_chain
from .._rule import Rule
from .._storage import Format
from ._recipe import (
    CODE,
    NOT_GIVEN,
    REPORTED,
    Number,
    as_float,
    build,
    checked,
    linear,
    recipe,
)

_DQN = "kuz/DeepMind-Atari-Deep-Q-Learner dqn/NeuralQLearner.lua"
_DQN_RUN = "kuz/DeepMind-Atari-Deep-Q-Learner run_gpu"
_DOPAMINE = "google/dopamine dopamine/agents/dqn/configs/dqn_nature.gin"
_DQN_ZOO = "google-deepmind/dqn_zoo dqn_zoo/dqn/run_atari.py"
_A3C = "Mnih et al., Asynchronous Methods for Deep Reinforcement Learning, 2016"
_A2C = "openai/baselines baselines/a2c/a2c.py"
_ACER = "openai/baselines baselines/acer/acer.py"
_SB3 = "DLR-RM/stable-baselines3 stable_baselines3/a2c/a2c.py, version 2.9.2"
_IMPALA = "google-deepmind/scalable_agent experiment.py"
_TORCHBEAST = "facebookresearch/torchbeast torchbeast/monobeast.py"


@recipe(
    title="DQN on Atari, Nature 2015",
    dialect="dqn",
    numbers=(
        Number("learning_rate", 0.00025, CODE, _DQN_RUN, "constant"),
        Number("decay", 0.95, CODE, _DQN, "of both moments"),
        Number("eps", 0.01, CODE, _DQN, "for gradients summed over the batch"),
    ),
    outside="TD errors clipped to [-1, 1]; batch 32",
)
def dqn_nature(
    loss: str,
    batch_size: ArrayLike = 32,
    *,
    storage: str | Format = "float32",
    nonfinite: str = "propagate",
    seed: ArrayLike = 0,
) -> optax.GradientTransformationExtraArgs:
    """RMSProp of the Nature DQN.

        dqn(lr=0.00025, decay=0.95, eps=0.01)                    loss="sum"
        dqn(lr=0.00025, decay=0.95, eps=0.01/batch_size**2)      loss="mean"

    Both are the same rule: the eps of the paper is in the unit of squared gradients of
    a sum. For gradients of a mean it would be 1024 times too large.

    Args:
      loss: whether the loss is the "sum" or the "mean" over the batch.
      batch_size: transitions per step.
      storage, nonfinite, seed: as in `rmsprop`.
    """
    given = checked("dqn_nature", locals(), "batch_size")
    check_choice(given.call, "loss", loss, ("sum", "mean"))
    unit = as_float(batch_size) ** 2 if loss == "mean" else 1.0
    return build(given, eps=given.recipe["eps"] / unit)


@recipe(
    title="DQN on Atari, Dopamine",
    dialect="tensorflow1",
    numbers=(
        Number("learning_rate", 0.00025, CODE, _DOPAMINE, "constant"),
        Number("decay", 0.95, CODE, _DOPAMINE),
        Number("momentum", 0.0, CODE, _DOPAMINE),
        Number("eps", 1e-5, CODE, _DOPAMINE, "for gradients of the mean"),
    ),
    outside="Huber loss; batch 32. Centered. Dopamine's JAX agents start `s` at 0",
)
def dqn_dopamine(
    *,
    storage: str | Format = "float32",
    nonfinite: str = "propagate",
    seed: ArrayLike = 0,
) -> optax.GradientTransformationExtraArgs:
    """RMSProp of Dopamine's DQN with the settings of Nature, in TensorFlow.

        tensorflow1(0.00025, decay=0.95, epsilon=1e-5, centered=True)

    Its loss is a mean, so eps is nearly that of `dqn_nature("mean")`, but `s` starts
    at 1.

    Args:
      storage, nonfinite, seed: as in `rmsprop`.
    """
    return build(checked("dqn_dopamine", locals()), centered=True)


@recipe(
    title="DQN on Atari, DQN Zoo",
    dialect="dqn",
    numbers=(
        Number("learning_rate", 0.00025, CODE, _DQN_ZOO, "constant"),
        Number("decay", 0.95, CODE, _DQN_ZOO),
        Number("eps", 0.01 / 32**2, CODE, _DQN_ZOO, "for gradients of the mean"),
    ),
    outside="gradients of the TD errors clipped to 1/32; batch 32",
)
def dqn_zoo(
    *,
    storage: str | Format = "float32",
    nonfinite: str = "propagate",
    seed: ArrayLike = 0,
) -> optax.GradientTransformationExtraArgs:
    """RMSProp of DQN Zoo's DQN: `dqn_nature(loss="mean")`.

        dqn(lr=0.00025, decay=0.95, eps=0.01/32**2)

    Args:
      storage, nonfinite, seed: as in `rmsprop`.
    """
    return build(checked("dqn_zoo", locals()))


@recipe(
    title="A3C on Atari",
    dialect="rmsprop",
    numbers=(
        Number(
            "learning_rate",
            None,
            REPORTED,
            _A3C,
            "drawn from LogUniform(1e-4, 1e-2); linear to 0",
        ),
        Number("decay", 0.99, REPORTED, _A3C, "section 8, as ports quote it"),
        Number("eps", None, NOT_GIVEN, _A3C, "inside the root; ports have 0.1"),
        Number("initial_scale", None, NOT_GIVEN, _A3C, "ports have 0 and 1"),
    ),
    outside="`s` shared by all threads; ports clip the gradient at norm 40",
)
def a3c(
    learning_rate: ArrayLike,
    eps: ArrayLike,
    initial_scale: ArrayLike,
    total_steps: ArrayLike,
    *,
    storage: str | Format = "float32",
    nonfinite: str = "propagate",
    seed: ArrayLike = 0,
) -> optax.GradientTransformationExtraArgs:
    """RMSProp of A3C, as far as its paper states it.

        lr = learning_rate * (1 - step/total_steps)
        rmsprop(lr, 0.99, eps, initial_scale)

    The paper draws the learning rate from LogUniform(1e-4, 1e-2) and gives no eps and
    no start; ports have an eps of 0.1 inside the root, and start at 0 or at 1.

    Args:
      learning_rate: the step size at the start, >= 0.
      eps: added under the root, >= 0, in the unit of |g|**2.
      initial_scale: `s` before the first step, >= 0.
      total_steps: updates in the run.
      storage, nonfinite, seed: as in `rmsprop`.
    """
    given = checked("a3c", locals(), "first_rate", "total_steps")
    decay = given.recipe["decay"]
    return rmsprop_chain(
        given.call,
        linear(learning_rate, total_steps),
        Rule(decay, eps, eps_in_sqrt=True, centered=False, bias_correction=False),
        initial_scale=initial_scale,
        lr_in_momentum=True,
        storage=storage,
        nonfinite=nonfinite,
        seed=seed,
    )


@recipe(
    title="A2C of OpenAI Baselines",
    dialect="tensorflow1",
    numbers=(
        Number("learning_rate", 7e-4, CODE, _A2C, "linear to 0 in environment steps"),
        Number("decay", 0.99, CODE, _A2C),
        Number("momentum", 0.0, CODE, _A2C),
        Number("eps", 1e-5, CODE, _A2C),
        Number("max_norm", 0.5, CODE, _A2C),
    ),
)
def a2c_baselines(
    total_timesteps: ArrayLike,
    batch_size: ArrayLike,
    *,
    storage: str | Format = "float32",
    nonfinite: str = "propagate",
    seed: ArrayLike = 0,
) -> optax.GradientTransformationExtraArgs:
    """RMSProp of A2C in OpenAI Baselines.

        lr = 7e-4 * (1 - timestep/total_timesteps)
        g <- g * min(1, 0.5/|g|);   tensorflow1(lr, decay=0.99, epsilon=1e-5)

    The rate of an update is that at the last timestep of its batch.

    Args:
      total_timesteps: steps of all environments in the run; 80e6 in Baselines.
      batch_size: timesteps per update: environments times steps of each.
      storage, nonfinite, seed: as in `rmsprop`.
    """
    given = checked("a2c_baselines", locals(), "total_timesteps", "batch_size")
    first, last = given.recipe["learning_rate"], as_float(batch_size) - 1
    return build(given, linear(first, total_timesteps, batch_size, last))


@recipe(
    title="ACER of OpenAI Baselines",
    dialect="tensorflow1",
    numbers=(
        Number("learning_rate", 7e-4, CODE, _ACER, "linear to 0 in environment steps"),
        Number("decay", 0.99, CODE, _ACER),
        Number("momentum", 0.0, CODE, _ACER),
        Number("eps", 1e-5, CODE, _ACER),
        Number("max_norm", 10.0, CODE, _ACER),
    ),
    outside="each batch is followed by 4 replay updates on average, at its rate",
)
def acer_baselines(
    total_updates: ArrayLike,
    *,
    storage: str | Format = "float32",
    nonfinite: str = "propagate",
    seed: ArrayLike = 0,
) -> optax.GradientTransformationExtraArgs:
    """RMSProp of ACER in OpenAI Baselines.

        lr = 7e-4 * (1 - update/total_updates)
        g <- g * min(1, 10/|g|);   tensorflow1(lr, decay=0.99, epsilon=1e-5)

    In Baselines the rate falls with environment steps, and each batch is followed by 4
    replay updates on average: count those too.

    Args:
      total_updates: updates in the run, including those from replay.
      storage, nonfinite, seed: as in `rmsprop`.
    """
    given = checked("acer_baselines", locals(), "total_updates")
    return build(given, linear(given.recipe["learning_rate"], total_updates))


@recipe(
    title="A2C of Stable-Baselines3",
    dialect="torch",
    numbers=(
        Number("learning_rate", 7e-4, CODE, _SB3, "constant"),
        Number("decay", 0.99, CODE, _SB3),
        Number("momentum", 0.0, CODE, _SB3),
        Number("eps", 1e-5, CODE, _SB3, "outside the root"),
        Number("max_norm", 0.5, CODE, _SB3),
    ),
    outside="for the rule of Baselines use `dialects.stable_baselines3`",
)
def a2c_sb3(
    *,
    storage: str | Format = "float32",
    nonfinite: str = "propagate",
    seed: ArrayLike = 0,
) -> optax.GradientTransformationExtraArgs:
    """RMSProp of A2C in Stable-Baselines3.

        g <- g * min(1, 0.5/|g|);   torch(7e-4, alpha=0.99, eps=1e-5)

    These are the numbers of `a2c_baselines` with another rule: eps is outside the root
    and `s` starts at 0, so early steps are up to ten times as long.

    Args:
      storage, nonfinite, seed: as in `rmsprop`.
    """
    return build(checked("a2c_sb3", locals()))


@recipe(
    title="IMPALA on DMLab",
    dialect="tensorflow1",
    numbers=(
        Number("learning_rate", 0.00048, CODE, _IMPALA, "linear to 0 in frames"),
        Number("decay", 0.99, CODE, _IMPALA),
        Number("momentum", 0.0, CODE, _IMPALA),
        Number("eps", 0.1, CODE, _IMPALA),
    ),
    outside="losses are sums over time and batch; no clipping in the code; 1e9 "
    "frames, 2 x 100 x 4 frames per update",
)
def impala(
    total_frames: ArrayLike,
    frames_per_update: ArrayLike,
    *,
    storage: str | Format = "float32",
    nonfinite: str = "propagate",
    seed: ArrayLike = 0,
) -> optax.GradientTransformationExtraArgs:
    """RMSProp of IMPALA.

        lr = 0.00048 * (1 - frame/total_frames)
        tensorflow1(lr, decay=0.99, epsilon=0.1)

    The eps is for losses that are sums over time and batch.

    Args:
      total_frames: environment frames in the run; 1e9 in the paper.
      frames_per_update: frames per update: batch times unroll times action repeats; 800
        in the code.
      storage, nonfinite, seed: as in `rmsprop`.
    """
    given = checked("impala", locals(), "total_frames", "frames_per_update")
    first = given.recipe["learning_rate"]
    return build(given, linear(first, total_frames, frames_per_update))


@recipe(
    title="IMPALA of TorchBeast (monobeast) on Atari",
    dialect="torch",
    numbers=(
        Number("learning_rate", 0.00048, CODE, _TORCHBEAST, "linear to 0 in steps"),
        Number("decay", 0.99, CODE, _TORCHBEAST),
        Number("momentum", 0.0, CODE, _TORCHBEAST),
        Number("eps", 0.01, CODE, _TORCHBEAST, "outside the root"),
        Number("max_norm", 40.0, CODE, _TORCHBEAST),
    ),
    outside="losses are sums over time and batch; 8 x 80 steps per update",
)
def torchbeast(
    total_steps: ArrayLike,
    steps_per_update: ArrayLike,
    *,
    storage: str | Format = "float32",
    nonfinite: str = "propagate",
    seed: ArrayLike = 0,
) -> optax.GradientTransformationExtraArgs:
    """RMSProp of TorchBeast's IMPALA.

        lr = 0.00048 * (1 - step/total_steps)
        g <- g * min(1, 40/|g|);   torch(lr, alpha=0.99, eps=0.01)

    The eps is 0.01 outside the root. That of `impala` would be sqrt(0.1) = 0.32 outside
    the root, and its `s` starts at 1.

    Args:
      total_steps: environment steps in the run.
      steps_per_update: environment steps per update: batch times unroll; 640 in the
        code.
      storage, nonfinite, seed: as in `rmsprop`.
    """
    given = checked("torchbeast", locals(), "total_steps", "steps_per_update")
    first = given.recipe["learning_rate"]
    return build(given, linear(first, total_steps, steps_per_update))
