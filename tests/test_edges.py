"""Edges of the number lines, and the tools that look for NaN."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rmsprop_jax import master_weights, rmsprop

DTYPES = (jnp.float32, jnp.float16, jnp.bfloat16, jnp.complex64)
every_dtype = pytest.mark.parametrize("dtype", DTYPES)
SATURATES = dict(decay=0.0, eps=1e-36, eps_in_sqrt=False, centered=True)


def all_finite(tree):
    return all(bool(jnp.all(jnp.isfinite(x))) for x in jax.tree.leaves(tree))


@every_dtype
@pytest.mark.parametrize("nesterov", (False, True))
@pytest.mark.parametrize("lr_in_momentum", (False, True))
def test_saturated_updates_and_momentum_add_up_to_finite_ones(
    dtype, nesterov, lr_in_momentum
):
    """The variance of a constant gradient is 0, so its direction is the largest."""
    options = dict(momentum=0.9, nesterov=nesterov, lr_in_momentum=lr_in_momentum)
    tx = rmsprop(1.0, **SATURATES, **options)
    g = jnp.asarray([1e4, -1e4, 0.0]).astype(dtype)
    state = tx.init(g)
    for _ in range(3):
        u, state = tx.update(g, state, g)
        assert all_finite((u, state))
    assert np.sign(u.real).tolist() == [-1, 1, 0]
    b = jax.tree.leaves(state)[-1]
    largest = float(jnp.finfo(b.dtype).max)
    sums = (0.271, 0.271, 0.0)  # of three steps of a tenth of it
    np.testing.assert_allclose(np.abs(b.real) / largest, sums, rtol=1e-5)


@every_dtype
def test_a_rate_above_one_does_not_overflow(dtype):
    tx = rmsprop(100.0, **SATURATES)
    g = jnp.asarray([1e4, 0.0]).astype(dtype)
    u, _ = tx.update(g, tx.init(g), g)
    assert u.real.tolist() == [-float(jnp.finfo(dtype).max), 0.0]


@every_dtype
@pytest.mark.parametrize("nonfinite", ("propagate", "hold"))
def test_no_nan_is_computed_from_finite_gradients(dtype, nonfinite):
    options = dict(centered=True, momentum=0.9, weight_decay=0.1, nonfinite=nonfinite)
    tx = rmsprop(0.1, bias_correction=True, **options)
    g = jnp.asarray([0.0, 1.0, -3.0]).astype(dtype)
    with jax.debug_nans(True), jax.disable_jit():
        u, state = tx.update(g, tx.init(g), g)
    assert all_finite((u, state))


def test_no_nan_is_computed_by_storage_and_master_weights():
    tx = master_weights(rmsprop(0.1, storage="uint8"))
    g = jnp.asarray([0.0, 1.0, -3.0], jnp.bfloat16)
    with jax.debug_nans(True), jax.disable_jit():
        u, _ = tx.update(g, tx.init(g), g)
    assert all_finite(u)


@every_dtype
@pytest.mark.parametrize("part", (1, 1j))
@pytest.mark.parametrize("value", (np.inf, -np.inf, np.nan))
@pytest.mark.parametrize("centered", (False, True))
def test_what_is_not_finite_shows_in_update_and_moments(dtype, part, value, centered):
    is_complex = jnp.issubdtype(dtype, jnp.complexfloating)
    if part == 1j and not is_complex:
        pytest.skip("a real gradient has no imaginary part")
    g = complex(value, 1) if part == 1 else complex(1, value)
    g = jnp.asarray([g if is_complex else value, 1.0]).astype(dtype)
    tx = rmsprop(0.1, centered=centered, momentum=0.9)
    for x in jax.tree.leaves(tx.update(g, tx.init(g), g)):
        if not x.ndim:
            continue  # a count
        assert jnp.isnan(x).tolist() == [True, False]


@pytest.mark.parametrize("bias_correction", (False, True))
def test_the_root_of_an_underflowed_square_is_that_of_the_first_step(bias_correction):
    """|g|**2 is 0 in float32, and u is sign(g) over the root of (1-decay)/W."""
    tx = rmsprop(1.0, 0.9, 0.0, eps_in_sqrt=False, bias_correction=bias_correction)
    g = jnp.asarray([1e-25, -1e-25, 0.0])
    u, _ = tx.update(g, tx.init(g), g)
    root = 1.0 if bias_correction else 0.1**0.5
    np.testing.assert_allclose(u, np.asarray([-1, 1, 0]) / root, rtol=1e-6)
