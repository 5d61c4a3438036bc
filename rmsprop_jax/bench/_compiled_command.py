"""`bench --compiled`: what a step costs on an accelerator that is not here."""

import sys
from collections.abc import Iterator
from typing import Any

import jax

from . import _compiled_tables
from ._compiled_steps import SCHEMES, CompiledRow, measure_compiled
from ._contenders import CONTENDERS
from ._results import write_json
from ._shapes import TREES
from ._targets import TARGETS, Target, Tpu, missing_compiler

# On a TPU, XLA moves leaves that are small ahead of the kernels, and the estimate of
# their cycles leaves that out.
QUICK_TREES = {"gpu": "32 x 1024^2", "tpu": "one matrix of 4096 x 8192"}
QUICK_CONTENDERS = (
    *("optax.rmsprop", "rmsprop", "rmsprop, bfloat16", "rmsprop, uint8"),
    *("rmsprop, bfloat16 p, uint8", "rmsprop, momentum", "rmsprop, momentum, uint8"),
    *("rmsprop, centered", "rmsprop, centered, uint8", "master_weights 24, uint8"),
    *("master_weights 32, uint8", "optax.sgd"),
)


def run(arguments: Any) -> int:
    """Compile for the targets, print tables, and write the files asked for."""
    jax.config.update("jax_platforms", "cpu")  # what is here does not compute
    for target in arguments.compiled:
        if sentence := missing_compiler(TARGETS[target]):
            print(sentence, file=sys.stderr)
            return 1
    rows: list[CompiledRow] = []
    failed: dict[str, str] = {}
    for target in arguments.compiled:
        start = len(rows)
        for row in _rows(arguments, target, failed):
            rows.append(row)
            _progress(f"{target}, {row.tree}: {row.contender}")
            _write(arguments, rows, failed)
        if rows[start:]:
            print(_compiled_tables.text(rows[start:]), end="\n\n")
    for name, why in failed.items():
        print(f"not compiled: {name}; {why}")
    return 0


def _rows(arguments: Any, target: str, failed: dict[str, str]) -> Iterator[CompiledRow]:
    """Compile one after the other; note the reason of a failure and go on."""
    schemes = (None,) if TARGETS[target].count == 1 else SCHEMES
    every = [x for x in CONTENDERS if "again" not in x]
    names = every if arguments.suite == "full" else QUICK_CONTENDERS
    names = arguments.contenders or names
    for tree in trees(arguments, TARGETS[target]):
        for scheme in schemes:
            for name in names:
                made = CONTENDERS[name]
                try:
                    yield measure_compiled(
                        target, tree, name, made, TREES[tree], scheme
                    )
                except Exception as error:
                    reason = f"{type(error).__name__}: {error}".split("\n")[0]
                    failed[f"{name} on {tree} for {target}"] = reason


def trees(arguments: Any, target: Target) -> list[str]:
    """Return the trees asked for, those of the suite, or the one that tells most."""
    if arguments.trees:
        return [tree for tree in TREES if tree in arguments.trees]
    if arguments.suite == "full":
        return list(TREES)
    return [QUICK_TREES["tpu" if isinstance(target.device, Tpu) else "gpu"]]


def _progress(what: str) -> None:
    if sys.stderr.isatty():
        print(f"\r{what:<79}", end="\r", file=sys.stderr, flush=True)


def _write(arguments: Any, rows: list[CompiledRow], failed: dict[str, str]) -> None:
    """Write the rows so far, so that a run that is cut off leaves them."""
    if arguments.json:
        found = [{**row._asdict(), "bounds": row.bounds._asdict()} for row in rows]
        write_json(arguments.json, {"not_compiled": failed, "rows": found})
    if arguments.markdown:
        arguments.markdown.write_text(_compiled_tables.markdown(rows))
    if arguments.plot:
        _compiled_tables.plot(arguments.plot, rows)
