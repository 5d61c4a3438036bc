"""Whole training steps: forward, backward and update, at a small batch."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from ._contenders import CONTENDERS, REFERENCE, step_of
from ._measure import Row, Timed, compare
from ._shapes import Shapes, gpt2, resnet50

Loss = Callable[[list[jax.Array]], jax.Array]


def gpt2_loss(leaves: list[jax.Array], words: int = 64) -> jax.Array:
    """Predict the next of `words` tokens with the tree of `gpt2`."""
    embed, positions, *rest = leaves
    width, heads = embed.shape[1], max(embed.shape[1] // 64, 1)
    tokens = jnp.arange(words) * 7919 % embed.shape[0]
    x = embed[tokens] + positions[:words]
    mask = jnp.tril(jnp.ones((words, words), bool))
    for k in range(0, len(rest) - 2, 12):
        g1, b1, qkv, cq, out, co, g2, b2, up, cu, down, cd = rest[k : k + 12]
        q, key, v = jnp.split(_normalize(x, g1, b1) @ qkv + cq, 3, axis=-1)
        q, key, v = (a.reshape(words, heads, width // heads) for a in (q, key, v))
        scores = jnp.einsum("qhd,khd->hqk", q, key) / (width // heads) ** 0.5
        weights = jax.nn.softmax(jnp.where(mask, scores, -1e9), axis=-1)
        mixed = jnp.einsum("hqk,khd->qhd", weights, v).reshape(words, width)
        x = x + mixed @ out + co
        x = x + jax.nn.gelu(_normalize(x, g2, b2) @ up + cu) @ down + cd
    gain, bias = rest[-2:]
    logits = _normalize(x, gain, bias) @ embed.T
    targets = jnp.roll(tokens, -1)
    return -jnp.mean(jax.nn.log_softmax(logits)[jnp.arange(words), targets])


def resnet50_loss(leaves: list[jax.Array], side: int = 64) -> jax.Array:
    """Classify one picture with the tree of `resnet50`."""
    key = jax.random.key(0)
    x = jax.random.normal(key, (1, side, side, 3), leaves[0].dtype)
    kernels = iter(leaves)
    layer = lambda: (next(kernels), next(kernels), next(kernels))  # noqa: E731
    x = jax.nn.relu(_convolve(x, layer(), stride=4))
    for stage, blocks in enumerate((3, 4, 6, 3)):
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            y = jax.nn.relu(_convolve(x, layer()))
            y = jax.nn.relu(_convolve(y, layer(), stride=stride))
            y = _convolve(y, layer())
            if not block:
                x = _convolve(x, layer(), stride=stride)
            x = jax.nn.relu(x + y)
    logits = jnp.mean(x, axis=(1, 2)) @ next(kernels) + next(kernels)
    return -jax.nn.log_softmax(logits)[0, 0]


def _normalize(x: jax.Array, gain: jax.Array, bias: jax.Array) -> jax.Array:
    return jax.nn.standardize(x, axis=-1) * gain + bias


def _convolve(x: jax.Array, layer: tuple[jax.Array, ...], stride: int = 1) -> jax.Array:
    kernel, gain, bias = layer
    y = lax.conv_general_dilated(
        x, kernel, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    return _normalize(y, gain, bias)


MODELS: dict[str, tuple[Shapes, Loss]] = {
    "training step, ResNet-50 at 1 x 64^2": (resnet50(), resnet50_loss),
    "training step, GPT-2 124M at 64 tokens": (gpt2(), gpt2_loss),
}


def measure_training(model: str, name: str, other: Timed, rounds: int) -> Row:
    """Time a whole training step of one contender beside that of the reference."""
    return compare(
        model, MODELS[model][0], name, whole_step(model, name), other, rounds
    )


def whole_step(model: str, name: str = REFERENCE) -> Timed:
    """Compile forward pass, backward pass and update of one contender."""
    (shapes, loss), contender = MODELS[model], CONTENDERS[name]
    init, update = step_of(contender)

    def step(params: Any, state: Any, gradients: Any) -> Any:
        del gradients
        gradients = jax.grad(lambda p: loss(list(p.values())).astype("f4"))(params)
        return update(params, state, gradients)

    timed = Timed(init, step, shapes, contender.dtype)
    # Weights of variance 1/fan-in, so that the activations stay finite.
    timed.params = {
        k: p if p.ndim < 2 else p * (p.size // p.shape[-1]) ** -0.5
        for k, p in timed.params.items()
    }
    return timed
