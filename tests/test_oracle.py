"""Every option combination against float64 NumPy written from the equations."""

import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from cases import CHAINS, RULES, distance, gradients, name, run_all

from rmsprop_jax import rmsprop, scale_by_rmsprop


def schedule(count):
    return 0.02 * 0.95 ** jnp.asarray(count, float)


def compare(dtype, variants, tolerance):
    """Run all variants in one compiled step, and each against the oracle."""
    complex_ = np.issubdtype(dtype, np.complexfloating)
    g = gradients(steps=30, dtype=dtype, shape=(5,))
    start = np.linspace(-1, 1, 5) * (1 + 0.5j if complex_ else 1)
    start = start.astype(np.complex64 if complex_ else np.float32).astype(dtype)
    variants = [dict(dict(decay=0.9, eps=1e-3), **options) for options in variants]
    txs = [rmsprop(schedule, **options) for options in variants]
    paths, _ = run_all(txs, jnp.asarray(start), jnp.asarray(g))
    for options, got in zip(variants, paths, strict=True):
        want = oracle.rmsprop(start, g, schedule, **options)
        error = max(np.max(np.abs(a - b)) for a, b in zip(want, got, strict=True))
        assert error <= tolerance * distance(want, start), options


@pytest.mark.parametrize("rule", RULES, ids=name)
@pytest.mark.rows(2)
def test_float64_equals_the_equations(x64, rule):
    compare(np.float64, [{**rule, **chain} for chain in CHAINS], 1e-12)


@pytest.mark.parametrize("rule", RULES, ids=name)
@pytest.mark.rows(4)
def test_every_decay_equals_the_equations(x64, rule):
    decays = (0.0, 0.5, 0.99, 0.999)
    compare(np.float64, [dict(rule, decay=decay) for decay in decays], 1e-12)


def test_float32_equals_the_equations():
    compare(np.float32, [dict(rule, momentum=0.9) for rule in RULES], 2e-5)


def test_float32_chains_equal_the_equations():
    compare(np.float32, CHAINS, 2e-5)


def test_complex_equals_the_equations(x64):
    chain = dict(momentum=0.9, weight_decay=0.01)
    compare(np.complex128, [{**rule, **chain} for rule in RULES], 1e-12)


@pytest.mark.parametrize("rule", RULES, ids=name)
@pytest.mark.rows(4)
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
