"""Timing in pairs: a contender and the reference, taking turns."""

import functools
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ._contenders import CONTENDERS, REFERENCE, step_of
from ._shapes import Shapes

WARM_UP = 3
CHECKED: Shapes = [(64, 64), (64,)]
CHECKED_STEPS = 3
LARGE = 2**25  # elements of the leaf on which bandwidths are measured


class Row(NamedTuple):
    """The measurements of one contender on one tree.

    Attributes:
      ratio: its step time over that of the reference, the median over pairs of steps;
        low and high are the ends of the 95% interval.
      gigabytes_per_second: bytes that a step must move, over its time.
      nanoseconds_per_leaf: its step time over the number of leaves.
      state_bytes: bytes of state per parameter.
      temporary_bytes: the most that XLA holds beside arguments and results.
    """

    tree: str
    contender: str
    milliseconds: float
    ratio: float
    low: float
    high: float
    gigabytes_per_second: float
    nanoseconds_per_leaf: float
    compile_seconds: float
    state_bytes: float
    temporary_bytes: int


class Timed:
    """A compiled step with its own arrays, and the times that it took."""

    def __init__(self, init: Any, step: Any, shapes: Shapes, dtype: Any):
        self.params, self.gradients = arrays(shapes, dtype, 0), arrays(shapes, dtype, 1)
        self.state = init(self.params)
        self.seconds: list[float] = []
        start = time.perf_counter()
        jitted = jax.jit(step, donate_argnums=(0, 1))
        lowered = jitted.lower(self.params, self.state, self.gradients)
        self.step = lowered.compile()
        self.compile_seconds = time.perf_counter() - start

    def run(self) -> None:
        """Time one step, to the end of its computation."""
        start = time.perf_counter()
        self.params, self.state = self.step(self.params, self.state, self.gradients)
        jax.block_until_ready((self.params, self.state))
        self.seconds.append(time.perf_counter() - start)

    def displacement(self) -> np.ndarray:
        """Take some steps from zero, near which every dtype has small spacing."""
        self.params = jax.tree.map(jnp.zeros_like, self.params)
        for _ in range(CHECKED_STEPS):
            self.run()
        return flat(self.params.values())

    @property
    def state_bytes(self) -> int:
        return sum(x.nbytes for x in jax.tree.leaves(self.state))

    @property
    def temporary_bytes(self) -> int:
        memory = self.step.memory_analysis()
        return memory.temp_size_in_bytes if memory else -1


def arrays(shapes: Shapes, dtype: Any, seed: int) -> dict[str, jax.Array]:
    """Draw a tree of random arrays, whose leaves are in the order of the shapes."""
    keys = jax.random.split(jax.random.key(seed), len(shapes))
    return {
        f"{k:04d}": jax.random.normal(key, shape, jnp.float32).astype(dtype)
        for k, (key, shape) in enumerate(zip(keys, shapes, strict=True))
    }


def flat(leaves: Iterable[Any]) -> np.ndarray:
    """Concatenate the numbers of several arrays into one vector."""
    return np.concatenate([np.ravel(np.asarray(x, np.float32)) for x in leaves])


def take_turns(one: Any, other: Any, rounds: int) -> tuple[np.ndarray, np.ndarray]:
    """Run two steps in turns, the first one alternating, and return their times."""
    for k in range(WARM_UP + rounds):
        for each in (one, other) if k % 2 else (other, one):
            each.run()
    return np.array(one.seconds[WARM_UP:]), np.array(other.seconds[-rounds:])


def ratio(seconds: np.ndarray, reference: np.ndarray) -> tuple[float, float, float]:
    """Return the median of the ratios and its 95% interval, from order statistics."""
    ratios = np.sort(seconds / reference)
    middle, reach = len(ratios) / 2, 0.98 * np.sqrt(len(ratios))
    low, high = int(max(middle - reach, 0)), int(min(middle + reach, len(ratios) - 1))
    return float(np.median(ratios)), float(ratios[low]), float(ratios[high])


def measure(tree: str, shapes: Shapes, name: str, other: Timed, rounds: int) -> Row:
    """Time one contender beside the reference on one tree."""
    moved = CONTENDERS[name].bytes_moved
    return compare(tree, shapes, name, compiled(name, shapes), other, rounds, moved)


def compiled(name: str, shapes: Shapes) -> Timed:
    """Compile the step of a contender."""
    return Timed(*step_of(CONTENDERS[name]), shapes, CONTENDERS[name].dtype)


def compare(
    tree: str,
    shapes: Shapes,
    name: str,
    timed: Any,
    other: Any,
    rounds: int,
    bytes_moved: float = float("nan"),
) -> Row:
    """Time a step beside that of the reference; `bytes_moved` are per parameter."""
    seconds, others = take_turns(timed, other, rounds)
    size = sum(int(np.prod(shape)) for shape in shapes)
    median = float(np.median(seconds))
    return Row(
        tree,
        name,
        1e3 * median,
        *ratio(seconds, others),
        gigabytes_per_second=bytes_moved * size / median / 1e9,
        nanoseconds_per_leaf=1e9 * median / len(shapes),
        compile_seconds=timed.compile_seconds,
        state_bytes=timed.state_bytes / size,
        temporary_bytes=timed.temporary_bytes,
    )


def bandwidth(step: Callable[..., Any], bytes_: float, rounds: int) -> float:
    """Return the bandwidth that a step reaches on one leaf, in GB/s."""
    timed = Timed(lambda params: (), step, [(LARGE,)], jnp.float32)
    for _ in range(WARM_UP + rounds):
        timed.run()
    return bytes_ * LARGE / float(np.median(timed.seconds[WARM_UP:])) / 1e9


def check(name: str, made: Any, like: str | None, within: float) -> None:
    """Refuse to time a step that ends elsewhere than that of the contender `like`.

    `made` is the step on the shapes `CHECKED`. Another algorithm, without `like`, must
    move in a similar direction as the reference: 1 minus the cosine is at most 0.5.
    """
    got = made.displacement()
    want = _displacement(like or REFERENCE)
    if like is None:
        lengths = np.linalg.norm(got) * np.linalg.norm(want)
        apart, within = 1 - np.dot(got, want) / lengths, 0.5
    else:
        apart = np.linalg.norm(got - want) / np.linalg.norm(want)
    if not apart <= within:
        raise AssertionError(
            f"{name} does not move as {like or REFERENCE} does: {apart:.2g} apart, "
            f"{within:g} allowed."
        )


@functools.cache
def _displacement(name: str) -> np.ndarray:
    return compiled(name, CHECKED).displacement()
