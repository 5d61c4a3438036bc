"""The option combinations, trees and gradients that the laws run over."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax

RULES = [
    dict(
        centered=centered,
        eps_in_sqrt=eps_in_sqrt,
        bias_correction=bias_correction,
        initial_scale=initial_scale,
    )
    for centered, eps_in_sqrt, bias_correction, initial_scale in itertools.product(
        (False, True), (True, False), (False, True), (0.0, 1.0)
    )
    if not (bias_correction and initial_scale)
]

CHAINS = [
    dict(momentum=momentum, nesterov=nesterov, lr_in_momentum=lr_in_momentum, **decay)
    for (momentum, nesterov, lr_in_momentum), decay in itertools.product(
        (
            (None, False, True),
            (0.9, False, True),
            (0.9, False, False),
            (0.9, True, True),
            (0.9, True, False),
        ),
        (
            {},
            dict(weight_decay=0.01),
            dict(weight_decay=0.01, decoupled_weight_decay=True),
        ),
    )
]

LOW_PRECISION = (jnp.float16, jnp.bfloat16)
REAL = (*LOW_PRECISION, jnp.float32)


def name(options):
    """Name a case by the options that are not off."""
    return "-".join(f"{k}={v}" for k, v in options.items() if v) or "plain"


def gradients(steps=60, shape=(7,), seed=0, dtype=np.float64):
    """Noisy gradients over four decades, with zeros among them, exact in float32."""
    rng = np.random.default_rng(seed)
    size = 10.0 ** rng.uniform(-3, 1, shape)
    g = size * (rng.standard_normal((steps, *shape)) + 0.3)
    if np.issubdtype(dtype, np.complexfloating):
        g = g + 1j * size * rng.standard_normal((steps, *shape))
        g = g.astype(np.complex64)
    else:
        g = g.astype(np.float32)
    g[:, 0] = 0
    g[10:14] = 0
    return g.astype(dtype)


# Most of the time of these tests would be LLVM's.
quick_jit = functools.partial(
    jax.jit, compiler_options={"xla_backend_optimization_level": 0}
)


def run(tx, params, gradients):
    """Give the parameters after each of the gradients, and the last state."""
    paths, states = run_all([tx], params, gradients)
    return paths[0], states[0]


def run_all(txs, params, gradients):
    """Run several transformations from the same start, in one compiled step."""

    @quick_jit
    def step(ps, states, g):
        moved = []
        for tx, p, state in zip(txs, ps, states, strict=True):
            updates, state = tx.update(g, state, p)
            moved.append((optax.apply_updates(p, updates), state))
        return [p for p, _ in moved], [state for _, state in moved]

    ps, states, paths = [params for _ in txs], [tx.init(params) for tx in txs], []
    for g in gradients:
        ps, states = step(ps, states, g)
        paths.append(ps)
    return [list(path) for path in zip(*paths, strict=True)], states


def distance(path, start):
    """Give the length of a path: what an error is measured against."""
    points = [np.asarray(start), *map(np.asarray, path)]
    return sum(np.max(np.abs(b - a)) for a, b in itertools.pairwise(points))
