"""
Moving a PyTorch run over in mid-training
=========================================

A classifier of handwritten digits is trained with ``torch.optim.RMSprop``, centered and
with momentum, and saved after 200 steps. ``rmsprop_jax.interop`` brings over weights,
moments and the count of steps, and JAX goes on where PyTorch stopped. A second run
takes over the weights alone: its moments start at zero, and so its first steps are
up to ten times too long.

PyTorch is not needed: what it saved, and how it went on by itself, is recorded in
``from_pytorch.npz``. With ``--live``, PyTorch runs again and the record is renewed.

::

    pip install ".[examples]"  # in a clone of the repository
    python examples/from_pytorch.py
"""

import argparse
import json
from pathlib import Path

import jax
import matplotlib.pyplot as plt
import numpy as np
import optax
from flax import linen as nn
from rich.progress import track
from sklearn.datasets import load_digits

from rmsprop_jax import dialects, interop
from rmsprop_jax.plots import COLORS

MOVE, END = 200, 400
RECORD = Path(__file__).with_name("from_pytorch.npz")
NAMES = ["0.weight", "0.bias", "2.weight", "2.bias"]  # of `model.named_parameters()`
SLOTS = ["step", "square_avg", "grad_avg", "momentum_buffer"]


def load():
    images, labels = load_digits(return_X_y=True)
    return (images / 16).astype(np.float32), labels


def draw(step, data):
    """The batch depends on the step alone, so that both sides see the same."""
    rows = np.random.default_rng(step).choice(len(data[1]), 64, replace=False)
    return [x[rows] for x in data]


# %%
# In PyTorch: keep the weights, the state of the optimizer, and the names of its
# parameters in its order. A real run would call ``torch.save``; a flat file of arrays
# can be read without PyTorch.


def run_torch(data):
    import torch

    torch.manual_seed(0)
    images, labels = data = [torch.from_numpy(x) for x in data]
    model = torch.nn.Sequential(
        torch.nn.Linear(64, 24), torch.nn.Tanh(), torch.nn.Linear(24, 10)
    )
    optimizer = torch.optim.RMSprop(
        model.parameters(), lr=2e-3, momentum=0.9, centered=True
    )
    mean_loss, losses, record = torch.nn.CrossEntropyLoss(), [], {}
    for step in range(END):
        if step == MOVE:
            saved = optimizer.state_dict()
            record["group"] = np.array(json.dumps(saved["param_groups"][0]))
            for k, (name, weight) in enumerate(model.named_parameters()):
                record[name] = weight.detach().numpy().copy()
                for slot in SLOTS:
                    record[f"{name} {slot}"] = saved["state"][k][slot].numpy().copy()
        x, y = draw(step, data)
        optimizer.zero_grad()
        mean_loss(model(x), y).backward()
        optimizer.step()
        losses.append(mean_loss(model(images), labels).item())
    np.savez_compressed(RECORD, losses=np.float32(losses), **record)


def read_record():
    """Weights, the optimizer's state dict, and the loss after every step of PyTorch."""
    record = np.load(RECORD)
    weights = {name: record[name] for name in NAMES}
    state = {
        k: {slot: record[f"{name} {slot}"] for slot in SLOTS}
        for k, name in enumerate(NAMES)
    }
    groups = [json.loads(str(record["group"]))]
    return weights, {"state": state, "param_groups": groups}, record["losses"]


# %%
# In JAX: the same network, and a mapping from PyTorch's names to its parameters.


class Network(nn.Module):
    @nn.compact
    def __call__(self, images):
        return nn.Dense(10, name="output")(nn.tanh(nn.Dense(24, name="hidden")(images)))


@jax.jit
def mean_loss(params, images, labels):
    logits = Network().apply({"params": params}, images)
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def go_on(tx, params, state, steps, data, name):
    """Train from step MOVE on; give the loss of all images after every step."""

    @jax.jit
    def train_step(params, state, images, labels):
        gradients = jax.grad(mean_loss)(params, images, labels)
        updates, state = tx.update(gradients, state, params)
        return optax.apply_updates(params, updates), state

    losses = []
    for step in track(range(MOVE, MOVE + steps), name):
        params, state = train_step(params, state, *draw(step, data))
        losses.append(float(mean_loss(params, *data)))
    return np.array(losses)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=END - MOVE, help="after the move")
    parser.add_argument("--out", default="from_pytorch.png")
    parser.add_argument("--live", action="store_true", help="run PyTorch, and record")
    arguments = parser.parse_args()
    steps, data = min(arguments.steps, END - MOVE), load()
    if arguments.live:
        run_torch(data)
    weights, saved, theirs = read_record()

    template = Network().init(jax.random.key(0), data[0][:1])["params"]
    mapping = interop.torch.flax_mapping(template, {"hidden": "0", "output": "2"})
    params = interop.torch.from_weights(weights, template, mapping)
    tx = dialects.torch(**interop.torch.options(saved))
    zeros = tx.init(params)
    state = interop.torch.from_state_dict(saved, zeros, mapping, names=NAMES)

    there = theirs[MOVE : MOVE + steps]
    ours = go_on(tx, params, state, steps, data, "Weights and state")
    fresh = go_on(tx, params, zeros, steps, data, "Weights alone")

    start = theirs[MOVE - 1]
    after = range(MOVE, MOVE + steps + 1)
    _, ax = plt.subplots(figsize=(7, 4.2), layout="constrained")
    ax.semilogy(range(1, MOVE + 1), theirs[:MOVE], COLORS[0], lw=5, alpha=0.4)
    for losses, label, color, style in (
        (there, "PyTorch goes on", COLORS[0], dict(lw=5, alpha=0.4)),
        (ours, "JAX takes over weights and state", COLORS[1], dict(lw=1.5)),
        (fresh, "JAX takes over weights alone", COLORS[2], dict(lw=1.5, ls="--")),
    ):
        ax.semilogy(after, [start, *losses], color, label=label, **style)
    ax.axvline(MOVE, color="0.6", lw=1, zorder=0)
    ax.set(xlabel="step", ylabel="loss of all images")
    ax.legend(frameon=False)
    ax.figure.savefig(arguments.out, dpi=120)

    print(
        f"In {steps} steps the run that moved to JAX stayed within "
        f"{np.max(np.abs(ours / there - 1)):.1e} of the loss of the PyTorch run; "
        f"without its moments the loss first rose {fresh.max() / start:.1f}-fold."
    )


if __name__ == "__main__":
    main()
