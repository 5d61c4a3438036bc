"""`python -m rmsprop_jax demo`: RMSProp beside SGD, AdaGrad and Adam on digits."""

import argparse
import contextlib
import functools
import itertools
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PyTree

from ._palette import line_style
from ._scale_by_rmsprop import scale_by_rmsprop

try:
    from flax import nnx
    from matplotlib.figure import Figure
    from rich import box
    from rich.console import Console
    from rich.progress import Progress, TaskID, TimeElapsedColumn
    from rich.table import Table
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"the demo needs {error.name}. Install it with "
        "`pip install flax matplotlib rich scikit-learn`.",
        name=error.name,
    ) from error

SEEDS = 5
BATCH = 64


class Contender(NamedTuple):
    """One optimizer: its own link of the chain, and its largest learning rate."""

    scale: optax.GradientTransformation
    peak: float


# Each peak rate is the best on a grid of 1, 3 x 10**k, by mean accuracy over four folds
# of the training images and two seeds, without the test images. Accuracies of the best
# and of its neighbors: RMSProp 0.9852 (0.9826, 0.9818), SGD 0.9833 (0.9796, 0.9822),
# AdaGrad 0.9837 (0.9800, 0.9800), Adam 0.9848 (0.9837, 0.9788).
CONTENDERS = {
    "RMSProp": Contender(scale_by_rmsprop(), 0.01),
    "SGD, momentum": Contender(optax.trace(0.9), 0.1),
    "AdaGrad": Contender(optax.scale_by_rss(), 0.3),
    "Adam": Contender(optax.scale_by_adam(), 0.03),
}


class Digits(NamedTuple):
    """Gray images in [0, 1] and the digits that they show."""

    images: Float[np.ndarray, "n 8 8 1"]
    labels: Int[np.ndarray, " n"]


class Data(NamedTuple):
    """The images to train on and the images to test on."""

    train: Digits
    test: Digits


class Result(NamedTuple):
    """The results of one optimizer, from all seeds."""

    losses: Float[np.ndarray, "seeds marks"]
    accuracies: Float[np.ndarray, " seeds"]
    seconds_per_step: float
    bytes_per_parameter: float


class Network(nnx.Module):
    """A small convolutional classifier."""

    def __init__(self, rngs: nnx.Rngs):
        self.conv = nnx.Conv(1, 32, (3, 3), padding="VALID", rngs=rngs)
        self.hidden = nnx.Linear(3 * 3 * 32, 64, rngs=rngs)
        self.out = nnx.Linear(64, 10, rngs=rngs)

    def __call__(self, images: Float[Array, "n 8 8 1"]) -> Float[Array, "n 10"]:
        x = nnx.max_pool(nnx.relu(self.conv(images)), (2, 2), strides=(2, 2))
        x = nnx.relu(self.hidden(x.reshape(len(x), -1)))
        return self.out(x)


def load() -> Data:
    """Split the images into the same two sets every time."""
    images, labels = load_digits(return_X_y=True)
    images = (images / 16).astype(np.float32).reshape(-1, 8, 8, 1)
    labels = labels.astype(np.int32)
    train, test = train_test_split(
        np.arange(len(labels)), test_size=0.25, stratify=labels, random_state=0
    )
    return Data(
        Digits(images[train], labels[train]), Digits(images[test], labels[test])
    )


def chain(contender: Contender, steps: int) -> optax.GradientTransformation:
    """Build an optimizer; all have the same clipping and the same shape of schedule."""
    schedule = optax.warmup_cosine_decay_schedule(
        0.0, contender.peak, warmup_steps=steps // 20, decay_steps=steps
    )
    return optax.chain(
        optax.clip_by_global_norm(1.0),
        contender.scale,
        optax.scale_by_schedule(schedule),
        optax.scale(-1.0),
    )


def marks(steps: int) -> list[int]:
    """Return the steps at which the training loss is computed: about forty."""
    return [*range(0, steps, max(5, steps // 40)), steps]


@functools.partial(jax.jit, static_argnames="graph")
def mean_loss(params: PyTree, graph: nnx.GraphDef, digits: Digits) -> Float[Array, ""]:
    """Compute the cross entropy."""
    logits = nnx.merge(graph, params)(digits.images)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, digits.labels)
    return losses.mean()


@functools.partial(jax.jit, static_argnames="graph")
def accuracy(params: PyTree, graph: nnx.GraphDef, digits: Digits) -> Float[Array, ""]:
    """Compute the share of images that are classified correctly."""
    logits = nnx.merge(graph, params)(digits.images)
    return (logits.argmax(axis=-1) == digits.labels).mean()


def make_step(
    tx: optax.GradientTransformation, graph: nnx.GraphDef
) -> Callable[..., Any]:
    """Build the compiled step, which donates parameters and state."""

    def step(params: PyTree, state: PyTree, batch: Digits) -> tuple[PyTree, PyTree]:
        grads = jax.grad(mean_loss)(params, graph, batch)
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    return jax.jit(step, donate_argnums=(0, 1))


def batches(digits: Digits, seed: int) -> Iterator[Digits]:
    """Draw batches without end; a seed draws the same ones for every optimizer."""
    rng = np.random.default_rng(seed)
    while True:
        rows = rng.choice(len(digits.labels), BATCH, replace=False)
        yield Digits(digits.images[rows], digits.labels[rows])


def compete(
    contender: Contender,
    data: Data,
    seeds: range,
    steps: int,
    advance: Callable[[int], None],
) -> Result:
    """Train once per seed, and call `advance` with the number of steps taken."""
    graph, _ = nnx.split(Network(nnx.Rngs(0)))
    tx = chain(contender, steps)
    step = make_step(tx, graph)
    losses, accuracies, seconds = [], [], []
    for seed in seeds:
        _, params = nnx.split(Network(nnx.Rngs(seed)))
        state = tx.init(params)
        bytes_per_parameter = _total("nbytes", state) / _total("size", params)
        feed = batches(data.train, seed)
        losses.append([float(mean_loss(params, graph, data.train))])
        for start, stop in itertools.pairwise(marks(steps)):
            began = time.perf_counter()
            for batch in itertools.islice(feed, stop - start):
                params, state = step(params, state, batch)
            jax.block_until_ready(params)
            seconds.append((time.perf_counter() - began) / (stop - start))
            losses[-1].append(float(mean_loss(params, graph, data.train)))
            advance(stop - start)
        accuracies.append(float(accuracy(params, graph, data.test)))
    # The median leaves out the first stretch, which compiles.
    return Result(
        np.array(losses),
        np.array(accuracies),
        float(np.median(seconds)),
        bytes_per_parameter,
    )


def _total(attribute: str, tree: PyTree) -> int:
    return sum(getattr(leaf, attribute) for leaf in jax.tree.leaves(tree))


def tabulate(results: dict[str, Result]) -> Table:
    """Build the table of the results, with one row per optimizer."""
    table = Table(
        "\nOptimizer",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        caption=f"Mean ± standard deviation of {SEEDS} seeds; {BATCH} images per step.",
    )
    for heading in (
        "Peak\nrate",
        "Final loss\n(training)",
        "\nTest accuracy",
        "Seconds\nper step",
        "State bytes\nper parameter",
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, result in results.items():
        spread = np.std(result.accuracies, ddof=1)
        table.add_row(
            name,
            f"{CONTENDERS[name].peak:g}",
            f"{result.losses[:, -1].mean():.1e}",
            f"{result.accuracies.mean():.4f} ± {spread:.4f}",
            f"{result.seconds_per_step:.5f}",
            f"{result.bytes_per_parameter:.2f}",
        )
    return table


def draw(results: dict[str, Result], steps: int, out: Path) -> None:
    """Draw the loss curves and write them as a PNG."""
    figure = Figure(figsize=(7.5, 4.5), dpi=150, layout="constrained")
    axes = figure.subplots()
    for k, (name, result) in enumerate(results.items()):
        style, x = line_style(k), marks(steps)
        low, high = result.losses.min(axis=0), result.losses.max(axis=0)
        axes.fill_between(x, low, high, color=style["color"], alpha=0.2, lw=0)
        axes.plot(x, result.losses.mean(axis=0), label=name, **style)
    axes.set_title(f"Digits: mean of {SEEDS} seeds, band from lowest to highest")
    axes.set(xlabel="step", ylabel="training loss (cross entropy)", yscale="log")
    axes.set_xlim(0, steps)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, handlelength=3)
    figure.savefig(out, format="png")


def main(argv: list[str] | None = None) -> int:
    """Run the demo and return its exit code."""
    arguments = _parser().parse_args(argv)
    console = Console(highlight=False)
    results: dict[str, Result] = {}
    with contextlib.suppress(KeyboardInterrupt):
        _compete_all(results, console, arguments.seed, arguments.steps)
    missing = [name for name in CONTENDERS if name not in results]
    if missing:
        console.print(f"Interrupted. Not finished: {'; '.join(missing)}.")
    if results:
        console.print(tabulate(results))
        draw(results, arguments.steps, arguments.out)
        console.print(f"Loss curves: {arguments.out}", soft_wrap=True)
    return 130 if missing else 0


def _compete_all(
    results: dict[str, Result], console: Console, seed: int, steps: int
) -> None:
    """Fill `results` in place, so that an interruption leaves those that are done."""
    data, seeds = load(), range(seed, seed + SEEDS)
    columns = (*Progress.get_default_columns(), TimeElapsedColumn())
    progress = Progress(*columns, console=Console(stderr=True))
    with _late_interrupt() as raise_if_interrupted, progress:
        console.print(
            f"Training on {len(data.train.labels)} images, testing on "
            f"{len(data.test.labels)}: {len(CONTENDERS)} optimizers, {SEEDS} seeds, "
            f"{steps} steps."
        )
        tasks = {
            name: progress.add_task(name, total=SEEDS * steps, start=False)
            for name in CONTENDERS
        }
        for name, task in tasks.items():

            def advance(count: int, task: TaskID = task) -> None:
                progress.advance(task, count)
                raise_if_interrupted()

            progress.start_task(task)
            results[name] = compete(CONTENDERS[name], data, seeds, steps, advance)


@contextlib.contextmanager
def _late_interrupt() -> Iterator[Callable[[], None]]:
    """Delay a first Ctrl-C until the function that is yielded is called.

    Raised at once, it may hit a callback that JAX runs while it traces or collects
    garbage; Python drops an exception there, and the training would go on.
    """
    usual, held = signal.getsignal(signal.SIGINT), []

    def hold(number: int, frame: Any) -> None:
        held.append(number)
        signal.signal(signal.SIGINT, usual)

    def raise_if_interrupted() -> None:
        if held:
            raise KeyboardInterrupt

    if usual is signal.default_int_handler:  # a shell may have disabled Ctrl-C
        signal.signal(signal.SIGINT, hold)
    try:
        yield raise_if_interrupted
    finally:
        signal.signal(signal.SIGINT, usual)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m rmsprop_jax demo",
        description="Train a small classifier of handwritten digits with RMSProp, "
        "SGD, AdaGrad and Adam, for the same number of steps.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "--seed", type=_integer(0, 10**9), default=0, help="first of the seeds"
    )
    parser.add_argument(
        "--steps",
        type=_integer(1, 10**6),
        default=600,
        help="steps of each run",
    )
    parser.add_argument(
        "--out", type=_png_path, default="demo.png", help="where to write the figure"
    )
    return parser


def _integer(lowest: int, highest: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        digits = text.removeprefix("-")
        if digits.isdecimal() and lowest <= int(text) <= highest:
            return int(text)
        raise argparse.ArgumentTypeError(
            f"must be a whole number from {lowest} to {highest}; got {text!r}"
        )

    return parse


def _png_path(text: str) -> Path:
    """Refuse a path before training that could not be written after it."""
    path = Path(text)
    if path.suffix.lower() != ".png" or path.is_dir():
        raise argparse.ArgumentTypeError(f"must name a .png file; got {text!r}")
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(
            f"the directory {str(path.parent)!r} does not exist; create it first"
        )
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise argparse.ArgumentTypeError(f"{text!r} cannot be written: no permission")
    return path
