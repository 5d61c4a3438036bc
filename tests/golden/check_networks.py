"""Check the recorded training runs against their rule, in float64 NumPy.

    python tests/golden/check_networks.py

Each run is repeated from its first weights to its last, and one recorded at half time
also from there, with the moments that the framework had saved. Prints, for every
parameter, max |difference| / distance moved; fails above 2e-5.
"""

import json
import sys
from typing import NamedTuple

import numpy as np
from check_rules import distance_moved, initial_moments, options_of, step
from problem import FOLDER

TOLERANCE = 2e-5
TORCH_NAMES = ("0.weight", "0.bias", "2.weight", "2.bias")
TORCH_SLOTS = ("square_avg", "grad_avg", "momentum_buffer")
KERAS_NAMES = ("hidden/kernel", "hidden/bias", "output/kernel", "output/bias")
KERAS_SLOTS = ("velocity", "average_gradient", "momentum")


class Run(NamedTuple):
    """Weights before and after some full-batch steps; kernels are (inputs, outputs)."""

    label: str
    data: list
    options: dict
    steps: int
    before: list
    moments: list
    after: list


def gradients(params, inputs, targets):
    """Return the gradients of the mean squared error of a network with one ReLU."""
    w1, b1, w2, b2 = params
    hidden = inputs @ w1 + b1
    active = np.maximum(hidden, 0)
    error = 2 * (active @ w2 + b2 - targets) / targets.size
    back = (error @ w2.T) * (hidden > 0)
    return [inputs.T @ back, back.sum(0), active.T @ error, error.sum(0)]


def train(run):
    """Return the parameters before the run and after each of its steps."""
    params, moments = run.before, run.moments
    visited = [params]
    for _ in range(run.steps):
        grads = gradients(params, *run.data)
        rate = run.options["learning_rate"]
        stepped = [
            step(p, state, g, rate, run.options)
            for p, state, g in zip(params, moments, grads, strict=True)
        ]
        params, moments = [p for p, _ in stepped], [state for _, state in stepped]
        visited.append(params)
    return visited


def fresh(params, options):
    """Return the moments of every parameter before the first step."""
    return [initial_moments(p, options) for p in params]


def data_of(recording):
    """Return inputs and targets in float64."""
    return [recording[key].astype(np.float64) for key in ("inputs", "targets")]


def torch_arrays(recording, prefix, slot=""):
    """Return one array for every parameter."""
    keys = [f"{prefix}/{name}{slot}" for name in TORCH_NAMES]
    return [recording[key].T.astype(np.float64) for key in keys]


def torch_moments(recording, run, params):
    """Return (s, m, b) of every parameter at step 30, zeros for a slot not kept."""
    kept = {key.rpartition("/")[2] for key in recording if f"{run}/state/30" in key}
    slots = [
        torch_arrays(recording, f"{run}/state/30", f"/{slot}")
        if slot in kept
        else [np.zeros_like(p) for p in params]
        for slot in TORCH_SLOTS
    ]
    return list(zip(*slots, strict=True))


def torch_mlp_runs(recording, meta):
    """Yield the ten steps of `torch_mlp.npz`."""
    options = options_of("torch", meta["arguments"])
    before = torch_arrays(recording, "initial")
    after = torch_arrays(recording, "final")
    moments = fresh(before, options)
    yield Run("0 to 10", data_of(recording), options, 10, before, moments, after)


def torch_midrun_runs(recording, meta):
    """Yield both runs of `torch_midrun.npz`, from step 0 and from step 30."""
    data = data_of(recording)
    for run, arguments in meta["arguments"].items():
        options = options_of("torch", arguments)
        start, half, end = (
            torch_arrays(recording, f"{run}/params/{at}") for at in (0, 30, 60)
        )
        saved = torch_moments(recording, run, half)
        begun = fresh(start, options)
        yield Run(f"{run} 0 to 60", data, options, 60, start, begun, end)
        yield Run(f"{run} 30 to 60", data, options, 30, half, saved, end)


def keras_moments(recording, run, params, paths):
    """Return (s, m, b) of every parameter at step 30, zeros for a slot not kept."""
    key_of = {path: key for key, path in paths.items()}

    def slot_of(name, slot, like):
        path = f"rm_sprop/sequential_{name.replace('/', '_')}_{slot}"
        if path not in key_of:
            return np.zeros_like(like)
        return recording[f"{run}/optimizer/30/{key_of[path]}"].astype(np.float64)

    return [
        tuple(slot_of(name, slot, p) for slot in KERAS_SLOTS)
        for name, p in zip(KERAS_NAMES, params, strict=True)
    ]


def keras_midrun_runs(recording, meta):
    """Yield both runs of `keras_midrun.npz`, from step 0 and from step 30."""
    data = data_of(recording)
    for run, arguments in meta["arguments"].items():
        options = options_of("keras", arguments)
        start, half, end = (
            [
                recording[f"{run}/params/{at}/sequential/{name}"].astype(np.float64)
                for name in KERAS_NAMES
            ]
            for at in (0, 30, 60)
        )
        saved = keras_moments(recording, run, half, meta["paths"][run])
        begun = fresh(start, options)
        yield Run(f"{run} 0 to 60", data, options, 60, start, begun, end)
        yield Run(f"{run} 30 to 60", data, options, 30, half, saved, end)


RECORDINGS = {
    "torch_mlp": torch_mlp_runs,
    "torch_midrun": torch_midrun_runs,
    "keras_midrun": keras_midrun_runs,
}


def main():
    """Print every parameter of every run; return how many exceed the tolerance."""
    failures = 0
    for name, runs_of in RECORDINGS.items():
        print(name)
        recording = np.load(FOLDER / f"{name}.npz")
        for run in runs_of(recording, json.loads(str(recording["meta"]))):
            visited = train(run)
            for index, after in enumerate(run.after):
                path = np.stack([params[index].ravel() for params in visited])
                difference = np.abs(after.ravel() - path[-1]).max()
                difference /= distance_moved(path)
                # Written this way round, a NaN counts as a failure.
                failed = not difference <= TOLERANCE
                failures += failed
                mark = "FAILED" if failed else ""
                print(f"  {difference:8.1e} {mark:6} {run.label} parameter {index}")
    return failures


if __name__ == "__main__":
    sys.exit(bool(main()))
