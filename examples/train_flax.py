"""Train a classifier of handwritten digits with RMSProp and Flax nnx.

pip install "rmsprop_jax[examples]"
python train_flax.py
"""

import argparse
import functools

import numpy as np
import optax
from flax import nnx
from rich.progress import track
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from rmsprop_jax import scale_by_rmsprop


class Network(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        self.conv = nnx.Conv(1, 32, (3, 3), padding="VALID", rngs=rngs)
        self.hidden = nnx.Linear(3 * 3 * 32, 64, rngs=rngs)
        self.out = nnx.Linear(64, 10, rngs=rngs)

    def __call__(self, images):
        x = nnx.max_pool(nnx.relu(self.conv(images)), (2, 2), strides=(2, 2))
        return self.out(nnx.relu(self.hidden(x.reshape(len(x), -1))))


def mean_loss(model, images, labels):
    losses = optax.softmax_cross_entropy_with_integer_labels(model(images), labels)
    return losses.mean()


# Donated: the step writes the new parameters and state over the old ones.
@functools.partial(nnx.jit, donate_argnums=(0, 1))
def train_step(model, optimizer, images, labels):
    grads = nnx.grad(mean_loss)(model, images, labels)
    optimizer.update(model, grads)


@nnx.jit
def evaluate(model, images, labels):
    accuracy = (model(images).argmax(axis=-1) == labels).mean()
    return mean_loss(model, images, labels), accuracy


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
    steps = parser.parse_args().steps

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

    loss, _ = evaluate(model, images, labels)
    _, accuracy = evaluate(model, test_images, test_labels)
    print(f"training loss {loss:.2e}, test accuracy {accuracy:.4f}")


if __name__ == "__main__":
    main()
