"""Time a step over the number of parameters and over the number of leaves.

python benchmarks/linear_cost.py --out benchmarks/linear-cost
"""

import argparse
import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from rmsprop_jax.bench import _measure
from rmsprop_jax.bench import _results as _report
from rmsprop_jax.bench._contenders import CONTENDERS

NAMES = ("rmsprop", "optax.rmsprop")
STYLES = (("#0072B2", "-"), ("#D55E00", "--"))
TREES = {
    "parameters in one leaf": {n: [(n,)] for n in (10**k for k in range(4, 9))},
    "leaves of 64 x 64": {n: [(64, 64)] * n for n in (1, 10, 100, 1000, 4000)},
}


def measure(trees: dict, rounds: int) -> list[dict]:
    """Time all contenders in turn, step by step."""
    rows = []
    for size, shapes in trees.items():
        timed = [
            _measure.Timed(*_measure.step_of(CONTENDERS[n]), shapes, np.float32)
            for n in NAMES
        ]
        for _ in range(_measure.WARM_UP + rounds):
            for each in timed:
                each.run()
        for name, each in zip(NAMES, timed, strict=True):
            seconds = np.array(each.seconds[_measure.WARM_UP :])
            low, middle, high = np.quantile(seconds, (0.25, 0.5, 0.75))
            rows.append(
                {
                    "size": size,
                    "contender": name,
                    "seconds": middle,
                    "quartiles": [low, high],
                    "compile_seconds": each.compile_seconds,
                }
            )
            print(rows[-1], flush=True)
    return rows


def draw(results: dict, out: Path) -> None:
    figure, panels = plt.subplots(1, 3, figsize=(12, 3.8), layout="constrained")
    *_, leaves = results
    for axes, head, field in zip(
        panels,
        (*results, leaves),
        ("seconds", "seconds", "compile_seconds"),
        strict=True,
    ):
        for name, (color, dash) in zip(NAMES, STYLES, strict=True):
            rows = [row for row in results[head] if row["contender"] == name]
            sizes, values = zip(*((r["size"], r[field]) for r in rows), strict=True)
            axes.loglog(sizes, values, dash, color=color, marker="o", label=name)
        axes.loglog(
            sizes, np.array(sizes) * values[-1] / sizes[-1], color="0.8", zorder=0
        )
        axes.set(
            xlabel=head,
            ylabel=field.replace("_", " ") + (" a step" * (field == "seconds")),
        )
    panels[0].legend(frameon=False, title="gray: in proportion")
    figure.savefig(out, dpi=100)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path("linear-cost"))
    arguments = parser.parse_args()
    results = {head: measure(trees, arguments.rounds) for head, trees in TREES.items()}
    kept = {"machine": _report.machine(), "rows": results}
    arguments.out.with_suffix(".json").write_text(json.dumps(kept, indent=1) + "\n")
    draw(results, arguments.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
