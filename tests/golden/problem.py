"""The problem that every framework solves, and how a recording is written.

Gradients are fixed in advance and do not depend on the parameters, so a difference
between two frameworks is a difference between their rules and nothing else. All
numbers are representable in float32: a float32 and a float64 run see the same ones.
"""

import datetime
import itertools
import json
import platform
from pathlib import Path
from typing import NamedTuple

import numpy as np

STEPS = 60
MAGNITUDES = np.array([0.0, 10.0, 1e-3, 0.3, 1.0, 0.03, 3.0, 0.01])
MEANS = np.array([0.0, 0.8, 0.8, 0.0, -0.6, 0.0, 0.0, 0.5])
FOLDER = Path(__file__).parent


class Problem(NamedTuple):
    """Gradients (60, 8), initial parameters (8,) and learning rates (60,)."""

    gradients: np.ndarray
    initial: np.ndarray
    learning_rates: np.ndarray


class Case(NamedTuple):
    """One run: a dtype and the arguments that the framework's optimizer was given.

    `split` cuts the eight coordinates into several variables, as in `np.split`.
    """

    dtype: str
    arguments: dict
    note: str = ""
    split: tuple = ()

    def name(self):
        """Return an id such as `float32-alpha=0.9-centered=True`."""
        options = [
            f"{key}={value:g}" if isinstance(value, float) else f"{key}={value}"
            for key, value in self.arguments.items()
        ]
        return "-".join([self.dtype, *(options or ["defaults"])])


def float32_values(array):
    """Return the float64 array of the nearest float32 (or complex64) values."""
    array = np.asarray(array)
    if np.iscomplexobj(array):
        return array.astype(np.complex64).astype(np.complex128)
    return array.astype(np.float32).astype(np.float64)


def float32_value(number):
    """Return the Python float that float32 holds when it is given `number`.

    For frameworks that round their hyperparameters to float32 even in a float64 run.
    """
    return float(np.float32(number))


def make_problem(dtype="float64"):
    """Return the problem in `dtype`, which may be complex.

    Coordinate 0 never has a gradient and steps 10 to 14 have none at all. Where the
    mean is not zero it is smaller than the noise, so centering matters and the variance
    stays far from zero.
    """
    rng = np.random.default_rng(0)

    def draw():
        initial = rng.normal(size=MAGNITUDES.size)
        noise = rng.normal(size=(STEPS, MAGNITUDES.size))
        gradients = MAGNITUDES * (MEANS + noise)
        gradients[10:15] = 0.0
        return gradients, initial

    gradients, initial = draw()
    if np.dtype(dtype).kind == "c":
        imaginary_gradients, imaginary_initial = draw()
        gradients = gradients + 1j * imaginary_gradients
        initial = initial + 1j * imaginary_initial
    return Problem(
        float32_values(gradients).astype(dtype),
        float32_values(initial).astype(dtype),
        float32_values(0.01 * 0.95 ** np.arange(STEPS)),
    )


def grid(dtypes=("float32", "float64"), note="", split=(), **choices):
    """Return a case for every dtype and every combination of the choices."""
    return [
        Case(dtype, dict(zip(choices, values, strict=True)), note, split)
        for dtype in dtypes
        for values in itertools.product(*choices.values())
    ]


def record(dialect, *, framework, version, source, cases, run):
    """Run every case and write `<dialect>.npz` beside this file.

    `run` is called with a `Problem` in the case's dtype and the `Case`; it returns the
    parameters after every step, stacked to the shape of the gradients.
    """
    arrays = dict(make_problem()._asdict())
    if any(np.dtype(case.dtype).kind == "c" for case in cases):
        complex_problem = make_problem("complex128")
        arrays["gradients_complex"] = complex_problem.gradients
        arrays["initial_complex"] = complex_problem.initial
    described = {}
    for case in cases:
        problem = make_problem(case.dtype)
        params = np.asarray(run(problem, case))
        if params.shape != problem.gradients.shape or params.dtype != case.dtype:
            raise ValueError(
                f"`{dialect}` case {case.name()}: expected {case.dtype} "
                f"{problem.gradients.shape}, got {params.dtype} {params.shape}."
            )
        arrays[f"params/{case.name()}"] = params
        described[case.name()] = {
            "dtype": case.dtype,
            "arguments": case.arguments,
            "note": case.note,
            "split": case.split,
        }
    save(
        dialect,
        arrays,
        framework=framework,
        version=version,
        source=source,
        executed=True,
        cases=described,
    )


def save(name, arrays, **meta):
    """Write the arrays to `<name>.npz`, with `meta` as one JSON string."""
    meta["python"] = platform.python_version()
    meta["date"] = datetime.date.today().isoformat()
    path = FOLDER / f"{name}.npz"
    np.savez_compressed(path, meta=np.array(json.dumps(meta)), **arrays)
    print(f"{path.name}: {len(arrays)} arrays, {path.stat().st_size} bytes")
