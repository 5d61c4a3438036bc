"""Every option combination against float64 NumPy written from the equations."""

import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from cases import CHAINS, RULES, distance, gradients, name, run

from rmsprop_jax import rmsprop, scale_by_rmsprop


def schedule(count):
    return 0.02 * 0.95 ** jnp.asarray(count, float)


def compare(dtype, rule, chain, tolerance, decay=0.9, eps=1e-3):
    complex_ = np.issubdtype(dtype, np.complexfloating)
    g = gradients(dtype=dtype, shape=(5,))
    start = np.linspace(-1, 1, 5) * (1 + 0.5j if complex_ else 1)
    start = start.astype(np.complex64 if complex_ else np.float32).astype(dtype)
    options = dict(decay=decay, eps=eps, **rule, **chain)
    want = oracle.rmsprop(start, g, schedule, **options)
    got, _ = run(rmsprop(schedule, **options), jnp.asarray(start), jnp.asarray(g))
    error = max(np.max(np.abs(a - b)) for a, b in zip(want, got, strict=True))
    assert error <= tolerance * distance(want, start)


@pytest.mark.parametrize("rule", RULES, ids=name)
@pytest.mark.parametrize("chain", CHAINS, ids=name)
def test_float64_equals_the_equations(x64, rule, chain):
    compare(np.float64, rule, chain, 1e-12)


@pytest.mark.parametrize("decay", (0.0, 0.5, 0.99, 0.999))
@pytest.mark.parametrize("rule", RULES, ids=name)
def test_every_decay_equals_the_equations(x64, rule, decay):
    compare(np.float64, rule, {}, 1e-12, decay=decay)


@pytest.mark.parametrize("rule", RULES, ids=name)
def test_float32_equals_the_equations(rule):
    compare(np.float32, rule, dict(momentum=0.9), 2e-5)


@pytest.mark.parametrize("chain", CHAINS, ids=name)
def test_float32_chains_equal_the_equations(chain):
    compare(np.float32, {}, chain, 2e-5)


@pytest.mark.parametrize("rule", RULES, ids=name)
def test_complex_equals_the_equations(x64, rule):
    compare(np.complex128, rule, dict(momentum=0.9, weight_decay=0.01), 1e-12)


@pytest.mark.parametrize("rule", RULES, ids=name)
def test_centered_s_is_the_variance(x64, rule):
    """`s` and `m` are the moments that the textbook form keeps, at every step."""
    decay, g = 0.9, gradients(dtype=np.float64)
    tx = scale_by_rmsprop(decay, **rule)
    state = tx.init(jnp.zeros(g.shape[1]))
    square, mean = np.full(g.shape[1], rule["initial_scale"]), 0.0
    for k, x in enumerate(g):
        _, state = tx.update(jnp.asarray(x), state)
        square, mean = decay * square + (1 - decay) * x**2, decay * mean + 0.1 * x
        w = 1 - decay ** (k + 1) if rule["bias_correction"] else 1
        want = square - w * (mean / w) ** 2 if rule["centered"] else square
        np.testing.assert_allclose(state.s, want, rtol=1e-11, atol=1e-14 * max(square))
        if rule["centered"]:
            np.testing.assert_allclose(state.m, mean / w, rtol=1e-12, atol=1e-15)
