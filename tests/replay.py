"""The problem of the golden runs, solved by our dialects."""

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

import problem  # noqa: E402
from cases import distance  # noqa: E402

from rmsprop_jax import dialects  # noqa: E402

TOLERANCE = {"float32": 2e-5, "complex64": 2e-5, "float64": 1e-12, "complex128": 1e-12}
RECORDED = sorted(
    path.stem
    for path in GOLDEN.glob("*.npz")
    if not path.stem.endswith(("_midrun", "_mlp"))
)


@functools.cache
def recording(name):
    """Return the arrays of a recording and its description."""
    with np.load(GOLDEN / f"{name}.npz") as file:
        arrays = dict(file)
    return arrays, json.loads(str(arrays.pop("meta")))


def recorded_cases(name):
    """Return the cases of a recording and the paths that were recorded."""
    arrays, meta = recording(name)
    cases = [
        problem.Case(
            case["dtype"], case["arguments"], case["note"], tuple(case["split"])
        )
        for case in meta["cases"].values()
    ]
    return cases, [arrays[f"params/{key}"] for key in meta["cases"]]


def replay(name, cases):
    """Return the path of each case with our dialect, after one compilation for all.

    Cases that differ only in their dtype are leaves of one tree.
    """
    groups = {}
    for case in cases:
        alone = case.dtype if "global_clipnorm" in case.arguments else None
        groups.setdefault((str(case.arguments), alone), []).append(case)
    paths = once(lambda: [_paths(name, group) for group in groups.values()])
    found = {}
    for group, by_dtype in zip(groups.values(), paths, strict=True):
        found |= {case.name(): by_dtype[case.dtype] for case in group}
    return [found[case.name()] for case in cases]


def once(function, *arguments):
    """Compile a function without optimization, which would take longer, and call it."""
    lowered = jax.jit(function).lower(*arguments)
    return lowered.compile({"xla_backend_optimization_level": 0})(*arguments)


def relative_error(case, want, got):
    """Measure the largest difference against the distance moved."""
    assert got.dtype == want.dtype
    start = problem.make_problem(case.dtype).initial
    return np.max(np.abs(np.asarray(got) - want)) / distance(want, start)


def _paths(name, cases):
    arguments = dict(cases[0].arguments)
    if name == "bitsandbytes":
        arguments.pop("momentum", None)  # which bitsandbytes does not use
    rates = jnp.asarray(problem.make_problem().learning_rates)
    tx = getattr(dialects, name)(lambda count: rates[count], **arguments)

    def step(carry, gradients):
        params, state = carry
        updates, state = tx.update(gradients, state, params)
        params = optax.apply_updates(params, updates)
        return (params, state), params

    start, steps = {}, {}
    for case in cases:
        given = problem.make_problem(case.dtype)
        start[case.dtype] = _split(given.initial, case)
        steps[case.dtype] = _split(given.gradients, case)
    _, path = jax.lax.scan(step, (start, tx.init(start)), steps)
    return {dtype: jnp.concatenate(parts, axis=1) for dtype, parts in path.items()}


def _split(array, case):
    return [jnp.asarray(x) for x in np.split(array, case.split, axis=-1)]
