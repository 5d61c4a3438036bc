"""`python -m rmsprop_jax bench`: time a step beside that of `optax.rmsprop`."""

import argparse
import functools
import math
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from . import _compiled_command, _contenders, _shapes
from ._contenders import BANDWIDTHS, CONTENDERS, REFERENCE
from ._measure import CHECKED, Row, bandwidth, check, compare, compiled, measure
from ._peers import PEERS, missing
from ._results import markdown, plot, table, write_json
from ._targets import TARGETS
from ._training import MODELS, measure_training, whole_step

TRAINED = ("rmsprop", "rmsprop, uint8", "rmsprop, bfloat16 p, uint8", "optax.sgd")


def main(argv: list[str] | None = None) -> int:
    """Check and time the contenders, print tables, and write the files asked for."""
    arguments = _parse(argv)
    if arguments.compiled:
        return _compiled_command.run(arguments)
    try:
        from rich.console import Console
        from rich.progress import Progress
    except ModuleNotFoundError:
        print("The benchmark needs rich. Install it with `pip install rich`.")
        return 1
    console = Console()
    console = console if console.is_terminal else Console(width=150)
    names, trees, models = _chosen(arguments)
    peers = list(arguments.peers)
    checked = list(dict.fromkeys([*names, *(TRAINED if models else ())]))
    total = len(checked) + len(trees) * len(names) + len(models) * len(TRAINED)
    total += (1 + len(trees)) * len(peers)
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("checking", total=total)
        results = _Results(
            arguments, lambda what: progress.update(task, advance=1, description=what)
        )
        for name in checked:
            contender = CONTENDERS[name]
            check(name, compiled(name, CHECKED), contender.like, contender.within)
            results.advance(f"checked {name}")
        peers = [name for name in peers if results.check_peer(name)]
        results.bandwidths |= {
            name: bandwidth(step, bytes_, arguments.rounds)
            for name, (bytes_, step) in BANDWIDTHS.items()
        }
        for tree in trees:
            results.time_tree(tree, names, peers)
            console.print(table(tree, results.of(tree), results.bandwidths))
        for model in models:
            results.time_model(model)
            console.print(table(model, results.of(model), {}))
    speeds = results.bandwidths.items()
    console.print("  ".join(f"{name}: {speed:.1f} GB/s" for name, speed in speeds))
    for name, why in results.not_measured.items():
        console.print(f"not measured: {name}; {why}")
    return 0


class _Results:
    """The rows measured so far, and why others were not measured."""

    def __init__(self, arguments: Any, advance: Callable[[str], None]):
        self.arguments, self.advance = arguments, advance
        self.rows: list[Row] = []
        self.bandwidths: dict[str, float] = {}
        self.not_measured = missing(arguments.peers)
        self.end = time.monotonic() + 60 * arguments.minutes

    def of(self, tree: str) -> list[Row]:
        return [row for row in self.rows if row.tree == tree]

    def check_peer(self, name: str) -> bool:
        """Tell whether a peer is installed and moves as it should."""
        peer, like = PEERS[name], REFERENCE if PEERS[name].within else None
        if name not in self.not_measured:
            self._try(
                name, lambda: check(name, peer.make(CHECKED), like, peer.within or 0.0)
            )
        self.advance(f"checked {name}")
        return name not in self.not_measured

    def time_tree(self, tree: str, names: list[str], peers: list[str]) -> None:
        """Time every contender on one tree, beside one copy of the reference."""
        shapes, rounds = _shapes.TREES[tree], self.arguments.rounds
        first = functools.cache(lambda: compiled(REFERENCE, shapes))

        def ours(name: str) -> Row:
            return measure(tree, shapes, name, first(), rounds)

        def theirs(name: str) -> Row:
            made = PEERS[name].make(shapes)
            return compare(tree, shapes, name, made, first(), rounds)

        self._add(tree, names, ours)
        self._add(tree, peers, theirs)
        self._write()

    def time_model(self, model: str) -> None:
        """Time whole training steps."""
        rounds = max(self.arguments.rounds // 4, 5)
        first = functools.cache(lambda: whole_step(model))
        self._add(
            model, TRAINED, lambda name: measure_training(model, name, first(), rounds)
        )
        self._write()

    def _add(self, tree: str, names: Iterable[str], row: Callable[[str], Row]) -> None:
        for name in names:
            what = f"{name} on {tree}"
            if time.monotonic() > self.end:
                over = f"the {self.arguments.minutes:g} minutes were over"
                self.not_measured[what] = over
            else:
                self._try(what, lambda name=name: self.rows.append(row(name)))
            self.advance(f"{tree}: {name}")

    def _try(self, what: str, do: Callable[[], None]) -> None:
        """Note the reason of a failure and go on."""
        try:
            do()
        except Exception as error:
            reason = f"{type(error).__name__}: {error}".split("\n")[0]
            self.not_measured[what] = reason

    def _write(self) -> None:
        """Write the rows so far, so that a run that is cut off leaves them."""
        to = self.arguments
        if to.json:
            kept = [row._asdict() for row in self.rows]
            found = {"bandwidths": self.bandwidths, "not_measured": self.not_measured}
            write_json(to.json, {**found, "rows": kept})
        if to.markdown:
            to.markdown.write_text(markdown(self.rows, self.bandwidths))
        if to.plot and self.rows:
            plot(to.plot, self.rows)


def _chosen(arguments: Any) -> tuple[list[str], list[str], list[str]]:
    """Return the contenders, the trees, and the models to train."""
    quick = arguments.suite == "quick"
    names = arguments.contenders or (_contenders.QUICK if quick else CONTENDERS)
    trees = _shapes.QUICK if quick else _shapes.TREES
    models = () if quick else MODELS
    if arguments.trees:
        trees = [tree for tree in _shapes.TREES if tree in arguments.trees]
        models = [model for model in MODELS if model in arguments.trees]
    return list(names), list(trees), list(models)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1; got {number}")
    return number


def _parse(argv: list[str] | None) -> Any:
    parser = argparse.ArgumentParser(
        prog="python -m rmsprop_jax bench",
        description="Time jitted, donated steps in turns with those of optax.rmsprop.",
    )
    parser.add_argument(
        "--compiled",
        nargs="+",
        choices=list(TARGETS),
        metavar="TARGET",
        help="time nothing; compile for accelerators that need not be here, and count "
        f"what their programs do: {', '.join(TARGETS)}",
    )
    parser.add_argument("--suite", choices=("quick", "full"), default="quick")
    parser.add_argument(
        "--trees",
        nargs="+",
        choices=[*_shapes.TREES, *MODELS],
        metavar="TREE",
        help="time these instead of those of the suite",
    )
    parser.add_argument(
        "--contenders",
        nargs="+",
        choices=list(CONTENDERS),
        metavar="CONTENDER",
        help="time these instead of those of the suite",
    )
    parser.add_argument(
        "--peers",
        nargs="*",
        choices=list(PEERS),
        default=list(PEERS),
        metavar="PEER",
        help="optimizers of other packages to time; all that are installed by default",
    )
    parser.add_argument(
        "--rounds", type=_positive, default=30, help="number of timed steps of each"
    )
    parser.add_argument(
        "--minutes",
        type=float,
        default=math.inf,
        help="start no measurement after this time",
    )
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    parser.add_argument("--markdown", type=Path, help="write the tables to this file")
    parser.add_argument("--plot", type=Path, help="draw the ratios to this file")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
