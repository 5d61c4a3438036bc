"""What each dialect fixes, and where that was read: the data behind `dialects`.

The functions of `dialects` take their rule from here, and so do the table that
`python -m rmsprop_jax dialects` prints and `docs/dialects.md`. Default values are in
the signatures of the functions and nowhere else.
"""

import dataclasses

# The words of the frameworks for our arguments; any other word is ours too.
OURS = {
    "lr": "learning_rate",
    "step_size": "learning_rate",
    "alpha": "decay",
    "rho": "decay",
    "gamma": "decay",
    "beta2": "decay",
    "epsilon": "eps",
    "wc": "weight_decay",
}

NOT_RUN = "read, not run"


@dataclasses.dataclass(frozen=True)
class Dialect:
    """One framework's RMSProp, apart from the numbers that a call gives.

    Attributes:
      framework: whose it is.
      original: what is called there.
      initial_scale: `s` before the first step.
      eps_in_sqrt: whether eps is under the root; None where momentum decides.
      lr_in_momentum: whether the buffer accumulates steps; None without momentum.
      centered: True for always, False for never, None where the call says.
      weight_decay: "coupled", "decoupled", "either" where the call says, or "none".
      source: repository and file.
      verified: what was executed against it, or `NOT_RUN`.
      surprise: what its users do not expect, in one sentence.
    """

    framework: str
    original: str
    initial_scale: float
    eps_in_sqrt: bool | None
    lr_in_momentum: bool | None
    centered: bool | None
    weight_decay: str
    source: str
    verified: str
    surprise: str


DIALECTS = {
    "torch": Dialect(
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
        "all of the past at once; the two parts of a complex number are two parameters",
    ),
    "tensorflow1": Dialect(
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
        surprise="`s` starts at 1, so small gradients are held back for the first "
        "1/(1-decay) steps",
    ),
    "keras": Dialect(
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
        surprise="weight decay is decoupled and times the learning rate, unlike the "
        "L2 penalty of the TensorFlow recipes",
    ),
    "keras_legacy": Dialect(
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
    ),
    "timm": Dialect(
        framework="timm",
        original="timm.optim.RMSpropTF",
        initial_scale=1.0,
        eps_in_sqrt=True,
        lr_in_momentum=True,
        centered=None,
        weight_decay="either",
        source="huggingface/pytorch-image-models timm/optim/rmsprop_tf.py",
        verified="run: timm 1.0.31",
        surprise="TensorFlow's rule with PyTorch's names; `lr_in_momentum=False` makes "
        "the momentum PyTorch's",
    ),
    "stable_baselines3": Dialect(
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
        surprise="TensorFlow's start and eps, but PyTorch's momentum and defaults",
    ),
    "jax_example_libraries": Dialect(
        framework="JAX",
        original="jax.example_libraries.optimizers.rmsprop, rmsprop_momentum",
        initial_scale=0.0,
        eps_in_sqrt=True,
        lr_in_momentum=True,
        centered=False,
        weight_decay="none",
        source="jax-ml/jax jax/example_libraries/optimizers.py",
        verified="run: JAX 0.10.2",
        surprise="two functions there: with a momentum it is `rmsprop_momentum`",
    ),
    "sonnet": Dialect(
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
    ),
    "flax_legacy": Dialect(
        framework="Flax before 0.6",
        original="flax.optim.RMSProp",
        initial_scale=0.0,
        eps_in_sqrt=False,
        lr_in_momentum=None,
        centered=None,
        weight_decay="none",
        source="google/flax flax/optim/rmsprop.py",
        verified="run: Flax 0.5.3",
        surprise="centered was added for DQN, but eps stayed outside the root, where "
        "DQN does not have it",
    ),
    "bitsandbytes": Dialect(
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
        surprise="its `momentum` argument is accepted and never read",
    ),
    "mlx": Dialect(
        framework="MLX",
        original="mlx.optimizers.RMSprop",
        initial_scale=0.0,
        eps_in_sqrt=False,
        lr_in_momentum=None,
        centered=False,
        weight_decay="none",
        source="ml-explore/mlx python/mlx/optimizers/optimizers.py",
        verified="run: MLX 0.32.4 (CPU)",
        surprise="PyTorch's rule and defaults without momentum, centering and weight "
        "decay",
    ),
    "paddle": Dialect(
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
        surprise="its documentation says Nesterov, its kernel is heavy ball; "
        "`epsilon` comes before `momentum`",
    ),
    "dqn": Dialect(
        framework="DQN (Nature, 2015)",
        original="NeuralQLearner:qLearnMinibatch",
        initial_scale=0.0,
        eps_in_sqrt=True,
        lr_in_momentum=None,
        centered=True,
        weight_decay="coupled",
        source="kuz/DeepMind-Atari-Deep-Q-Learner dqn/NeuralQLearner.lua",
        verified=NOT_RUN,
        surprise="the paper's gradient momentum of 0.95 is the decay of the mean "
        "gradient; eps of 0.01 belongs to gradients summed over 32 samples",
    ),
    "graves": Dialect(
        framework="Graves, 2013",
        original="Generating Sequences With Recurrent Neural Networks, eq. 38-45",
        initial_scale=0.0,
        eps_in_sqrt=True,
        lr_in_momentum=True,
        centered=True,
        weight_decay="none",
        source="chainer/chainer chainer/optimizers/rmsprop_graves.py",
        verified=NOT_RUN,
        surprise="the first centered form, and always centered",
    ),
    "hinton": Dialect(
        framework="Hinton, 2012",
        original="Lecture 6e, slide 29",
        initial_scale=0.0,
        eps_in_sqrt=True,
        lr_in_momentum=None,
        centered=False,
        weight_decay="none",
        source="Neural Networks for Machine Learning, COURSERA, 2012",
        verified=NOT_RUN,
        surprise="no eps and no initial value are stated; both are 0 here",
    ),
    "d2l": Dialect(
        framework="Dive into Deep Learning",
        original="chapter 12.8, RMSProp",
        initial_scale=0.0,
        eps_in_sqrt=True,
        lr_in_momentum=None,
        centered=False,
        weight_decay="none",
        source="d2l-ai/d2l-en chapter_optimization/rmsprop.md",
        verified=NOT_RUN,
        surprise="the book's concise PyTorch version has eps outside the root",
    ),
}
