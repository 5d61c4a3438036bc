"""
A classifier in Flax nnx
========================

``scale_by_rmsprop`` is one link of an optax chain, here between clipping and a schedule
with warm-up, and the chain goes into ``nnx.Optimizer`` like any other. It trains a
small convolutional network on handwritten digits; the picture has the test images with
the largest losses.

::

    pip install ".[examples]"  # in a clone of the repository
    python examples/train_flax.py
"""

import argparse
import functools

import matplotlib.pyplot as plt
import numpy as np
import optax
from flax import nnx
from rich.progress import track
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from rmsprop_jax import scale_by_rmsprop
from rmsprop_jax.plots import COLORS


class Network(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        self.conv = nnx.Conv(1, 32, (3, 3), padding="VALID", rngs=rngs)
        self.hidden = nnx.Linear(3 * 3 * 32, 64, rngs=rngs)
        self.out = nnx.Linear(64, 10, rngs=rngs)

    def __call__(self, images):
        x = nnx.max_pool(nnx.relu(self.conv(images)), (2, 2), strides=(2, 2))
        return self.out(nnx.relu(self.hidden(x.reshape(len(x), -1))))


def all_losses(model, images, labels):
    return optax.softmax_cross_entropy_with_integer_labels(model(images), labels)


def mean_loss(model, images, labels):
    return all_losses(model, images, labels).mean()


# Donated: the step writes the new parameters and state over the old ones.
@functools.partial(nnx.jit, donate_argnums=(0, 1))
def train_step(model, optimizer, images, labels):
    grads = nnx.grad(mean_loss)(model, images, labels)
    optimizer.update(model, grads)


def make_optimizer(steps):
    schedule = optax.warmup_cosine_decay_schedule(0.0, 0.01, steps // 20, steps)
    return optax.chain(
        optax.clip_by_global_norm(1.0),
        scale_by_rmsprop(decay=0.9),
        optax.scale_by_schedule(schedule),
        optax.scale(-1.0),
    )


def draw_hardest(model, images, labels):
    """Draw the images with the largest losses, and what they are read as."""
    hardest = np.argsort(-all_losses(model, images, labels))[:12]
    reads = model(images[hardest]).argmax(axis=-1)
    figure, axes = plt.subplots(2, 6, figsize=(7, 3), layout="constrained")
    for ax, k, read in zip(axes.flat, hardest, reads, strict=True):
        wrong = read != labels[k]
        ax.imshow(images[k, ..., 0], cmap="gray_r")
        ax.set_title(
            f"{labels[k]}, read as {read}",
            color=COLORS[1] if wrong else "k",
            fontsize=10,
        )
        ax.axis("off")
    return figure


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--out", default="train_flax.png")
    arguments = parser.parse_args()
    steps = arguments.steps

    images, labels = load_digits(return_X_y=True)
    images = (images / 16).astype(np.float32).reshape(-1, 8, 8, 1)
    images, test_images, labels, test_labels = train_test_split(
        images, labels.astype(np.int32), test_size=0.25, stratify=labels, random_state=0
    )
    model = Network(nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, make_optimizer(steps), wrt=nnx.Param)
    rng = np.random.default_rng(0)
    for _ in track(range(steps), "Training"):
        rows = rng.choice(len(labels), 64, replace=False)
        train_step(model, optimizer, images[rows], labels[rows])

    draw_hardest(model, test_images, test_labels).savefig(arguments.out, dpi=120)
    loss = mean_loss(model, images, labels)
    accuracy = (model(test_images).argmax(axis=-1) == test_labels).mean()
    print(
        f"training loss {loss:.2e}, test accuracy {accuracy:.4f} after {steps} steps."
    )


if __name__ == "__main__":
    main()
