"""Step time over the number of parameters and over the number of leaves.

python benchmarks/linear_cost.py [--rounds N] [--out STEM]
"""

import argparse
import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from rmsprop_jax._palette import line_style
from rmsprop_jax.bench._contenders import CONTENDERS, step_of
from rmsprop_jax.bench._measure import WARM_UP, Timed
from rmsprop_jax.bench._results import machine

OUT = Path(__file__).with_name("linear-cost")
NAMES = ("rmsprop", "optax.rmsprop")
TREES = {
    "parameters in one leaf": {n: [(n,)] for n in (10**k for k in range(4, 9))},
    "leaves of 64 x 64": {n: [(64, 64)] * n for n in (1, 10, 100, 1000, 4000)},
}


def measure(trees: dict, rounds: int) -> list[dict]:
    """Time the steps of all contenders in turns."""
    rows = []
    for size, shapes in trees.items():
        timed = [Timed(*step_of(CONTENDERS[n]), shapes, np.float32) for n in NAMES]
        for _ in range(WARM_UP + rounds):
            for each in timed:
                each.run()
        for name, each in zip(NAMES, timed, strict=True):
            seconds = np.array(each.seconds[WARM_UP:])
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
        for k, name in enumerate(NAMES):
            rows = [row for row in results[head] if row["contender"] == name]
            sizes, values = zip(*((r["size"], r[field]) for r in rows), strict=True)
            axes.loglog(sizes, values, marker="o", label=name, **line_style(k))
        axes.loglog(
            sizes, np.array(sizes) * values[-1] / sizes[-1], color="0.8", zorder=0
        )
        axes.set(
            xlabel=head,
            ylabel=field.replace("_", " ") + (" per step" * (field == "seconds")),
        )
    panels[0].legend(frameon=False, title="gray: proportional")
    figure.savefig(out, dpi=100)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20, help="timed steps of each")
    parser.add_argument("--out", type=Path, default=OUT, help="files without suffix")
    arguments = parser.parse_args()
    results = {head: measure(trees, arguments.rounds) for head, trees in TREES.items()}
    kept = {"machine": machine(), "rows": results}
    arguments.out.with_suffix(".json").write_text(json.dumps(kept, indent=1) + "\n")
    draw(results, arguments.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
