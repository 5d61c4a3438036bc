"""Other formats for the second moment, for comparison only.

The blockwise formats keep one scale per block, in an array that does not have the shape
of the parameter. So they are simulated: `encode` returns the decoded values in float32.
"""

import dataclasses

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from rmsprop_jax._storage import BFloat16, Float32, Format, UInt8
from rmsprop_jax.bench._contenders import ToNearest


@dataclasses.dataclass(frozen=True)
class NearestBFloat16(BFloat16):
    """bfloat16 rounded to nearest, as by a plain cast, but with ties rounded up."""

    stochastic = False


@dataclasses.dataclass(frozen=True)
class Blockwise(Format):
    """Eight bits per element and one scale per block, stored in decoded form.

    Attributes:
      block: number of elements that share a scale, in row-major order.
      smallest: arrays with fewer elements stay in float32.
    """

    block: int
    smallest: int = 0

    signed = False
    stochastic = False

    def encode(
        self, x: Float[Array, "*shape"], random: Array | None = None
    ) -> Float[Array, "*shape"]:
        del random
        if x.size < self.smallest:
            return x
        flat = jnp.pad(x.reshape(-1), (0, -x.size % self.block))
        blocks = self.kept(flat.reshape(-1, self.block))
        return blocks.reshape(-1)[: x.size].reshape(x.shape)

    def decode(self, stored: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return stored

    def kept(self, x: Float[Array, "blocks block"]) -> Float[Array, "blocks block"]:
        """Encode and decode whole blocks."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class DynamicBlockwise(Blockwise):
    """The nearest of 256 unsigned dynamic values, times the maximum of the block.

    Small arrays stay in float32, as in the optimizers of bitsandbytes. Its RMSprop,
    however, uses the signed map, with half as many values.

    Source: bitsandbytes, bitsandbytes/functional.py, `create_dynamic_map`; Dettmers et
      al., 8-bit Optimizers via Block-wise Quantization, 2021.
    """

    block: int = 256
    smallest: int = 4096

    def kept(self, x: Float[Array, "blocks block"]) -> Float[Array, "blocks block"]:
        values = dynamic_map()
        between = jnp.asarray((values[1:] + values[:-1]) / 2)
        scale = x.max(axis=1, keepdims=True)
        code = jnp.searchsorted(between, x / jnp.where(scale > 0, scale, 1.0))
        return jnp.asarray(values)[code] * scale


@dataclasses.dataclass(frozen=True)
class SqrtBlockwise(Blockwise):
    """The root, in 255 even steps of a float16 scale.

    Source: flashoptim_jax 0.1.0, quantization.py, `quantize_variance`; FlashOptim:
      Optimizers for Memory-Efficient Training, arXiv 2602.23349, 2026.
    """

    block: int = 32

    def kept(self, x: Float[Array, "blocks block"]) -> Float[Array, "blocks block"]:
        root = jnp.sqrt(x)
        scale = root.max(axis=1, keepdims=True)
        code = jnp.floor(255 * root / jnp.where(scale > 0, scale, 1.0) + 0.5)
        # XLA may drop a cast to float16 that is followed by one back.
        narrow = lax.optimization_barrier(scale.astype(jnp.float16))
        return (code / 255 * narrow.astype(jnp.float32)) ** 2


def dynamic_map() -> Float[np.ndarray, "256"]:
    """Return the unsigned dynamic values: 2, 4, ..., 128 in seven decades, 0 and 1."""
    decades = []
    for k in range(7):
        edges = np.linspace(0.1, 1.0, 2 ** (k + 1) + 1)
        decades.append(10.0 ** (k - 6) * (edges[1:] + edges[:-1]) / 2)
    return np.concatenate([[0.0], *decades, [1.0]]).astype(np.float32)


REFERENCE = "float32"
# "uint8 nearest" is a control: rounding to nearest is known to harm training.
FORMATS: dict[str, Format] = {
    REFERENCE: Float32(),
    "bfloat16": BFloat16(),
    "uint8": UInt8(),
    "bfloat16 nearest": NearestBFloat16(),
    "uint8 nearest": ToNearest(),
    "dynamic block 256": DynamicBlockwise(),
    "sqrt block 32": SqrtBlockwise(),
}
