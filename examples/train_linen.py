"""
A classifier in Flax linen
==========================

A chain of optax with ``scale_by_rmsprop`` in it is the ``tx`` of a ``TrainState``, and
trains a small convolutional network on handwritten digits. The picture has the loss of
the training images and of the test images on the way.

::

    pip install ".[examples]"  # in a clone of the repository
    python examples/train_linen.py
"""

import argparse
import functools

import jax
import matplotlib.pyplot as plt
import numpy as np
import optax
from flax import linen as nn
from flax.training.train_state import TrainState
from rich.progress import track
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from rmsprop_jax import plots, scale_by_rmsprop


class Network(nn.Module):
    @nn.compact
    def __call__(self, images):
        x = nn.relu(nn.Conv(32, (3, 3), padding="VALID")(images))
        x = nn.max_pool(x, (2, 2), strides=(2, 2))
        x = nn.relu(nn.Dense(64)(x.reshape(len(x), -1)))
        return nn.Dense(10)(x)


def mean_loss(params, apply_fn, images, labels):
    logits = apply_fn({"params": params}, images)
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


# Donated: the step writes the new parameters and state over the old ones.
@functools.partial(jax.jit, donate_argnums=0)
def train_step(state, images, labels):
    grads = jax.grad(mean_loss)(state.params, state.apply_fn, images, labels)
    return state.apply_gradients(grads=grads)


@jax.jit
def evaluate(state, images, labels):
    logits = state.apply_fn({"params": state.params}, images)
    accuracy = (logits.argmax(axis=-1) == labels).mean()
    return mean_loss(state.params, state.apply_fn, images, labels), accuracy


def make_optimizer(steps):
    schedule = optax.warmup_cosine_decay_schedule(0.0, 0.01, steps // 20, steps)
    return optax.chain(
        optax.clip_by_global_norm(1.0),
        scale_by_rmsprop(decay=0.9),
        optax.scale_by_schedule(schedule),
        optax.scale(-1.0),
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--out", default="train_linen.png")
    arguments = parser.parse_args()
    steps = arguments.steps

    images, labels = load_digits(return_X_y=True)
    images = (images / 16).astype(np.float32).reshape(-1, 8, 8, 1)
    images, test_images, labels, test_labels = train_test_split(
        images, labels.astype(np.int32), test_size=0.25, stratify=labels, random_state=0
    )
    network = Network()
    params = network.init(jax.random.key(0), images[:1])["params"]
    state = TrainState.create(
        apply_fn=network.apply, params=params, tx=make_optimizer(steps)
    )
    rng, marks, losses = np.random.default_rng(0), [], []
    for k in track(range(steps + 1), "Training"):
        if k % max(1, steps // 30) == 0 or k == steps:
            loss, _ = evaluate(state, images, labels)
            test_loss, accuracy = evaluate(state, test_images, test_labels)
            marks.append(k)
            losses.append((loss, test_loss))
        if k < steps:
            rows = rng.choice(len(labels), 64, replace=False)
            state = train_step(state, images[rows], labels[rows])

    _, ax = plt.subplots(figsize=(7, 4), layout="constrained")
    training, test = np.transpose(losses)
    plots.losses({"training images": training, "test images": test}, steps=marks, ax=ax)
    ax.figure.savefig(arguments.out, dpi=120)
    print(
        f"training loss {loss:.2e}, test accuracy {accuracy:.4f} after {steps} steps."
    )


if __name__ == "__main__":
    main()
