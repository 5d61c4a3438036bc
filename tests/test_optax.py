"""The same numbers as optax, over all that both can do and optax does well."""

import inspect
import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from absl.testing import parameterized
from cases import RULES, distance, gradients, name, run_all

import rmsprop_jax

MOMENTA = ((None, False), (0.9, False), (0.9, True))


def well_behaved(steps=200):
    """Gradients whose variance stays well above the rounding of their square."""
    rng = np.random.default_rng(1)
    size = 10.0 ** rng.uniform(-3, 1, (2, 3))
    return jnp.asarray(size * rng.standard_normal((steps, 2, 3)), jnp.float32)


@pytest.mark.parametrize("rule", RULES, ids=name)
@pytest.mark.rows(3)
def test_rmsprop_equals_optax(rule):
    """Within float32 rounding of the distance moved in 200 steps.

    eps keeps the first centered step apart: its variance is 0, or rounding in optax.
    """
    gs = well_behaved()
    lr = optax.exponential_decay(0.01, 50, 0.5)
    variants = [dict(momentum=m, nesterov=n, eps=1e-3, **rule) for m, n in MOMENTA]
    start = jnp.linspace(-1, 1, 6).reshape(2, 3)
    if rule["centered"] and rule["bias_correction"]:
        gs = gs.at[0].set(0)
    ours, _ = run_all([rmsprop_jax.rmsprop(lr, **v) for v in variants], start, gs)
    with jax.numpy_dtype_promotion("standard"):
        theirs, _ = run_all([optax.rmsprop(lr, **v) for v in variants], start, gs)
    for a, b in zip(ours, theirs, strict=True):
        chex.assert_trees_all_close(a, b, rtol=0, atol=2e-5 * distance(b, start))


@pytest.mark.parametrize("rule", RULES, ids=name)
@pytest.mark.rows(4)
def test_scale_by_rmsprop_equals_scale_by_rms_and_stddev(rule):
    options = {k: v for k, v in rule.items() if k != "centered"}
    make = optax.scale_by_stddev if rule["centered"] else optax.scale_by_rms
    gs = well_behaved()
    if rule["centered"] and rule["bias_correction"]:
        gs = gs.at[0].set(0)
    tx, peer = rmsprop_jax.scale_by_rmsprop(eps=1e-3, **rule), make(eps=1e-3, **options)
    state, peer_state = tx.init(gs[0]), peer.init(gs[0])
    update, peer_update = jax.jit(tx.update), jax.jit(peer.update)
    for g in gs:
        u, state = update(g, state)
        with jax.numpy_dtype_promotion("standard"):
            v, peer_state = peer_update(g, peer_state)
        chex.assert_trees_all_close(u, v, rtol=2e-3, atol=2e-4)


def test_rmsprop_takes_the_arguments_of_optax():
    """Same names, order and defaults; ours alone are keyword-only."""
    theirs = list(inspect.signature(optax.rmsprop).parameters.values())
    ours = list(inspect.signature(rmsprop_jax.rmsprop).parameters.values())
    shared = ours[: len(theirs)]
    assert [(p.name, p.default) for p in shared] == [
        (p.name, p.default) for p in theirs
    ]
    assert all(p.kind is p.KEYWORD_ONLY for p in ours[len(theirs) :])


class VariantsTest(chex.TestCase, parameterized.TestCase):
    """With and without jit, with and without the device."""

    @chex.variants(with_jit=True, without_jit=True, with_device=True)
    @parameterized.parameters(*itertools.product((False, True), (None, 0.9)))
    def test_variants_agree(self, centered, momentum):
        tx = rmsprop_jax.rmsprop(0.1, centered=centered, momentum=momentum)
        gs = jnp.asarray(gradients(steps=5), jnp.float32)
        update, state, want = self.variant(tx.update), tx.init(gs[0]), tx.init(gs[0])
        for g in gs:
            u, state = update(g, state)
            v, want = tx.update(g, want)
            chex.assert_trees_all_close((u, state), (v, want), rtol=1e-5)
