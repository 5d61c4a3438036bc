"""Published settings of image classifiers."""

from typing import Any

import optax
from jax.typing import ArrayLike

from .._rmsprop import Mask, weight_decay_link
from .._storage import Format
from ._recipe import (
    CODE,
    PAPER,
    REPORTED,
    Number,
    as_float,
    build,
    checked,
    recipe,
    staircase,
)

_EFFICIENTNET = "tensorflow/tpu models/official/efficientnet/main.py, utils.py"
_BOTH = f"{_EFFICIENTNET}; Tan and Le, EfficientNet, 2019, section 5.2"
_MNASNET = "tensorflow/tpu models/official/mnasnet/mnasnet_main.py, mnasnet_utils.py"
_MOBILENET_V2 = "Sandler et al., MobileNetV2, 2018, section 6.1"
_SLIM = "tensorflow/models research/slim/train_image_classifier.py"
_TORCHVISION = "pytorch/vision references/classification/train.py"
_TORCHVISION_README = "pytorch/vision references/classification/README.md"
_INCEPTION_V3 = (
    "Szegedy et al., Rethinking the Inception Architecture for Computer Vision, 2015, "
    "section 8"
)
_INCEPTION_V4 = (
    "Szegedy et al., Inception-v4, Inception-ResNet and the Impact of Residual "
    "Connections on Learning, 2016, section 4"
)
_INCEPTION_CODE = "tensorflow/models research/inception/inception/inception_train.py"
_INCEPTION_SLIM = "tensorflow/models research/slim/nets/inception_utils.py"
_INCEPTION_V4_CODE = "tensorflow/tpu models/experimental/inception/inception_v4.py"


@recipe(
    title="EfficientNet on ImageNet",
    dialect="tensorflow1",
    numbers=(
        Number(
            "learning_rate",
            0.016,
            CODE,
            _EFFICIENTNET,
            "for a batch of 256, in proportion to it; the paper has 0.256, for 4096",
        ),
        Number("rate_factor", 0.97, CODE, _BOTH),
        Number("epochs_per_factor", 2.4, CODE, _BOTH, "counted in steps"),
        Number("warmup_epochs", 5.0, CODE, _EFFICIENTNET, "from a rate of 0"),
        Number("decay", 0.9, CODE, _BOTH),
        Number("momentum", 0.9, CODE, _BOTH),
        Number("eps", 0.001, CODE, _EFFICIENTNET, "not in the paper"),
        Number(
            "weight_decay",
            1e-5,
            CODE,
            _EFFICIENTNET,
            "coupled, except on batch normalization",
        ),
    ),
    outside="moving average of the weights, 0.9999; label smoothing 0.1",
)
def efficientnet(
    batch_size: ArrayLike,
    steps_per_epoch: ArrayLike,
    weight_decay_mask: Mask,
    *,
    storage: str | Format = "float32",
    nonfinite: str = "propagate",
    seed: ArrayLike = 0,
) -> optax.GradientTransformationExtraArgs:
    """RMSProp as EfficientNet was trained on ImageNet.

        lr = 0.016 * batch_size/256 * 0.97**floor(epoch/2.4)     after 5 warm-up epochs
        g <- g + 1e-5*p;   tensorflow1(lr, decay=0.9, momentum=0.9, epsilon=0.001)

    The warm-up starts at a rate of 0, so the first update is 0. The epochs of the
    staircase count from the start of the run.

    Args:
      batch_size: images per step, over all devices.
      steps_per_epoch: steps per pass over the training set.
      weight_decay_mask: a tree of booleans, True where weight decay applies, here all
        but the scales and biases of batch normalization; or a function from the
        parameters to one, which must be named in `static_args` of
        `optax.inject_hyperparams`; or None for everywhere.
      storage, nonfinite, seed: as in `rmsprop`.
    """
    return _by_epoch("efficientnet", locals())


@recipe(
    title="MnasNet on ImageNet",
    dialect="tensorflow1",
    numbers=(
        Number("learning_rate", 0.016, CODE, _MNASNET, "for a batch of 256"),
        Number("rate_factor", 0.97, CODE, _MNASNET),
        Number("epochs_per_factor", 2.4, CODE, _MNASNET, "counted in steps"),
        Number("warmup_epochs", 5.0, CODE, _MNASNET, "from a rate of 0"),
        Number("decay", 0.9, CODE, _MNASNET),
        Number("momentum", 0.9, CODE, _MNASNET),
        Number("eps", 0.001, CODE, _MNASNET),
        Number(
            "weight_decay",
            1e-5,
            CODE,
            _MNASNET,
            "coupled, except on batch normalization",
        ),
    ),
    outside="moving average of the weights, 0.9999; label smoothing 0.1; batch "
    "1024, 350 epochs",
)
def mnasnet(
    batch_size: ArrayLike,
    steps_per_epoch: ArrayLike,
    weight_decay_mask: Mask,
    *,
    storage: str | Format = "float32",
    nonfinite: str = "propagate",
    seed: ArrayLike = 0,
) -> optax.GradientTransformationExtraArgs:
    """RMSProp as MnasNet was trained on ImageNet: the numbers of `efficientnet`.

    Args:
      batch_size: images per step, over all devices; 1024 in the code.
      steps_per_epoch: steps per pass over the training set.
      weight_decay_mask: as in `efficientnet`.
      storage, nonfinite, seed: as in `rmsprop`.
    """
    return _by_epoch("mnasnet", locals())


@recipe(
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
)
def mobilenet_v2(
    steps_per_epoch: ArrayLike,
    weight_decay_mask: Mask,
    *,
    storage: str | Format = "float32",
    nonfinite: str = "propagate",
    seed: ArrayLike = 0,
) -> optax.GradientTransformationExtraArgs:
    """RMSProp as MobileNetV2 was trained on ImageNet.

        lr = 0.045 * 0.98**epoch
        g <- g + 4e-5*p;   tensorflow1(lr, decay=0.9, momentum=0.9, epsilon=1.0)

    Args:
      steps_per_epoch: steps per pass over the training set, at the paper's batch of 96.
      weight_decay_mask: as in `efficientnet`; in the authors' code weight decay applies
        to the kernels of ordinary convolutions, and not to depthwise ones.
      storage, nonfinite, seed: as in `rmsprop`.
    """
    return _by_epoch("mobilenet_v2", locals())


@recipe(
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
)
def mobilenet_v3_torchvision(
    steps_per_epoch: ArrayLike,
    *,
    storage: str | Format = "float32",
    nonfinite: str = "propagate",
    seed: ArrayLike = 0,
) -> optax.GradientTransformationExtraArgs:
    """RMSProp as torchvision trained MobileNetV3 on ImageNet.

        lr = 0.064 * 0.973**floor(epoch/2)
        torch(lr, alpha=0.9, eps=0.0316, weight_decay=1e-5, momentum=0.9)

    PyTorch's rule has eps outside the root, so it is the square root of the 0.001 that
    the TensorFlow recipes have inside. The paper gives neither decay nor eps.

    Args:
      steps_per_epoch: steps per pass over the training set, at a batch of 8 x 128.
      storage, nonfinite, seed: as in `rmsprop`.
    """
    return _by_epoch("mobilenet_v3_torchvision", locals())


@recipe(
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
            "a threshold, with a reference to clipping by norm",
        ),
        Number("weight_decay", 4e-5, CODE, _INCEPTION_SLIM, "coupled, on kernels"),
    ),
    outside="moving average of the weights; label smoothing 0.1",
)
def inception_v3(
    steps_per_epoch: ArrayLike,
    weight_decay_mask: Mask,
    *,
    storage: str | Format = "float32",
    nonfinite: str = "propagate",
    seed: ArrayLike = 0,
) -> optax.GradientTransformationExtraArgs:
    """RMSProp as Inception v3 was trained on ImageNet.

        lr = 0.045 * 0.94**floor(epoch/2)
        g <- g + 4e-5*p;   g <- g * min(1, 2/|g|)
        tensorflow1(lr, decay=0.9, momentum=0.9, epsilon=1.0)

    Args:
      steps_per_epoch: steps per pass over the training set.
      weight_decay_mask: as in `efficientnet`; here weight decay applies to kernels.
      storage, nonfinite, seed: as in `rmsprop`.
    """
    return _by_epoch("inception_v3", locals())


@recipe(
    title="Inception v4 on ImageNet",
    dialect="tensorflow1",
    numbers=(
        Number("learning_rate", 0.045, PAPER, _INCEPTION_V4, "20 workers"),
        Number("rate_factor", 0.94, PAPER, _INCEPTION_V4),
        Number("epochs_per_factor", 2.0, PAPER, _INCEPTION_V4),
        Number("decay", 0.9, PAPER, _INCEPTION_V4),
        Number("momentum", 0.9, CODE, _INCEPTION_V4_CODE, "not in the paper"),
        Number("eps", 1.0, PAPER, _INCEPTION_V4),
        Number("weight_decay", 4e-5, CODE, _INCEPTION_V4_CODE, "coupled, on kernels"),
    ),
    outside="moving average of the weights; the TPU code has another schedule, "
    "0.15 for a batch of 256 after a warm-up",
)
def inception_v4(
    steps_per_epoch: ArrayLike,
    weight_decay_mask: Mask,
    *,
    storage: str | Format = "float32",
    nonfinite: str = "propagate",
    seed: ArrayLike = 0,
) -> optax.GradientTransformationExtraArgs:
    """RMSProp as Inception v4 was trained on ImageNet: `inception_v3` without clipping.

        lr = 0.045 * 0.94**floor(epoch/2)
        g <- g + 4e-5*p;   tensorflow1(lr, decay=0.9, momentum=0.9, epsilon=1.0)

    Args:
      steps_per_epoch: steps per pass over the training set.
      weight_decay_mask: as in `efficientnet`; here weight decay applies to kernels.
      storage, nonfinite, seed: as in `rmsprop`.
    """
    return _by_epoch("inception_v4", locals())


def _by_epoch(
    name: str, arguments: dict[str, Any]
) -> optax.GradientTransformationExtraArgs:
    """Build a recipe whose rate falls by epochs, with coupled weight decay."""
    words = [x for x in ("batch_size", "steps_per_epoch") if x in arguments]
    given = checked(name, arguments, *words)
    rate, mask = given.recipe["learning_rate"], arguments.get("weight_decay_mask")
    if "batch_size" in arguments:  # the rate of the source is that of a batch of 256
        rate = rate * as_float(arguments["batch_size"]) / 256
    schedule = staircase(given.recipe, arguments["steps_per_epoch"], rate)
    decay = weight_decay_link(given.call, given.recipe["weight_decay"], mask)
    return build(given, schedule, [decay])
