"""Published settings of sequence models."""

import optax
from jax.typing import ArrayLike

from .._storage import Format
from ._recipe import REPORTED, Number, build, checked, recipe

_GRAVES = (
    "Graves, Generating Sequences With Recurrent Neural Networks, 2013, eq. 38-45, as "
    "in chainer/chainer chainer/optimizers/rmsprop_graves.py"
)


@recipe(
    title="Handwriting of Graves, 2013",
    dialect="graves",
    numbers=(
        Number("learning_rate", 1e-4, REPORTED, _GRAVES, "constant"),
        Number("decay", 0.95, REPORTED, _GRAVES, "of both moments"),
        Number("momentum", 0.9, REPORTED, _GRAVES),
        Number("eps", 1e-4, REPORTED, _GRAVES),
    ),
    outside="derivatives clipped inside the network: those of the outputs to "
    "[-100, 100], those of LSTM layers to [-10, 10]",
)
def graves_handwriting(
    *,
    storage: str | Format = "float32",
    nonfinite: str = "propagate",
    seed: ArrayLike = 0,
) -> optax.GradientTransformationExtraArgs:
    """RMSProp of Graves's handwriting prediction and synthesis.

        graves(lr=1e-4, alpha=0.95, momentum=0.9, eps=1e-4)

    The paper also clips derivatives inside the network, before they reach a parameter.

    Args:
      storage, nonfinite, seed: as in `rmsprop`.
    """
    return build(checked("graves_handwriting", locals()))
