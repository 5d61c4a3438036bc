"""Published settings of sequence models."""

import optax
from jax.typing import ArrayLike

from .._storage import Format
from ._recipe import RECIPES, REPORTED, Number, build, call_of, recipe

_GRAVES = "Graves, 2013, eq. 38-45, as chainer/optimizers/rmsprop_graves.py reads it"


@recipe(
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
    arguments, rate = locals(), RECIPES["graves_handwriting"]["learning_rate"]
    return build(call_of("graves_handwriting"), arguments, rate)
