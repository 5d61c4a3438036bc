"""Three small training tasks that run on a laptop and end at a noisy loss."""

import dataclasses
import functools
import hashlib
import pydoc_data.topics
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree, UInt8
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split


class Batch(NamedTuple):
    """The inputs of a network, and the classes that it should predict."""

    inputs: Array
    targets: Int[Array, "..."]


# Compared by identity, so that a task can be a static argument of a jitted function.
@dataclasses.dataclass(frozen=True, eq=False)
class Task:
    """A network, its data, and how long and how fast it is trained.

    Attributes:
      network: a function from `Batch.inputs` to logits.
      batch: a function that draws a batch to train on.
      held_out: the data of the evaluation loss.
      seeds: number of runs.
      steps: number of updates of a run.
      rates: initial learning rate by decay; it falls to 0 along a cosine. It is the
        best one for float32 on a grid of 1, 3 x 10**k, by evaluation loss at eps 1e-8.
      about: one line for the report.
    """

    network: nn.Module
    batch: Callable[[PRNGKeyArray], Batch]
    held_out: Batch
    seeds: int
    steps: int
    rates: Mapping[float, float]
    about: str

    def init(self, key: PRNGKeyArray) -> PyTree:
        """Draw parameters."""
        return self.network.init(key, self.held_out.inputs[:1])

    def loss(self, params: PyTree, batch: Batch) -> Float[Array, ""]:
        """Compute the cross entropy, in nats."""
        logits = self.network.apply(params, batch.inputs)
        return optax.softmax_cross_entropy_with_integer_labels(
            logits, batch.targets
        ).mean()


class Classifier(nn.Module):
    """Two layers."""

    hidden: int
    classes: int

    @nn.compact
    def __call__(self, x: Float[Array, "n features"]) -> Float[Array, "n classes"]:
        return nn.Dense(self.classes)(nn.relu(nn.Dense(self.hidden)(x)))


class CharacterModel(nn.Module):
    """A recurrent network that predicts the next character."""

    @nn.compact
    def __call__(self, x: Int[Array, "n length"]) -> Float[Array, "n length 96"]:
        return nn.Dense(96)(nn.RNN(nn.GRUCell(48))(nn.Embed(96, 24)(x)))


class BagModel(nn.Module):
    """A classifier of the sum of a few rows of a table."""

    rows: int

    @nn.compact
    def __call__(self, ids: Int[Array, "n bag"]) -> Float[Array, "n classes"]:
        return Classifier(32, 16)(nn.Embed(self.rows, 16)(ids).sum(axis=1))


def digits() -> Task:
    """Classify 8 x 8 images, half of whose pixels are dropped in training."""
    images, labels = load_digits(return_X_y=True)
    images, labels = (images / 16).astype(np.float32), labels.astype(np.int32)
    images, test_images, labels, test_labels = map(
        jnp.asarray,
        train_test_split(
            images, labels, test_size=0.25, stratify=labels, random_state=0
        ),
    )

    def batch(key: PRNGKeyArray) -> Batch:
        which, kept = jax.random.split(key)
        rows = jax.random.randint(which, (64,), 0, len(labels))
        mask = jax.random.bernoulli(kept, 0.5, (64, 64))
        return Batch(jnp.where(mask, 2 * images[rows], 0.0), labels[rows])

    return Task(
        Classifier(128, 10),
        batch,
        Batch(test_images, test_labels),
        seeds=16,
        steps=1000,
        rates={0.9: 1e-2, 0.99: 1e-2},
        about="scikit-learn's digits, half of the pixels dropped; 64-128-10 perceptron",
    )


def characters() -> Task:
    """Predict the next character of Python's own documentation."""
    text = jnp.asarray(python_text())
    train, test = text[: -len(text) // 10], text[-len(text) // 10 :]

    def windows(text: UInt8[Array, " n"], starts: Int[Array, " m"], length: int):
        x = text[starts[:, None] + jnp.arange(length + 1)].astype(jnp.int32)
        return Batch(x[:, :-1], x[:, 1:])

    def batch(key: PRNGKeyArray) -> Batch:
        return windows(train, jax.random.randint(key, (16,), 0, len(train) - 33), 32)

    return Task(
        CharacterModel(),
        batch,
        windows(test, jnp.arange(0, len(test) - 129, 256), 128),
        seeds=8,
        steps=800,
        rates={0.9: 3e-2, 0.99: 1e-2},
        about="the text of `pydoc_data.topics`; embedding 24, GRU 48, 32 characters",
    )


def embedding() -> Task:
    """Classify bags of Zipf-distributed ids, whose labels are drawn from a table."""
    rows = 4096
    weights = 1 / jnp.arange(1.0, rows + 1)
    cumulative = jnp.cumsum(weights) / weights.sum()
    first, second, third = jax.random.split(jax.random.key(0), 3)
    table = jax.random.normal(first, (rows, 8))
    readout = jax.random.normal(second, (8, 16))

    def batch(key: PRNGKeyArray, size: int = 128) -> Batch:
        drawn, labelled = jax.random.split(key)
        ids = jnp.searchsorted(cumulative, jax.random.uniform(drawn, (size, 4)))
        ids = jnp.minimum(ids, rows - 1)
        targets = jax.random.categorical(
            labelled, jnp.tanh(table[ids].sum(axis=1)) @ readout
        )
        return Batch(ids, targets)

    return Task(
        BagModel(rows),
        batch,
        batch(third, 8192),
        seeds=16,
        steps=2000,
        rates={0.9: 3e-2, 0.99: 1e-2},
        about="4 of 4,096 Zipf-distributed ids, labels drawn from another table; "
        "embedding 16, hidden 32",
    )


TASKS: dict[str, Callable[[], Task]] = {
    "digits": digits,
    "characters": characters,
    "embedding": embedding,
}


@functools.cache
def python_text() -> UInt8[np.ndarray, " n"]:
    """Return Python's help text as codes: 0 for a new line, 1 to 95 printable ASCII."""
    topics = pydoc_data.topics.topics
    text = "\n".join(topics[name] for name in sorted(topics))
    codes = np.frombuffer(text.encode("ascii", "replace"), np.uint8)
    return np.maximum(codes, 31) - np.uint8(31)


def text_hash() -> str:
    """Return a hash of the text, which differs between versions of Python."""
    return hashlib.sha256(python_text().tobytes()).hexdigest()[:16]
