"""Check every recording against its framework's rule, in float64 NumPy.

    python tests/golden/check_rules.py

Prints, for every case, max |difference| / distance moved, where the distance is the sum
over steps of max |p_t - p_(t-1)|, and fails where it exceeds 1e-12 (float64) or 2e-5
(float32). The only module it imports is `problem`.
"""

import json
import sys

import numpy as np
from problem import FOLDER, make_problem

TOLERANCE = {"float32": 2e-5, "complex64": 2e-5, "float64": 1e-12, "complex128": 1e-12}

NO_OPTIONS = {
    "momentum": 0.0,
    "centered": False,
    "weight_decay": 0.0,
    "maximize": False,
    "clipnorm": None,
    "global_clipnorm": None,
    "clipvalue": None,
}
OUT = {"initial_scale": 0.0, "eps_in_sqrt": False, "lr_in_momentum": False}
IN = {"initial_scale": 0.0, "eps_in_sqrt": True, "lr_in_momentum": True}
FROM_ONE = {**IN, "initial_scale": 1.0}

RULES = {
    "torch": {**OUT, "decay": 0.99, "eps": 1e-8},
    "timm": {**FROM_ONE, "decay": 0.9, "eps": 1e-10, "decoupled": False},
    "stable_baselines3": {
        **FROM_ONE,
        "decay": 0.99,
        "eps": 1e-8,
        "lr_in_momentum": False,
    },
    "keras": {**IN, "decay": 0.9, "eps": 1e-7, "decoupled": True},
    "keras_legacy": {**IN, "decay": 0.9, "eps": 1e-7, "eps_in_sqrt": None},
    "tensorflow1": {**FROM_ONE, "decay": 0.9, "eps": 1e-10},
    "jax_example_libraries": {**IN, "decay": 0.9, "eps": 1e-8},
    "sonnet": {**IN, "decay": 0.9, "eps": 1e-10},
    "flax_legacy": {**OUT, "decay": 0.9, "eps": 1e-8},
    "bitsandbytes": {**OUT, "decay": 0.99, "eps": 1e-8},
    "mlx": {**OUT, "decay": 0.99, "eps": 1e-8},
    "paddle": {**IN, "decay": 0.95, "eps": 1e-6},
}

OUR_NAME = {
    "alpha": "decay",
    "rho": "decay",
    "gamma": "decay",
    "beta2": "decay",
    "epsilon": "eps",
    "lr": "learning_rate",
    "decoupled_decay": "decoupled",
}


def options_of(dialect, arguments):
    """Return every option of the rule, the framework's defaults filled in."""
    options = {**NO_OPTIONS, "decoupled": False, **RULES[dialect]}
    options.update({OUR_NAME.get(key, key): value for key, value in arguments.items()})
    options["weight_decay"] = options["weight_decay"] or 0.0
    if dialect == "bitsandbytes":
        options["momentum"] = 0.0
    if options["eps_in_sqrt"] is None:
        options["eps_in_sqrt"] = options["momentum"] > 0
    return options


def clip(gradient, options, split):
    """Return the gradient clipped as Keras does: by variable, by all, or by value."""
    if options["clipvalue"] is not None:
        return np.clip(gradient, -options["clipvalue"], options["clipvalue"])
    largest, parts = options["clipnorm"], np.split(gradient, split)
    if options["global_clipnorm"] is not None:
        largest, parts = options["global_clipnorm"], [gradient]
    if largest is None:
        return gradient
    norms = [np.sqrt(np.sum(part**2)) for part in parts]
    return np.concatenate(
        [
            part * largest / max(norm, largest)
            for part, norm in zip(parts, norms, strict=True)
        ]
    )


def initial_moments(p, options):
    """Return (s, m, b) before the first step."""
    s = np.full_like(p, options["initial_scale"])
    return s, np.zeros_like(p), np.zeros_like(p)


def step(p, moments, g, lr, options):
    """Return the parameters and (s, m, b) after one step of the rule."""
    s, m, b = moments
    decay, eps = options["decay"], options["eps"]
    if options["maximize"]:
        g = -g
    if options["decoupled"]:
        p = p - lr * options["weight_decay"] * p
    else:
        g = g + options["weight_decay"] * p
    s = decay * s + (1 - decay) * g**2
    v = s
    if options["centered"]:
        m = decay * m + (1 - decay) * g
        v = s - m**2
    u = g / (np.sqrt(v + eps) if options["eps_in_sqrt"] else np.sqrt(v) + eps)
    if options["lr_in_momentum"]:
        b = options["momentum"] * b + lr * u
        p = p - b
    else:
        b = options["momentum"] * b + u
        p = p - lr * b
    return p, (s, m, b)


def trajectory(gradients, initial, learning_rates, options, split):
    """Return the parameters after each step of the rule; all arrays are float64."""
    p, moments = initial, initial_moments(initial, options)
    visited = []
    for g, lr in zip(gradients, learning_rates, strict=True):
        p, moments = step(p, moments, clip(g, options, split), lr, options)
        visited.append(p)
    return np.stack(visited)


def as_real(array):
    """Return complex numbers as twice as many real ones."""
    array = np.asarray(array)
    if np.iscomplexobj(array):
        return np.concatenate([array.real, array.imag], axis=-1).astype(np.float64)
    return array.astype(np.float64)


def distance_moved(path):
    """Return the sum over steps of max |p_t - p_(t-1)|."""
    return np.abs(np.diff(path, axis=0)).max(axis=1).sum()


def check(dialect):
    """Yield (case id, relative difference, tolerance) for one recording."""
    with np.load(FOLDER / f"{dialect}.npz") as recording:
        for name, case in json.loads(str(recording["meta"]))["cases"].items():
            problem = make_problem(case["dtype"])
            suffix = "_complex" if np.dtype(case["dtype"]).kind == "c" else ""
            for field in ("gradients", "initial"):
                stored = recording[field + suffix]
                if not np.array_equal(stored, getattr(problem, field)):
                    raise ValueError(f"`{dialect}.npz` has other {field + suffix}.")
            initial = as_real(problem.initial)
            expected = trajectory(
                as_real(problem.gradients),
                initial,
                recording["learning_rates"],
                options_of(dialect, case["arguments"]),
                case["split"],
            )
            recorded = as_real(recording[f"params/{name}"])
            difference = np.abs(recorded - expected).max()
            distance = distance_moved(np.stack([initial, *expected]))
            yield name, difference / distance, TOLERANCE[case["dtype"]]


def main():
    """Print every case; return how many exceed their tolerance."""
    failures = 0
    for dialect in RULES:
        print(dialect)
        for name, difference, tolerance in check(dialect):
            # Written this way round, a NaN counts as a failure.
            failed = not difference <= tolerance
            failures += failed
            print(f"  {difference:8.1e} {'FAILED' if failed else '':6} {name}")
    return failures


if __name__ == "__main__":
    sys.exit(bool(main()))
