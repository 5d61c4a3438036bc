"""Whole training steps compiled for accelerators, and the memory that each plans.

The update alone does not show what XLA keeps for it through the backward pass.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import NamedSharding, PartitionSpec

from .. import sharding
from ._compiled_steps import AXIS, abstract, compile_for, mesh_of
from ._contenders import CONTENDERS, REFERENCE, Contender, step_of
from ._shapes import gpt2
from ._training import gpt2_loss


class Decoder(NamedTuple):
    """A transformer as of Llama, its layers under `lax.scan` with `jax.checkpoint`."""

    layers: int
    width: int
    hidden: int
    vocabulary: int
    heads: int

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The parameters, those of all layers in one array."""
        n, d, h, v, _ = self
        return {
            "embed": (v, d),
            **{name: (n, d, d) for name in ("query", "key", "value", "out")},
            **{name: (n, d, h) for name in ("gate", "up")},
            "down": (n, h, d),
            "norms": (n, 2, d),
            "norm": (d,),
            "head": (d, v),
        }


class WholeStep(NamedTuple):
    """A model, its loss from parameters and tokens, and the tokens of a device.

    Attributes:
      shapes: {name: shape} of the parameters.
      tokens: (sequences, tokens) for each device.
    """

    shapes: dict[str, tuple[int, ...]]
    loss: Callable[..., jax.Array]
    tokens: tuple[int, int]


def decoder_loss(model: Decoder, params: Any, tokens: jax.Array) -> jax.Array:
    """Predict the next tokens, in bfloat16 between float32 sums."""
    names = [name for name, shape in model.shapes.items() if shape[0] == model.layers]

    @jax.checkpoint
    def layer(x: jax.Array, w: Any) -> tuple[jax.Array, None]:
        w = jax.tree.map(lambda a: a.astype(jnp.bfloat16), w)
        y = _rms(x, w["norms"][0])
        q, k, v = (
            _heads(y @ w[name], model.heads) for name in ("query", "key", "value")
        )
        mixed = jax.nn.dot_product_attention(q, k, v, is_causal=True)
        x = x + mixed.reshape(x.shape) @ w["out"]
        y = _rms(x, w["norms"][1])
        return x + (jax.nn.silu(y @ w["gate"]) * (y @ w["up"])) @ w["down"], None

    x = params["embed"].astype(jnp.bfloat16)[tokens]
    x, _ = jax.lax.scan(layer, x, {name: params[name] for name in names})
    logits = _rms(x, params["norm"]) @ params["head"].astype(jnp.bfloat16)
    logits = jax.nn.log_softmax(logits[:, :-1].astype(jnp.float32))
    return -jnp.mean(jnp.take_along_axis(logits, tokens[:, 1:, None], -1))


def _rms(x: jax.Array, gain: jax.Array) -> jax.Array:
    wide = x.astype(jnp.float32)
    wide *= jax.lax.rsqrt(jnp.mean(wide**2, -1, keepdims=True) + 1e-6)
    return wide.astype(x.dtype) * gain.astype(x.dtype)


def _heads(x: jax.Array, heads: int) -> jax.Array:
    return x.reshape(*x.shape[:-1], heads, x.shape[-1] // heads)


def _decoder(model: Decoder, tokens: tuple[int, int]) -> WholeStep:
    return WholeStep(model.shapes, functools.partial(decoder_loss, model), tokens)


def _gpt2_tokens(params: Any, tokens: jax.Array) -> jax.Array:
    words = tokens.shape[1]
    one = jax.vmap(lambda _: gpt2_loss(list(params.values()), words))
    return jnp.mean(one(tokens).astype(jnp.float32))


WHOLE_STEPS = {
    "GPT-2 124M, 4 x 1024 tokens": WholeStep(
        {f"{k:04d}": shape for k, shape in enumerate(gpt2())}, _gpt2_tokens, (4, 1024)
    ),
    "7B, FSDP, 1 x 1024 tokens per device": _decoder(
        Decoder(32, 4096, 11008, 32000, 32), (1, 1024)
    ),
    "small decoder, FSDP": _decoder(Decoder(4, 1024, 2816, 4096, 8), (1, 256)),
}
WHOLE_CONTENDERS: dict[str, Contender] = {
    "optax.adamw": Contender(lambda: optax.adamw(1e-3), state_bytes=8, like=None),
    **{
        name: CONTENDERS[name]
        for name in (
            *(REFERENCE, "rmsprop", "rmsprop, bfloat16", "rmsprop, uint8"),
            *("rmsprop, bfloat16 p, uint8", "master_weights 24, uint8", "optax.sgd"),
        )
    },
}


class WholeRow(NamedTuple):
    """The bytes on one device as the compiler plans them for one training step.

    Attributes:
      arguments: parameters, state and tokens.
      temporaries: gradients, activations and all else that the step makes.
      peak: the two, and the results that are not written over the arguments.
    """

    target: str
    model: str
    contender: str
    parameters: int
    arguments: int
    temporaries: int
    peak: int
    compile_seconds: float
    collectives: dict[str, tuple[int, float]]


def measure_whole(target: str, model: str, name: str, contender: Contender) -> WholeRow:
    """Compile a training step, on all devices of the target with everything divided."""
    whole = WHOLE_STEPS[model]
    init, update = step_of(contender)
    mesh = mesh_of(target)
    params = {
        name: jax.ShapeDtypeStruct(shape, jnp.dtype(contender.dtype))
        for name, shape in whole.shapes.items()
    }
    tx = optax.GradientTransformation(init, update)
    divided = sharding.zero1_shardings(optax.trace(0.9), params, mesh, AXIS).trace
    placed = sharding.state_shardings(tx, params, divided)
    rows = NamedSharding(mesh, PartitionSpec(AXIS))

    def step(params: Any, state: Any, tokens: jax.Array) -> Any:
        tokens = jax.lax.with_sharding_constraint(tokens, rows)
        return update(params, state, jax.grad(whole.loss)(params, tokens))

    count, words = whole.tokens
    tokens = jax.ShapeDtypeStruct((count * mesh.size, words), jnp.int32, sharding=rows)
    made = compile_for(
        target,
        step,
        abstract(params, divided),
        abstract(jax.eval_shape(init, params), placed),
        tokens,
        assemble=False,
        donate_argnums=(0, 1),
        out_shardings=(divided, placed),
    )
    memory = made.memory
    arguments, temporaries = memory.argument_size_in_bytes, memory.temp_size_in_bytes
    return WholeRow(
        target,
        model,
        name,
        sum(math.prod(shape) for shape in whole.shapes.values()),
        arguments,
        temporaries,
        arguments
        + temporaries
        + memory.output_size_in_bytes
        - memory.alias_size_in_bytes,
        made.seconds,
        made.program.collectives(),
    )
