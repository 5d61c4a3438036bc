"""The programs that the project grew from."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import distance, run

from rmsprop_jax import rmsprop

AIRFOIL = Path(__file__).parents[2] / "shared" / "data" / "airfoil_self_noise.dat"


def descend(tx, gradient, params, steps):
    def step(carry, _):
        p, state = carry
        updates, state = tx.update(gradient(p), state, p)
        p = optax.apply_updates(p, updates)
        return (p, state), p

    _, path = jax.lax.scan(step, (params, tx.init(params)), length=steps)
    return path


def test_d2l_two_dimensional_trace():
    """f = 0.1 x1^2 + 2 x2^2 from (-5, -2): Dive into Deep Learning, 12.8."""
    gradient = jax.grad(lambda x: 0.1 * x[0] ** 2 + 2 * x[1] ** 2)
    tx = rmsprop(0.4, decay=0.9, eps=1e-6)
    path = descend(tx, gradient, jnp.asarray([-5.0, -2.0]), 20)
    np.testing.assert_allclose(path[-1], [-0.010599, 0.0], atol=5e-7)


@pytest.mark.skipif(not AIRFOIL.exists(), reason="the data is not beside the checkout")
def test_d2l_linear_regression_on_airfoil_noise():
    """Dive into Deep Learning, 12.8: loss 0.2435 after two epochs."""
    data = np.genfromtxt(AIRFOIL, delimiter="\t", dtype=np.float32)
    data = ((data - data.mean(0)) / data.std(0))[:1500]
    x, y = jnp.asarray(data[:, :-1]), jnp.asarray(data[:, -1])
    rng = np.random.default_rng(0)
    w = jnp.asarray(rng.normal(0, 0.01, x.shape[1]), jnp.float32)
    tx = rmsprop(0.01, decay=0.9, eps=1e-6)

    def loss(params, x, y):
        return jnp.mean((x @ params["w"] + params["b"] - y) ** 2) / 2

    def step(carry, batch):
        params, state = carry
        updates, state = tx.update(jax.grad(loss)(params, *batch), state, params)
        return (optax.apply_updates(params, updates), state), None

    params = {"w": w, "b": jnp.zeros(())}
    carry = (params, tx.init(params))
    for _ in range(2):
        order = rng.permutation(1500).reshape(150, 10)
        carry, _ = jax.lax.scan(step, carry, (x[order], y[order]))
    np.testing.assert_allclose(loss(carry[0], x, y), 0.2435, atol=0.003)


def test_line_through_noisy_points_equals_a_numpy_loop(x64):
    """y = 2x + noise, full batch, 1,000 steps, eps outside the root.

    Near the optimum a step is lr times the sign of the gradient, so two runs that
    differ in one rounding hop on either side of it: the rule is compared on the
    gradients of the NumPy run, and a run of its own by where it ends.
    """
    rng = np.random.default_rng(0)
    x = rng.standard_normal(1000)
    y = 2 * x + 0.1 * rng.standard_normal(1000)

    p, s, want, gradients = np.zeros(2), np.zeros(2), [], []
    for _ in range(1000):
        error = p[0] * x + p[1] - y
        g = 2 * np.array([np.mean(error * x), np.mean(error)])
        s = 0.9 * s + 0.1 * g**2
        p = p - 0.01 * g / (np.sqrt(s) + 1e-8)
        gradients.append(g)
        want.append(p)

    tx = rmsprop(0.01, eps=1e-8, eps_in_sqrt=False)
    path, _ = run(tx, jnp.zeros(2), jnp.asarray(gradients))
    np.testing.assert_allclose(path, want, rtol=0, atol=1e-12 * distance(want, 0))
    gradient = jax.grad(lambda p: jnp.mean((p[0] * x + p[1] - y) ** 2))
    own = descend(tx, gradient, jnp.zeros(2), 1000)
    np.testing.assert_allclose(own[-1], np.polyfit(x, y, 1), atol=0.02)
    np.testing.assert_allclose(want[-1], np.polyfit(x, y, 1), atol=0.02)
