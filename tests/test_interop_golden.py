"""Every rule that `interop` knows, handed over half way in both directions.

The recorded gradients do not depend on the parameters, so an error does not grow. The
half that is the framework's is replayed in NumPy, by the rule that equals its recording
to 4e-15 of the distance moved.
"""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from midrun import GOLDEN, rules

from rmsprop_jax import dialects
from rmsprop_jax.interop import keras, torch

FROM_TORCH = {"layer.weight": ("kernel", "(o i) -> i o", {"o": 2})}
FROM_KERAS = {"layer/kernel": ("kernel", "(o i) -> i o", {"o": 2})}
DIALECTS = ("torch", "timm", "keras")  # Stable-Baselines3 saves as torch does
RATES = np.load(GOLDEN / "torch.npz")["learning_rates"]


def cases():
    """One 64-bit case for each combination of what a checkpoint depends on."""
    chosen = {}
    for dialect in DIALECTS:
        recording = np.load(GOLDEN / f"{dialect}.npz")
        for name, case in json.loads(str(recording["meta"]))["cases"].items():
            if case["dtype"] in ("float64", "complex128") and not case["split"]:
                options = rules.options_of(dialect, case["arguments"])
                keys = ("momentum", "centered", "lr_in_momentum", "maximize")
                kind = (dialect, case["dtype"], *(options[key] for key in keys))
                chosen[kind] = pytest.param(dialect, name, case["arguments"])
    return list(chosen.values())


def replay(rows, p, moments, gradients, options):
    """Run the rule of a framework over some rows of the gradients."""
    for g, rate in zip(gradients[rows], RATES[rows], strict=True):
        p, moments = rules.step(p, moments, g, rate, options)
    return p, moments


def joined(x, like):
    """Undo `rules.as_real`."""
    size = len(x) // 2
    return x[:size] + 1j * x[size:] if np.iscomplexobj(like) else x


def to_ours(dialect, kept, options, template):
    """Import moments that a framework would have saved."""
    s, m, b = kept
    if dialect == "keras":
        slots = {"velocity": s}
        slots |= {"average_gradient": m} if options["centered"] else {}
        slots |= {"momentum": b} if options["momentum"] else {}
        saved = {f"rmsprop/layer_kernel_{slot}": x for slot, x in slots.items()}
        saved["rmsprop/iteration"] = 30
        return keras.from_variables(saved, template, FROM_KERAS)
    slots = {"step": np.float32(30), "square_avg": s}
    slots |= {"grad_avg": m} if options["centered"] else {}
    slots |= {"momentum_buffer": b} if options["momentum"] else {}
    saved = {"state": {0: slots}, "param_groups": [group(options)]}
    return torch.from_state_dict(saved, template, FROM_TORCH, names=["layer.weight"])


def from_ours(dialect, state, options):
    """Export a state; give s, m and b, zeros for what is not kept."""
    if dialect == "keras":
        slots = ("velocity", "average_gradient", "momentum")
        needed = (True, options["centered"], options["momentum"])
        kept = [slot for slot, on in zip(slots, needed, strict=True) if on]
        paths = [f"rmsprop/layer_kernel_{slot}" for slot in kept]
        saved = keras.to_variables(state, FROM_KERAS, paths)
        saved = {slot: saved[str(i)] for i, slot in enumerate(kept)}
    else:
        slots = ("square_avg", "grad_avg", "momentum_buffer")
        like = {"state": {}, "param_groups": [group(options)]}
        saved = torch.to_state_dict(state, like, FROM_TORCH, names=["layer.weight"])
        saved = saved["state"][0]
    zeros = np.zeros_like(saved[slots[0]])
    return tuple(rules.as_real(saved.get(slot, zeros)) for slot in slots)


def group(options):
    """Give a parameter group, as much of it as is read."""
    keys = ("momentum", "centered", "lr_in_momentum")
    return {"params": [0]} | {key: options[key] for key in keys}


@pytest.mark.parametrize(("dialect", "name", "arguments"), cases())
@pytest.mark.rows(6)
def test_either_half_may_be_ours(x64, dialect, name, arguments):
    recording = np.load(GOLDEN / f"{dialect}.npz")
    suffix = "_complex" if name.startswith("complex") else ""
    start, gradients = recording[f"initial{suffix}"], recording[f"gradients{suffix}"]
    recorded = rules.as_real(recording[f"params/{name}"])
    options, rates = rules.options_of(dialect, arguments), jnp.asarray(RATES)
    rate = "learning_rate" if dialect == "keras" else "lr"
    tx = getattr(dialects, dialect)(**arguments, **{rate: lambda count: rates[count]})

    def one(carry, g):
        params, state = carry
        updates, state = tx.update(g, state, params)
        return (optax.apply_updates(params, updates), state), None

    @jax.jit
    def train(params, state, gradients):
        return jax.lax.scan(one, (params, state), gradients)[0]

    def tree(x):
        return {
            "kernel": jnp.asarray(np.moveaxis(x.reshape(*x.shape[:-1], 2, 4), -1, -2))
        }

    def flat(params):
        return rules.as_real(np.asarray(params["kernel"]).T.ravel())

    first, second = slice(0, 30), slice(30, 60)
    template, args = tx.init(tree(start)), (rules.as_real(gradients), options)
    path = np.stack([rules.as_real(start), *recorded])

    params, state = train(tree(start), template, tree(gradients[first]))
    there, _ = replay(second, flat(params), from_ours(dialect, state, options), *args)
    assert np.max(np.abs(there - path[-1])) <= 1e-12 * rules.distance_moved(path)

    moments = rules.initial_moments(path[0], options)
    p, moments = replay(first, path[0], moments, *args)
    kept = [joined(x, start) for x in moments]
    state = to_ours(dialect, kept, options, template)
    back, _ = train(tree(joined(p, start)), state, tree(gradients[second]))
    assert np.max(np.abs(flat(back) - path[-1])) <= 1e-12 * rules.distance_moved(path)
