"""The problem of the golden runs, under our dialects."""

import functools
import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

GOLDEN = Path(__file__).parent / "golden"
sys.path.append(str(GOLDEN))

from cases import distance  # noqa: E402
from problem import Case, make_problem  # noqa: E402

from rmsprop_jax import dialects  # noqa: E402

TOLERANCE = {"float32": 2e-5, "complex64": 2e-5, "float64": 1e-12, "complex128": 1e-12}
RECORDED = sorted(
    path.stem
    for path in GOLDEN.glob("*.npz")
    if not path.stem.endswith(("_midrun", "_mlp"))
)


@functools.cache
def recording(name):
    """Give the arrays of a recording and what is said of it."""
    with np.load(GOLDEN / f"{name}.npz") as file:
        arrays = dict(file)
    return arrays, json.loads(str(arrays.pop("meta")))


def recorded_cases(name):
    """Give the cases of a recording and the paths that were recorded."""
    arrays, meta = recording(name)
    cases = [
        Case(case["dtype"], case["arguments"], case["note"], tuple(case["split"]))
        for case in meta["cases"].values()
    ]
    return cases, [arrays[f"params/{key}"] for key in meta["cases"]]


def replay(name, cases):
    """Give the path of each case under our dialect; one compilation for all."""
    return once(lambda: [_path(name, case) for case in cases])


def once(function):
    """Call a function compiled in haste: well takes longer than it then saves."""
    return jax.jit(function).lower().compile({"xla_backend_optimization_level": 0})()


def relative_error(case, want, got):
    """Measure the largest difference against the distance moved."""
    assert got.dtype == want.dtype
    start = make_problem(case.dtype).initial
    return np.max(np.abs(np.asarray(got) - want)) / distance(want, start)


def _path(name, case):
    problem = make_problem(case.dtype)
    rates = jnp.asarray(problem.learning_rates, np.zeros(0, case.dtype).real.dtype)
    arguments = dict(case.arguments)
    if name == "bitsandbytes":
        arguments.pop("momentum", None)  # as bitsandbytes does
    tx = getattr(dialects, name)(lambda count: rates[count], **arguments)

    def step(carry, gradients):
        params, state = carry
        updates, state = tx.update(gradients, state, params)
        params = optax.apply_updates(params, updates)
        return (params, state), params

    start = [jnp.asarray(x) for x in np.split(problem.initial, case.split)]
    steps = [jnp.asarray(x) for x in np.split(problem.gradients, case.split, axis=1)]
    _, path = jax.lax.scan(step, (start, tx.init(start)), steps)
    return jnp.concatenate(path, axis=1)
