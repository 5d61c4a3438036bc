"""
A character model with Graves's RMSProp
=======================================

RMSProp became popular with recurrent networks. This one, a GRU in Flax nnx, reads the
reference of the Python language that every Python carries as ``pydoc_data.topics`` and
guesses the next character.

The optimizer is that of Graves's handwriting networks, which subtracts the squared mean
gradient under the root. Its eps of 1e-4 is in the unit of squared gradients, and his
loss is a sum over the sequence: where the loss is a mean, the same numbers train much
more slowly. ::

    pip install ".[examples]"  # in a clone of the repository
    python examples/text_gru.py
"""

import argparse
import functools
from pydoc_data.topics import topics

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from rich.progress import track

from rmsprop_jax import dialects, plots, recipes

BATCH, LENGTH, HIDDEN = 32, 64, 128


def load():
    """The text as numbers, its last fortieth apart, and the characters."""
    text = "\n".join(topics[name] for name in sorted(topics))
    characters, codes = np.unique([c for c in text if c.isascii()], return_inverse=True)
    held_out = len(codes) // 40
    return codes[:-held_out], codes[-held_out:], characters


class Network(nnx.Module):
    def __init__(self, characters, rngs):
        self.embed = nnx.Embed(characters, HIDDEN, rngs=rngs)
        self.cell = nnx.GRUCell(HIDDEN, HIDDEN, rngs=rngs)
        self.rnn = nnx.RNN(self.cell)
        self.out = nnx.Linear(HIDDEN, characters, rngs=rngs)

    def __call__(self, codes):
        return self.out(self.rnn(self.embed(codes)))


def losses(model, codes):
    """Cross entropy of each character after the first, in nats."""
    return optax.softmax_cross_entropy_with_integer_labels(
        model(codes[:, :-1]), codes[:, 1:]
    )


@functools.partial(nnx.jit, donate_argnums=(0, 1), static_argnums=3)
def train_step(model, optimizer, codes, reduce):
    grads = nnx.grad(lambda model: reduce(losses(model, codes)))(model)
    optimizer.update(model, grads)


@nnx.jit
def bits(model, codes):
    return jnp.mean(losses(model, codes)) / jnp.log(2)


@functools.partial(nnx.jit, static_argnums=1)
def write(model, length, key):
    """Draw characters one after another, from the first one on."""

    def step(carry, key):
        hidden, code = carry
        hidden, y = model.cell(hidden, model.embed(code))
        code = jax.random.categorical(key, model.out(y))
        return (hidden, code), code

    carry = jnp.zeros(HIDDEN), jnp.int32(0)
    return jax.lax.scan(step, carry, jax.random.split(key, length))[1]


def make_runs(steps):
    """Name -> optimizer, and what makes one loss of those of all characters."""

    # Both rates were better than their neighbors among 1, 3 x 10**k, in one run each
    # of 500 steps and by the same held-out text.
    def to_zero(rate):
        return optax.linear_schedule(rate, 0.0, steps)

    recipe = recipes.graves_handwriting()
    sgd = optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(to_zero(1.0), 0.9))
    return {
        "Graves's numbers, loss a mean": (recipe, jnp.mean),
        "Graves's numbers, loss a sum": (recipe, jnp.sum),
        "SGD with momentum, clipped": (sgd, jnp.mean),
        "Graves's rule, rate 0.001 to 0": (dialects.graves(to_zero(1e-3)), jnp.sum),
    }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--out", default="text_gru.png")
    arguments = parser.parse_args()
    codes, held_out, characters = load()
    held_out = held_out[: len(held_out) // LENGTH * LENGTH].reshape(-1, LENGTH)
    marks = np.unique(np.linspace(0, arguments.steps, 21).astype(int))

    curves = {}
    for name, (tx, reduce) in make_runs(arguments.steps).items():
        model = Network(len(characters), nnx.Rngs(0))
        optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
        rng = np.random.default_rng(0)
        curves[name] = [float(bits(model, held_out))]
        for step in track(range(1, arguments.steps + 1), name):
            starts = rng.integers(0, len(codes) - LENGTH, BATCH)
            batch = codes[starts[:, None] + np.arange(LENGTH + 1)]
            train_step(model, optimizer, batch, reduce)
            if step in marks:
                curves[name].append(float(bits(model, held_out)))

    ax = plots.losses(curves, steps=marks)
    ax.set(yscale="linear", ylabel="bits per character, held-out text")
    ax.set_title("GRU on the Python reference, one run each")
    ax.figure.savefig(arguments.out, dpi=150)

    print("".join(characters[write(model, 400, jax.random.key(0))]))
    ends = ", ".join(f"{curve[-1]:.2f} ({name})" for name, curve in curves.items())
    print(f"Bits per character after {arguments.steps} steps: {ends}.")


if __name__ == "__main__":
    main()
