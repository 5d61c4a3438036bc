"""The formats that the studies compare ours with store what their sources store."""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rmsprop_jax
from rmsprop_jax._storage import nearest

STUDIES = Path(__file__).parents[1] / "benchmarks"
if not STUDIES.exists():
    pytest.skip("needs the repository", allow_module_level=True)
sys.path.insert(0, str(STUDIES))
import storage_formats as formats  # noqa: E402


def encoded(name, x):
    return np.asarray(jax.jit(lambda x: nearest(formats.FORMATS[name], x))(x))


@pytest.fixture
def moments():
    return jax.random.uniform(jax.random.key(0), (65, 64)) ** 4


def test_dynamic_map():
    values = formats.dynamic_map()
    assert len(values) == 256 and (np.diff(values) > 0).all()
    np.testing.assert_allclose(values[:3], [0, 3.25e-7, 7.75e-7], rtol=1e-6)
    np.testing.assert_allclose(values[-2:], [1 - 0.45 / 128, 1], rtol=1e-6)


def test_dynamic_is_the_nearest_value(moments):
    blocks = np.zeros(17 * 256, np.float32)
    blocks[: moments.size] = np.ravel(moments)
    blocks = blocks.reshape(17, 256)
    scale = blocks.max(axis=1, keepdims=True)
    far = np.abs(blocks[:, :, None] / scale[:, :, None] - formats.dynamic_map())
    expected = formats.dynamic_map()[far.argmin(axis=2)] * scale
    got = encoded("dynamic block 256", moments)
    np.testing.assert_allclose(got.ravel(), expected.ravel()[: moments.size], rtol=1e-6)


def test_dynamic_leaves_small_arrays(moments):
    small = moments[:63]
    np.testing.assert_array_equal(encoded("dynamic block 256", small), small)


def test_sqrt_keeps_a_scale_of_float16():
    x = np.zeros((2, 32), np.float32)
    x[:, 0] = [0.3, 1e-11]
    x[:, 1] = x[:, 0] * 0.26  # not half way between two steps
    scale = np.sqrt(x[:, 0]).astype(np.float16).astype(np.float32)
    got = encoded("sqrt block 32", jnp.asarray(x))
    np.testing.assert_allclose(got[:, 0], scale**2, rtol=1e-6)
    np.testing.assert_allclose(got[:, 1], (scale * 130 / 255) ** 2, rtol=1e-6)


def test_nearest_bfloat16_is_a_cast(moments):
    got = encoded("bfloat16 nearest", moments)
    cast = np.asarray(moments.astype(jnp.bfloat16))
    pattern = np.asarray(jax.lax.bitcast_convert_type(moments, jnp.uint32))
    tied = pattern % 2**16 == 2**15
    np.testing.assert_array_equal(got[~tied], cast[~tied])


@pytest.mark.parametrize("name", formats.FORMATS)
@pytest.mark.rows(4)
def test_an_optimizer_takes_each(name, moments):
    tx = rmsprop_jax.scale_by_rmsprop(storage=formats.FORMATS[name])
    u, state = jax.jit(tx.update)(moments, tx.init(moments))
    assert state.s.shape == moments.shape and jnp.isfinite(u).all()
