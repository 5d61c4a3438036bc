"""`python -m rmsprop_jax bench`: one jitted, donated step, beside what others do."""

import argparse
from pathlib import Path
from typing import Any

from . import _contenders, _trees
from ._contenders import BANDWIDTHS, CONTENDERS
from ._measure import Row, Timed, bandwidth, check, compare, measure, reference
from ._peers import PEERS, missing
from ._report import markdown, plot, table, write_json
from ._training import MODELS, measure_training, whole_step

TRAINED = ("rmsprop", "rmsprop, uint8", "rmsprop, bfloat16 p, uint8", "optax.sgd")


def main(argv: list[str] | None = None) -> int:
    """Check, time and print; write what is asked for."""
    arguments = _parse(argv)
    try:
        from rich.console import Console
        from rich.progress import Progress
    except ModuleNotFoundError:
        print('the benchmark needs rich: `pip install "rmsprop_jax[bench]"`.')
        return 1
    console, quick = Console(), arguments.suite == "quick"
    console = console if console.is_terminal else Console(width=150)
    names = arguments.contenders or list(_contenders.QUICK if quick else CONTENDERS)
    trees = list(_trees.QUICK if quick else _trees.TREES)
    models = [] if quick else list(MODELS)
    if arguments.trees:
        trees = [tree for tree in _trees.TREES if tree in arguments.trees]
        models = [model for model in MODELS if model in arguments.trees]
    absent = missing(arguments.peers)
    peers = [name for name in arguments.peers if name not in absent]
    total = len(trees) * (len(names) + len(peers)) + len(models) * len(TRAINED)
    rows: list[Row] = []
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("checking", total=len(names) + total)

        def done(what: str) -> None:
            progress.update(task, advance=1, description=what)

        for name in names:
            check(name, CONTENDERS[name])
            done(f"checked {name}")
        speeds = {
            name: bandwidth(step, bytes_, arguments.rounds)
            for name, (bytes_, step) in BANDWIDTHS.items()
        }
        for tree in trees:
            found, shapes = [], _trees.TREES[tree]
            first = reference(shapes)
            for name in names:
                found.append(measure(tree, shapes, name, first, arguments.rounds))
                done(f"{tree}: {name}")
            for name in peers:
                found.append(_measure_peer(tree, name, first, arguments.rounds, absent))
                done(f"{tree}: {name}")
            found = [row for row in found if row is not None]
            console.print(table(tree, found, speeds))
            rows += found
        for model in models:
            found, rounds = [], max(arguments.rounds // 4, 5)
            first = whole_step(model)
            for name in TRAINED:
                found.append(measure_training(model, name, first, rounds))
                done(f"{model}: {name}")
            console.print(table(model, found, {}))
            rows += found
    console.print(
        "  ".join(f"{name}: {speed:.1f} GB/s" for name, speed in speeds.items())
    )
    for name, how in absent.items():
        console.print(f"not measured: {name}; {how}")
    if arguments.json:
        kept = [row._asdict() for row in rows]
        results = {"bandwidths": speeds, "not_measured": absent, "rows": kept}
        write_json(arguments.json, results)
    if arguments.markdown:
        arguments.markdown.write_text(markdown(rows, speeds))
    if arguments.plot:
        plot(arguments.plot, rows)
    return 0


def _measure_peer(
    tree: str, name: str, first: Timed, rounds: int, absent: dict[str, str]
) -> Row | None:
    """Time a peer beside the reference; what fails is noted with its reason."""
    shapes = _trees.TREES[tree]
    try:
        return compare(tree, shapes, name, PEERS[name][1](shapes), first, rounds)
    except Exception as error:
        absent[f"{name} on {tree}"] = f"{type(error).__name__}: {error}".split("\n")[0]
        return None


def _parse(argv: list[str] | None) -> Any:
    parser = argparse.ArgumentParser(prog="python -m rmsprop_jax bench")
    parser.add_argument("--suite", choices=("quick", "full"), default="quick")
    parser.add_argument(
        "--trees",
        nargs="+",
        choices=[*_trees.TREES, *MODELS],
        metavar="TREE",
        help="instead of those of the suite",
    )
    parser.add_argument(
        "--contenders",
        nargs="+",
        choices=list(CONTENDERS),
        metavar="CONTENDER",
        help="instead of those of the suite",
    )
    parser.add_argument(
        "--peers", nargs="*", choices=list(PEERS), default=list(PEERS), metavar="PEER"
    )
    parser.add_argument("--rounds", type=int, default=30, help="timed steps of each")
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    parser.add_argument("--markdown", type=Path, help="write the tables to this file")
    parser.add_argument("--plot", type=Path, help="draw the ratios to this file")
    return parser.parse_args(argv)
