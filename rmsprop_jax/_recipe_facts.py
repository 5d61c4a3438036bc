"""Every number of the recipes, where it was read and how sure that is.

The functions of `recipes` take their numbers from here, and so does `docs/recipes.md`.
A number without a value is one that no source gives, and a required argument.
"""

import dataclasses

CODE = "code"  # read in the authors' released code, or in the named port
PAPER = "paper"  # read in the text of the paper, in a stored copy
REPORTED = "reported"  # said by others; the original was not found
NOT_GIVEN = "not given"  # in no source that was found


@dataclasses.dataclass(frozen=True)
class Number:
    """One number of a recipe.

    Attributes:
      name: what it is called here.
      value: the number; None for one that the caller must give.
      status: `CODE`, `PAPER`, `REPORTED` or `NOT_GIVEN`.
      source: repository and file, or paper.
      note: what else there is to say.
    """

    name: str
    value: float | None
    status: str
    source: str
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A published setting: its dialect, its numbers and what lies outside of it."""

    title: str
    dialect: str
    numbers: tuple[Number, ...]
    outside: str = ""


_EFFICIENTNET = "tensorflow/tpu models/official/efficientnet/main.py, utils.py"
_EFFICIENTNET_PAPER = "Tan and Le, EfficientNet, 2019, section 5.2"
_MNASNET = "tensorflow/tpu models/official/mnasnet/mnasnet_main.py, mnasnet_utils.py"
_MOBILENET_V2 = "Sandler et al., MobileNetV2, 2018, section 6.1"
_SLIM = "tensorflow/models research/slim/train_image_classifier.py"
_TORCHVISION = "pytorch/vision references/classification/train.py"
_TORCHVISION_README = "pytorch/vision references/classification/README.md"
_INCEPTION_V3 = "Szegedy et al., Rethinking the Inception Architecture, 2015, section 8"
_INCEPTION_V4 = "Szegedy et al., Inception-v4, 2016, section 4"
_INCEPTION_CODE = "tensorflow/models research/inception/inception/inception_train.py"
_INCEPTION_SLIM = "tensorflow/models research/slim/nets/inception_utils.py"
_INCEPTION_V4_CODE = "tensorflow/tpu models/experimental/inception/inception_v4.py"
_DQN = "kuz/DeepMind-Atari-Deep-Q-Learner dqn/NeuralQLearner.lua"
_DQN_RUN = "kuz/DeepMind-Atari-Deep-Q-Learner run_gpu"
_DOPAMINE = "google/dopamine dopamine/agents/dqn/configs/dqn_nature.gin"
_DQN_ZOO = "google-deepmind/dqn_zoo dqn_zoo/dqn/run_atari.py"
_A3C = "Mnih et al., Asynchronous Methods for Deep RL, 2016"
_A2C = "openai/baselines baselines/a2c/a2c.py"
_ACER = "openai/baselines baselines/acer/acer.py"
_SB3 = "DLR-RM/stable-baselines3 stable_baselines3/a2c/a2c.py, version 2.9.2"
_IMPALA = "google-deepmind/scalable_agent experiment.py"
_TORCHBEAST = "facebookresearch/torchbeast torchbeast/monobeast.py"
_GRAVES = "Graves, 2013, eq. 38-45, as chainer/optimizers/rmsprop_graves.py reads it"

RECIPES = {
    "efficientnet": Recipe(
        title="EfficientNet on ImageNet",
        dialect="tensorflow1",
        numbers=(
            Number(
                "learning_rate",
                0.016,
                CODE,
                _EFFICIENTNET,
                "for a batch of 256, in proportion; the paper's 0.256 is that of 4096",
            ),
            Number("rate_factor", 0.97, CODE, _EFFICIENTNET, "in the paper too"),
            Number("epochs_per_factor", 2.4, CODE, _EFFICIENTNET, "in steps"),
            Number("warmup_epochs", 5.0, CODE, _EFFICIENTNET, "from a rate of 0"),
            Number("decay", 0.9, CODE, _EFFICIENTNET, "in the paper too"),
            Number("momentum", 0.9, CODE, _EFFICIENTNET, "in the paper too"),
            Number("eps", 0.001, CODE, _EFFICIENTNET, "not in the paper"),
            Number(
                "weight_decay",
                1e-5,
                CODE,
                _EFFICIENTNET,
                "coupled, all but batch normalization",
            ),
        ),
        outside="moving average of the weights, 0.9999; label smoothing 0.1; "
        f"{_EFFICIENTNET_PAPER} has the same decay, momentum and schedule",
    ),
    "mnasnet": Recipe(
        title="MnasNet on ImageNet",
        dialect="tensorflow1",
        numbers=(
            Number("learning_rate", 0.016, CODE, _MNASNET, "for a batch of 256"),
            Number("rate_factor", 0.97, CODE, _MNASNET),
            Number("epochs_per_factor", 2.4, CODE, _MNASNET, "in steps"),
            Number("warmup_epochs", 5.0, CODE, _MNASNET, "from a rate of 0"),
            Number("decay", 0.9, CODE, _MNASNET),
            Number("momentum", 0.9, CODE, _MNASNET),
            Number("eps", 0.001, CODE, _MNASNET),
            Number(
                "weight_decay",
                1e-5,
                CODE,
                _MNASNET,
                "coupled, all but batch normalization",
            ),
        ),
        outside="moving average of the weights, 0.9999; label smoothing 0.1; batch "
        "1024, 350 epochs",
    ),
    "mobilenet_v2": Recipe(
        title="MobileNetV2 on ImageNet",
        dialect="tensorflow1",
        numbers=(
            Number("learning_rate", 0.045, PAPER, _MOBILENET_V2, "batch 96"),
            Number("rate_factor", 0.98, PAPER, _MOBILENET_V2),
            Number("epochs_per_factor", 1.0, PAPER, _MOBILENET_V2),
            Number("decay", 0.9, PAPER, _MOBILENET_V2),
            Number("momentum", 0.9, PAPER, _MOBILENET_V2),
            Number(
                "eps",
                1.0,
                CODE,
                _SLIM,
                "not in the paper; the authors' training command leaves this default",
            ),
            Number(
                "weight_decay",
                4e-5,
                PAPER,
                _MOBILENET_V2,
                "coupled; in code on ordinary convolutions only",
            ),
        ),
        outside="16 asynchronous workers; the authors' command for 8 GPUs, in "
        "research/slim/nets/mobilenet/README.md, has 0.98 every 2.5 epochs",
    ),
    "mobilenet_v3_torchvision": Recipe(
        title="MobileNetV3 of torchvision on ImageNet",
        dialect="torch",
        numbers=(
            Number(
                "learning_rate",
                0.064,
                REPORTED,
                _TORCHVISION_README,
                "8 x 128 images; three copies of the command agree",
            ),
            Number("rate_factor", 0.973, REPORTED, _TORCHVISION_README),
            Number("epochs_per_factor", 2.0, REPORTED, _TORCHVISION_README),
            Number("decay", 0.9, CODE, _TORCHVISION),
            Number("momentum", 0.9, CODE, _TORCHVISION, "the script's default"),
            Number("eps", 0.0316, CODE, _TORCHVISION, "sqrt(0.001): outside the root"),
            Number("weight_decay", 1e-5, REPORTED, _TORCHVISION_README, "coupled"),
        ),
        outside="600 epochs, AutoAugment, random erasing 0.2",
    ),
    "inception_v3": Recipe(
        title="Inception v3 on ImageNet",
        dialect="tensorflow1",
        numbers=(
            Number(
                "learning_rate",
                0.045,
                PAPER,
                _INCEPTION_V3,
                "50 workers with batches of 32",
            ),
            Number("rate_factor", 0.94, PAPER, _INCEPTION_V3),
            Number("epochs_per_factor", 2.0, PAPER, _INCEPTION_V3),
            Number("decay", 0.9, PAPER, _INCEPTION_V3),
            Number(
                "momentum",
                0.9,
                CODE,
                _INCEPTION_CODE,
                "the paper names momentum only for its earlier experiments",
            ),
            Number("eps", 1.0, PAPER, _INCEPTION_V3),
            Number(
                "max_norm",
                2.0,
                PAPER,
                _INCEPTION_V3,
                "a threshold with a reference to clipping by norm",
            ),
            Number("weight_decay", 4e-5, CODE, _INCEPTION_SLIM, "coupled, on kernels"),
        ),
        outside="moving average of the weights; label smoothing 0.1",
    ),
    "inception_v4": Recipe(
        title="Inception v4 on ImageNet",
        dialect="tensorflow1",
        numbers=(
            Number("learning_rate", 0.045, PAPER, _INCEPTION_V4, "20 workers"),
            Number("rate_factor", 0.94, PAPER, _INCEPTION_V4),
            Number("epochs_per_factor", 2.0, PAPER, _INCEPTION_V4),
            Number("decay", 0.9, PAPER, _INCEPTION_V4),
            Number("momentum", 0.9, CODE, _INCEPTION_V4_CODE, "not in the paper"),
            Number("eps", 1.0, PAPER, _INCEPTION_V4),
            Number(
                "weight_decay", 4e-5, CODE, _INCEPTION_V4_CODE, "coupled, on kernels"
            ),
        ),
        outside="moving average of the weights; the TPU code has another schedule, "
        "0.15 for a batch of 256 after a warm-up",
    ),
    "dqn_nature": Recipe(
        title="DQN on Atari, Nature 2015",
        dialect="dqn",
        numbers=(
            Number("learning_rate", 0.00025, CODE, _DQN_RUN, "constant"),
            Number("decay", 0.95, CODE, _DQN, "of the gradient and of its square"),
            Number("eps", 0.01, CODE, _DQN, "for gradients summed over the batch"),
        ),
        outside="TD errors clipped to [-1, 1]; batch 32",
    ),
    "dqn_dopamine": Recipe(
        title="DQN on Atari, Dopamine",
        dialect="tensorflow1",
        numbers=(
            Number("learning_rate", 0.00025, CODE, _DOPAMINE, "constant"),
            Number("decay", 0.95, CODE, _DOPAMINE),
            Number("momentum", 0.0, CODE, _DOPAMINE),
            Number("eps", 1e-5, CODE, _DOPAMINE, "for gradients of the mean"),
        ),
        outside="Huber loss; batch 32. Centered. Dopamine's JAX agents start `s` at 0",
    ),
    "dqn_zoo": Recipe(
        title="DQN on Atari, DQN Zoo",
        dialect="dqn",
        numbers=(
            Number("learning_rate", 0.00025, CODE, _DQN_ZOO, "constant"),
            Number("decay", 0.95, CODE, _DQN_ZOO),
            Number("eps", 0.01 / 32**2, CODE, _DQN_ZOO, "for gradients of the mean"),
        ),
        outside="gradients of the TD errors clipped to 1/32; batch 32",
    ),
    "a3c": Recipe(
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
    ),
    "a2c_baselines": Recipe(
        title="A2C of OpenAI Baselines",
        dialect="tensorflow1",
        numbers=(
            Number(
                "learning_rate", 7e-4, CODE, _A2C, "linear to 0 in environment steps"
            ),
            Number("decay", 0.99, CODE, _A2C),
            Number("momentum", 0.0, CODE, _A2C),
            Number("eps", 1e-5, CODE, _A2C),
            Number("max_norm", 0.5, CODE, _A2C),
        ),
    ),
    "acer_baselines": Recipe(
        title="ACER of OpenAI Baselines",
        dialect="tensorflow1",
        numbers=(
            Number(
                "learning_rate", 7e-4, CODE, _ACER, "linear to 0 in environment steps"
            ),
            Number("decay", 0.99, CODE, _ACER),
            Number("momentum", 0.0, CODE, _ACER),
            Number("eps", 1e-5, CODE, _ACER),
            Number("max_norm", 10.0, CODE, _ACER),
        ),
        outside="each batch is followed by 4 replay updates on average, at its rate",
    ),
    "a2c_sb3": Recipe(
        title="A2C of Stable-Baselines3",
        dialect="torch",
        numbers=(
            Number("learning_rate", 7e-4, CODE, _SB3, "constant"),
            Number("decay", 0.99, CODE, _SB3),
            Number("momentum", 0.0, CODE, _SB3),
            Number("eps", 1e-5, CODE, _SB3, "outside the root"),
            Number("max_norm", 0.5, CODE, _SB3),
        ),
        outside="for the numbers of Baselines take `dialects.stable_baselines3`",
    ),
    "impala": Recipe(
        title="IMPALA on DMLab",
        dialect="tensorflow1",
        numbers=(
            Number("learning_rate", 0.00048, CODE, _IMPALA, "linear to 0 in frames"),
            Number("decay", 0.99, CODE, _IMPALA),
            Number("momentum", 0.0, CODE, _IMPALA),
            Number("eps", 0.1, CODE, _IMPALA),
        ),
        outside="losses are sums over time and batch; no clipping in the code; 1e9 "
        "frames, 2 x 100 x 4 frames an update",
    ),
    "torchbeast": Recipe(
        title="IMPALA of TorchBeast (monobeast) on Atari",
        dialect="torch",
        numbers=(
            Number("learning_rate", 0.00048, CODE, _TORCHBEAST, "linear to 0 in steps"),
            Number("decay", 0.99, CODE, _TORCHBEAST),
            Number("momentum", 0.0, CODE, _TORCHBEAST),
            Number("eps", 0.01, CODE, _TORCHBEAST, "outside the root"),
            Number("max_norm", 40.0, CODE, _TORCHBEAST),
        ),
        outside="losses are sums over time and batch; 8 x 80 steps an update",
    ),
    "graves_handwriting": Recipe(
        title="Handwriting of Graves, 2013",
        dialect="graves",
        numbers=(
            Number("learning_rate", 1e-4, REPORTED, _GRAVES, "constant"),
            Number("decay", 0.95, REPORTED, _GRAVES, "of the gradient and its square"),
            Number("momentum", 0.9, REPORTED, _GRAVES),
            Number("eps", 1e-4, REPORTED, _GRAVES),
        ),
        outside="derivatives clipped inside the network: outputs to [-100, 100], LSTM "
        "to [-10, 10]",
    ),
}
