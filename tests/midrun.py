"""The recorded runs of PyTorch and Keras that stop half way, and their network."""

import functools
import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from cases import distance

GOLDEN = Path(__file__).parent / "golden"
sys.path.append(str(GOLDEN))

import check_networks  # noqa: E402
import check_rules as rules  # noqa: E402

RUNS = ("plain", "momentum_centered")
TORCH_NAMES = ("0.weight", "0.bias", "2.weight", "2.bias")
TORCH_MODULES = {"hidden": "0", "output": "2"}
ZEROS = {
    "hidden": {"kernel": jnp.zeros((10, 50)), "bias": jnp.zeros(50)},
    "output": {"kernel": jnp.zeros((50, 1)), "bias": jnp.zeros(1)},
}


@functools.cache
def recording(framework):
    """Return the arrays of a run that was recorded at half time, and its meta data."""
    arrays = dict(np.load(GOLDEN / f"{framework}_midrun.npz"))
    return arrays, json.loads(str(arrays.pop("meta")))


def below(framework, prefix):
    """Return the recorded arrays whose names start with `prefix/`."""
    arrays, _ = recording(framework)
    cut = len(prefix) + 1
    return {key[cut:]: x for key, x in arrays.items() if key.startswith(f"{prefix}/")}


def torch_state_dict(run, step):
    """Return `optimizer.state_dict()` of a step, with arrays for tensors."""
    _, meta = recording("torch")
    state = {number: {} for number in range(len(TORCH_NAMES))}
    for key, x in below("torch", f"{run}/state/{step}").items():
        name, slot = key.split("/")
        state[TORCH_NAMES.index(name)][slot] = x
    return {"state": state, "param_groups": meta["param_groups"][run]}


def loss(params, inputs, targets):
    """Compute the mean squared error of the network 10-50-1."""
    hidden, output = params["hidden"], params["output"]
    x = jax.nn.relu(inputs @ hidden["kernel"] + hidden["bias"][None])
    x = x @ output["kernel"] + output["bias"][None]
    return jnp.mean((x - targets) ** 2)


@functools.cache
def stepper(framework, tx):
    """Return a jitted step on the recorded data."""
    arrays, _ = recording(framework)
    inputs, targets = jnp.asarray(arrays["inputs"]), jnp.asarray(arrays["targets"])

    @jax.jit
    def step(params, state):
        gradients = jax.grad(loss)(params, inputs, targets)
        updates, state = tx.update(gradients, state, params)
        return optax.apply_updates(params, updates), state

    return step


def train(framework, tx, params, state, steps=30):
    """Train in JAX on the recorded data; return parameters, state and path."""
    step, visited = stepper(framework, tx), [params]
    for _ in range(steps):
        params, state = step(params, state)
        visited.append(params)
    return params, state, visited


def error(visited, want):
    """Return the largest difference from `want` of any parameter, over its way."""
    errors = []
    for path, goal in zip(
        zip(*map(jax.tree.leaves, visited), strict=True),
        jax.tree.leaves(want),
        strict=True,
    ):
        difference = np.max(np.abs(np.asarray(path[-1]) - np.asarray(goal)))
        errors.append(difference / distance(path[1:], path[0]))
    return max(errors)


def replay(framework, run, params, moments):
    """Train from step 30 to 60 in float64 NumPy, by the rule of the framework.

    `params` and `moments` (s, m and b, zeros for what is not kept) hold one array a
    layer, kernels as (inputs, outputs). Returns all parameters that were visited.
    """
    arrays, meta = recording(framework)
    options = rules.options_of(framework, meta["arguments"][run])
    data = [arrays[key].astype(np.float64) for key in ("inputs", "targets")]
    moments = [[np.asarray(x, np.float64) for x in kept] for kept in moments]
    params = [x.astype(np.float64) for x in params]
    steps = check_networks.Run(run, data, options, 30, params, moments, after=[])
    return check_networks.train(steps)
