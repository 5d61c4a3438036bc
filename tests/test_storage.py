"""The laws of a storage format, one test each, over every format; and its dither."""

import inspect
import pickle

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import RULES, gradients, name, run_all
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from rmsprop_jax import (
    BFloat16,
    Float32,
    Format,
    RMSPropState,
    UInt8,
    dialects,
    rmsprop,
    scale_by_rmsprop,
)
from rmsprop_jax._arguments import Call
from rmsprop_jax._dither import Dither
from rmsprop_jax._storage import FORMATS, decoded_dtype, encoded, nearest
from rmsprop_jax.dialects._dialect import DIALECTS

BYTES = {"float32": 4, "bfloat16": 2, "uint8": 1}
NARROW = ("bfloat16", "uint8")
ALL_BITS = (0, 1 << 31, 2**32 - 1)
every_format = pytest.mark.parametrize(
    "format_", [*FORMATS.values(), UInt8(min_exponent=-60)], ids=str
)
every_narrow = pytest.mark.parametrize("storage", NARROW)


def codes(format_):
    """Give every stored value, or many; none is NaN."""
    if isinstance(format_, UInt8):
        return jnp.arange(256, dtype=jnp.uint8)
    patterns = np.arange(2**16, dtype=np.uint16)
    stored = jax.lax.bitcast_convert_type(jnp.asarray(patterns), jnp.bfloat16)
    stored = stored[~jnp.isnan(stored)]
    return stored if isinstance(format_, BFloat16) else stored.astype(jnp.float32)


def range_of(format_):
    """Give the exponents that a format has in full."""
    if isinstance(format_, UInt8):  # and some binades below the smallest code
        return format_.min_exponent - 9, format_.min_exponent + 63
    return -125, 127


def test_every_format_is_one():
    assert set(FORMATS) == set(BYTES)
    for format_ in FORMATS.values():
        assert isinstance(format_, Format)
        assert hash(format_) == hash(type(format_)())


@every_format
@pytest.mark.parametrize("dtype", (jnp.float16, jnp.bfloat16, jnp.float32))
def test_the_stored_array_has_the_shape_and_its_own_dtype(format_, dtype):
    for shape in ((), (0,), (3, 2)):
        like = jnp.zeros(shape, dtype)
        stored = format_.init(like, 1.0, jnp.float32)
        x = format_.decode(stored)
        again = encoded(format_, x, Dither(0, jnp.zeros((), jnp.int32), "s", 0))
        assert stored.shape == x.shape == again.shape == shape
        assert x.dtype == jnp.float32
        assert stored.dtype == again.dtype
        chex.assert_trees_all_equal(x, jnp.ones(shape))


@pytest.mark.parametrize("storage", FORMATS)
def test_bytes_of_s_are_exact(storage):
    params = {"a": jnp.ones((7, 5)), "b": jnp.ones(3, jnp.bfloat16)}
    state = scale_by_rmsprop(storage=storage).init(params)
    kept = sum(x.nbytes for x in jax.tree.leaves(state.s))
    assert kept == BYTES[storage] * (35 + 3)


@every_format
@pytest.mark.parametrize("bits", ALL_BITS)
def test_zero_is_exact(format_, bits):
    stored = format_.encode(jnp.asarray([0.0, -0.0]), jnp.uint32(bits))
    chex.assert_trees_all_equal(format_.decode(stored), jnp.zeros(2))
    chex.assert_trees_all_equal(
        format_.decode(format_.init(jnp.ones(2), 0.0, jnp.float32)), jnp.zeros(2)
    )


@every_format
@pytest.mark.parametrize("bits", ALL_BITS)
def test_what_was_stored_is_stored_unchanged(format_, bits):
    """All 256 codes, and all values of bfloat16, whatever the random bits."""
    stored = codes(format_)
    again = format_.encode(format_.decode(stored), jnp.uint32(bits))
    assert np.asarray(again).tobytes() == np.asarray(stored).tobytes()


def test_the_values_of_uint8():
    x = np.asarray(UInt8().decode(jnp.arange(256, dtype=jnp.uint8)), float)
    code = np.arange(1, 256)
    want = (1 + code % 4 / 4) * 2.0 ** (code // 4 - 47)
    np.testing.assert_array_equal(x, [0, *want])
    assert 8.8e-15 < x[1] < 9e-15
    assert 1.1e5 < x[255] < 1.2e5


@every_format
@pytest.mark.parametrize("bits", ALL_BITS)
def test_encode_is_monotone(format_, bits):
    rng = np.random.default_rng(0)
    x = np.sort(2.0 ** rng.uniform(-126, 127, 20_000)).astype(np.float32)
    if format_.signed:
        x = np.concatenate([-x[::-1], x])
    kept = format_.decode(format_.encode(jnp.asarray(x), jnp.uint32(bits)))
    assert bool(jnp.all(jnp.diff(kept) >= 0))


@pytest.mark.parametrize("format_", [BFloat16(), UInt8(), UInt8(-60)], ids=str)
def test_what_is_rounded_once_is_rounded_to_nearest(format_):
    low, high = range_of(format_)
    rng = np.random.default_rng(2)
    x = np.ldexp(rng.uniform(1, 2, 1000), rng.integers(low + 1, high, 1000))
    wide = jnp.asarray(x, jnp.float32)
    below, kept, above = (
        np.asarray(format_.decode(format_.encode(wide, jnp.uint32(random))), float)
        for random in (0, 2**31, 2**32 - 1)
    )
    np.testing.assert_array_equal(format_.decode(nearest(format_, wide)), kept)
    assert np.all(np.abs(kept - x) <= np.minimum(x - below, above - x) * (1 + 1e-4))


@pytest.mark.parametrize("format_", [BFloat16(), UInt8(), UInt8(-60)], ids=str)
def test_rounding_is_unbiased(format_):
    """100,000 encodings of 1,000 values: each mean within 4 standard errors.

    Of two neighbours the upper must come up as often as its distance says; at every
    binade of the range, in its middle and near both of its ends.
    """
    rng = np.random.default_rng(1)
    low, high = range_of(format_)
    exponents = np.resize(np.arange(low, high), 1000)
    places = np.resize([0.5, 0.01, 0.99, 0.25, 0.7], 1000) + rng.uniform(-0.01, 0.01)
    x = np.ldexp(1 + np.clip(places, 0, 0.999), exponents).astype(np.float32)
    wide = jnp.asarray(x)
    below, above = (
        np.asarray(format_.decode(format_.encode(wide, jnp.uint32(b))), float)
        for b in (0, 2**32 - 1)
    )

    @jax.jit
    def ups(count):
        bits = Dither(7, count, "s", 3).random((1000, 1000))
        kept = format_.decode(format_.encode(jnp.broadcast_to(wide, bits.shape), bits))
        up = kept > jnp.asarray(below, jnp.float32)[None, :]
        return jnp.sum(up, axis=0, dtype=jnp.int32)

    n = 100_000
    share = sum(np.asarray(ups(jnp.int32(k)), int) for k in range(n // 1000)) / n
    want = (x.astype(float) - below) / (above - below)
    errors = (share - want) / np.sqrt(np.maximum(want * (1 - want), 1 / n) / n)
    assert np.all((below <= x) & (x <= above) & (below < above))
    assert np.max(np.abs(errors)) < 4
    # And they are as far apart as chance has them: no value is always rounded well.
    assert 0.9 < np.std(errors) < 1.1


def test_nearest_rounding_is_biased():
    """The law can fail: without random bits the mean is a neighbour."""
    x = jnp.asarray([1.1])
    kept = UInt8().decode(UInt8().encode(x, jnp.uint32(1 << 31)))
    assert abs(float(kept[0]) - 1.1) > 0.05


@pytest.mark.parametrize("bits", ALL_BITS)
def test_uint8_saturates(bits):
    """The ends of the range, and what has no code: to the nearest of two neighbors."""
    format_ = UInt8()
    large = jnp.asarray([1.2e5, 1e10, 3e38, jnp.inf, jnp.nan, -jnp.nan])
    small = jnp.asarray([2.0**-47, 1e-15, 1e-30, 1e-37])
    assert set(np.asarray(format_.encode(large, jnp.uint32(bits)))) == {255}
    found = np.asarray(format_.encode(small, jnp.uint32(bits))).tolist()
    assert found == {0: [0] * 4, 1 << 31: [1, 0, 0, 0], 2**32 - 1: [1] * 4}[bits]


def test_a_moment_below_the_smallest_code_grows_again():
    """From zero, with squares of a 20th of the smallest code, to where it belongs."""
    g = jnp.full(20_000, 2e-8)
    tx = scale_by_rmsprop(0.99, 0.0, storage="uint8")

    @jax.jit
    def end(state):
        step = lambda state, _: (tx.update(g, state)[1], None)  # noqa: E731
        return jax.lax.scan(step, state, length=1500)[0]

    s = UInt8().decode(end(tx.init(g)).s)
    np.testing.assert_allclose(jnp.mean(s), 4e-16, rtol=0.15)


@pytest.mark.parametrize("bits", ALL_BITS)
def test_bfloat16_keeps_nan_and_inf_and_saturates(bits):
    largest = float(jnp.finfo(jnp.bfloat16).max)
    odd = np.asarray([0x7F800001, 0xFF800001, 0x7FFFFFFF, 0xFFFFFFFF], np.uint32)
    nans = jnp.asarray(odd.view(np.float32))
    stored = BFloat16().encode(nans, jnp.uint32(bits))
    assert bool(jnp.all(jnp.isnan(stored)))
    x = jnp.asarray([jnp.inf, -jnp.inf, 3.4e38, -3.4e38])
    kept = BFloat16().decode(BFloat16().encode(x, jnp.uint32(bits)))
    chex.assert_trees_all_equal(
        kept, jnp.asarray([jnp.inf, -jnp.inf, largest, -largest])
    )


def random(seed=0, step=0, slot="s", leaf=0, shape=(64, 1024)):
    return np.asarray(Dither(seed, jnp.int32(step), slot, leaf).random(shape))


def test_dither_differs_for_everything_that_tells_it_apart():
    base = random()
    for other in (
        random(seed=1),
        random(seed=-1),
        random(step=1),
        random(slot="m"),
        random(leaf=1),
        random(seed=1, step=-1),
    ):
        equal = np.mean(base == other)
        assert equal < 1e-3
        assert abs(correlation(base, other)) < 5 / np.sqrt(base.size)
    assert len(np.unique(base)) > 0.999 * base.size


def correlation(a, b):
    a, b = (x.ravel().astype(float) for x in (a, b))
    return np.corrcoef(a, b)[0, 1]


def test_dither_has_no_visible_pattern():
    """Chi-square of the upper 8 bits, and correlations with the next neighbours.

    Over 65,536 elements of 32 steps; lags along the last axis, the first, and steps.
    """
    steps = np.stack([random(step=k) for k in range(32)])
    n = steps.size
    counts = np.bincount((steps >> 24).ravel(), minlength=256)
    chi_square = np.sum((counts - n / 256) ** 2) / (n / 256)
    assert abs(chi_square - 255) < 4 * np.sqrt(2 * 255)
    for lag in (1, 2, 3, 4, 8, 16, 31, 32, 64, 100):
        assert abs(correlation(steps[..., lag:], steps[..., :-lag])) < 5 / np.sqrt(n)
    for lag in (1, 2, 7, 16):
        assert abs(correlation(steps[:, lag:], steps[:, :-lag])) < 5 / np.sqrt(n)
        assert abs(correlation(steps[lag:], steps[:-lag])) < 6 / np.sqrt(n)
    ups = np.unpackbits(steps.view(np.uint8)).reshape(-1, 32).mean(axis=0)
    assert np.max(np.abs(ups - 0.5)) < 5 * 0.5 / np.sqrt(n)


def test_the_checks_of_the_dither_can_fail():
    counter = np.arange(2**16, dtype=np.uint32).reshape(64, 1024) * np.uint32(2**16)
    assert abs(correlation(counter[..., 1:], counter[..., :-1])) > 0.9
    counts = np.bincount((counter >> 24).ravel(), minlength=256)
    n = counter.size
    chi_square = np.sum((counts - n / 256) ** 2) / (n / 256)
    assert abs(chi_square - 255) > 4 * np.sqrt(2 * 255)


@every_narrow
@pytest.mark.rows(1)
def test_dither_is_the_same_on_any_mesh_and_under_jit(storage):
    tx = rmsprop(0.1, centered=True, momentum=0.9, storage=storage)
    params = {"w": jnp.ones((16, 8)), "b": jnp.ones(16)}
    gs = jnp.asarray(gradients(steps=4, shape=(16, 8)), jnp.float32)

    def follow(update, place):
        state = jax.tree.map(place, tx.init(params))
        for g in gs:
            u, state = update(jax.tree.map(place, {"w": g, "b": g[:, 0]}), state)
        return jax.tree.map(np.asarray, (u, state))

    alone = follow(jax.jit(tx.update), lambda x: x)
    for shape, axes, spec in (
        ((8,), ("x",), P("x")),
        ((4, 2), ("x", "y"), P("x", "y")),
        ((2, 2, 2), ("x", "y", "z"), P(("x", "z"), "y")),
    ):
        mesh = jax.make_mesh(shape, axes)

        def place(x, mesh=mesh, spec=spec):
            part = P(*spec[: x.ndim])
            return jax.device_put(x, NamedSharding(mesh, part))

        chex.assert_trees_all_equal(follow(jax.jit(tx.update), place), alone)
    eager = follow(tx.update, lambda x: x)
    chex.assert_trees_all_close(eager[0], alone[0], rtol=1e-6)
    same = jax.tree.map(lambda a, b: np.mean(a == b), eager[1], alone[1])
    assert min(jax.tree.leaves(same)) > 0.99  # XLA rounds a fused step otherwise


@every_narrow
def test_dither_under_vmap_is_that_of_each_alone(storage):
    gs = jnp.asarray(gradients(steps=3, shape=(5, 7)), jnp.float32)
    tx = scale_by_rmsprop(storage=storage)

    def follow(gs):
        state = tx.init(gs[0])
        for g in gs:
            _, state = tx.update(g, state)
        return state

    together = jax.jit(jax.vmap(follow, in_axes=1))(gs)
    for k in range(5):
        alone = jax.jit(follow)(gs[:, k])
        chex.assert_trees_all_equal(alone, jax.tree.map(lambda x, k=k: x[k], together))


@every_narrow
@pytest.mark.rows(1)
def test_a_seed_may_be_mapped_over(storage):
    g = jnp.full(4096, 1.1)

    def follow(seed):
        tx = scale_by_rmsprop(storage=storage, seed=seed)
        return tx.update(g, tx.init(g))[1].s

    stored = jax.vmap(follow)(jnp.arange(3))
    assert len({np.asarray(x).tobytes() for x in stored}) == 3
    chex.assert_trees_all_equal(stored[2], follow(2))


@every_narrow
def test_a_restart_repeats_the_run_bit_for_bit(storage):
    tx = rmsprop(0.01, centered=True, momentum=0.9, storage=storage)
    gs = jnp.asarray(gradients(steps=12, shape=(40,)), jnp.float32)
    step = jax.jit(tx.update)
    state = tx.init(gs[0])
    for k, g in enumerate(gs):
        if k == 6:
            kept = pickle.dumps(jax.tree.map(np.asarray, state))
        _, state = step(g, state)
    again = jax.tree.map(jnp.asarray, pickle.loads(kept))
    for g in gs[6:]:
        _, again = step(g, again)
    chex.assert_trees_all_equal(again, state)


@pytest.mark.parametrize("rule", RULES, ids=name)
@pytest.mark.rows(2)
def test_updates_follow_those_of_float32(rule):
    """The mean over 2,000 equal coordinates is that of float32, step after step."""
    gs = jnp.asarray(gradients(steps=30, shape=(3,)), jnp.float32)
    gs = jnp.repeat(gs, 2000, axis=1)
    txs = [
        rmsprop(0.1, 0.9, 1e-6, momentum=0.9, storage=storage, **rule)
        for storage in FORMATS
    ]
    paths, _ = run_all(txs, jnp.zeros(6000), gs)
    want, *others = (
        np.asarray([np.asarray(p).reshape(3, 2000).mean(axis=1) for p in path])
        for path in paths
    )
    # The root of a noisy s is longer by half its variance: 3% with one byte.
    for got, tolerance in zip(others, (0.01, 0.06), strict=True):
        moved = np.sum(np.abs(np.diff(want, axis=0)), axis=0)
        assert np.all(np.abs(got - want) <= tolerance * moved)


@pytest.mark.parametrize("storage", FORMATS)
def test_an_update_uses_s_before_it_is_rounded(storage):
    """With decay 0, s is the square of the gradient, and the update its sign."""
    g = jnp.asarray([0.3, -1.7, 1e-4])
    tx = scale_by_rmsprop(0.0, 0.0, storage=storage)
    state = tx.init(g)
    for _ in range(3):
        u, state = jax.jit(tx.update)(g, state)
        chex.assert_trees_all_close(u, jnp.sign(g), rtol=1e-6)


@every_narrow
def test_the_moving_average_does_not_stall(storage):
    """5,000 steps at decay 0.999, up and down, where nearest rounding stays behind."""
    tx = scale_by_rmsprop(0.999, storage=storage)

    @jax.jit
    def end(state, size):
        def step(state, _):
            return tx.update(jnp.full(4096, size), state)[1], None

        return jax.lax.scan(step, state, length=5000)[0]

    format_ = FORMATS[storage]
    up = end(tx.init(jnp.zeros(4096)), 1.0)
    np.testing.assert_allclose(jnp.mean(format_.decode(up.s)), 0.9933, rtol=0.01)
    down = end(up, 0.1)
    want = 0.9933 * 0.999**5000 + 0.01 * (1 - 0.999**5000)
    np.testing.assert_allclose(jnp.mean(format_.decode(down.s)), want, rtol=0.03)


@every_narrow
@pytest.mark.parametrize("centered", (False, True))
@pytest.mark.parametrize("bad", (jnp.nan, jnp.inf, -jnp.inf))
@pytest.mark.rows(2)
def test_nonfinite_gradients(storage, centered, bad):
    """Where "propagate", NaN shows in the update at once; "hold" loses one."""
    gs = jnp.asarray(gradients(steps=3, shape=(5,)), jnp.float32)
    broken = gs.at[1, 2].set(bad)

    def follow(nonfinite, gs):
        tx = scale_by_rmsprop(centered=centered, storage=storage, nonfinite=nonfinite)
        state, path = tx.init(gs[0]), []
        for g in gs:
            u, state = tx.update(g, state)
            path.append((u, state))
        return path

    shown, held, want = (
        follow("propagate", broken),
        follow("hold", broken),
        follow("hold", gs),
    )
    assert bool(jnp.isnan(shown[1][0][2]))
    others = jnp.asarray([0, 1, 3, 4])
    for a, b, c in zip(shown, held, want, strict=True):
        chex.assert_trees_all_equal(b[0][others], c[0][others])
        chex.assert_trees_all_equal(b[1].s[others], c[1].s[others])
        # Another program, whose roundings may differ in the last place.
        chex.assert_trees_all_close(a[0][others], c[0][others], rtol=0.1)
    assert float(held[1][0][2]) == 0.0
    chex.assert_trees_all_equal(held[1][1].s[2], held[0][1].s[2])
    if centered:
        chex.assert_trees_all_equal(held[1][1].m[2], held[0][1].m[2])


def test_what_is_finite_in_64_bits_stays_so(x64):
    """Real and complex, in the state and on the way to it."""
    bits = jnp.uint32(0xFFFFFFFF)
    for format_ in (BFloat16(), UInt8()):
        kept = format_.decode(format_.encode(jnp.float64(1e300), bits))
        assert np.isfinite(kept) and kept > 1e5
    z = BFloat16().encode(jnp.complex128(1e300 - 1e300j), bits)
    assert z.dtype == jnp.complex64 and np.isfinite(z)
    g = jnp.array([1e300 + 0j, 1e300j, -1e300])
    tx = scale_by_rmsprop(storage="bfloat16")
    u, state = tx.update(g, tx.init(g))
    np.testing.assert_allclose(u, [10**0.5, 10**0.5 * 1j, -(10**0.5)], rtol=1e-6)
    assert np.all(np.isfinite(state.s))


def test_what_is_kept_depends_on_the_precision_of_now(request):
    """What was asked without 64 bits does not decide with them."""
    wide = np.ones(2, np.float64)
    assert decoded_dtype(Call("f"), FORMATS["float32"], wide) == np.float32
    request.getfixturevalue("x64")
    assert decoded_dtype(Call("f"), FORMATS["float32"], wide) == np.float64


@pytest.mark.parametrize("make", (float, np.float64, np.float32))
def test_the_kind_of_a_number_does_not_change_the_state(x64, make):
    """A NumPy float64 is a Python float too, but promotes."""
    p = jnp.ones(3, jnp.float32)
    numbers = dict(decay=0.9, eps=1e-8, momentum=0.9, weight_decay=1e-4)
    tx = rmsprop(make(0.1), **{k: make(v) for k, v in numbers.items()})
    state = tx.init(p)
    u, after = tx.update(p, state, p)
    assert u.dtype == jnp.float32
    chex.assert_trees_all_equal_shapes_and_dtypes(after, state)


@every_narrow
def test_float64_leaves_compute_in_float32_and_saturate(x64, storage):
    g = jnp.asarray([1.0, 1e50, -1e50, 1e-60, jnp.inf])
    tx = scale_by_rmsprop(storage=storage)
    u, state = tx.update(g, tx.init(g))
    assert u.dtype == jnp.float64
    assert state.s.dtype == FORMATS[storage].init(g, 0.0, jnp.float32).dtype
    np.testing.assert_allclose(u[1:3], [10**0.5, -(10**0.5)], rtol=1e-5)
    assert bool(jnp.isnan(u[4]))


@every_narrow
def test_complex_leaves(storage):
    """s is real and narrow; what is complex stays complex64."""
    g = jnp.asarray([1 + 2j, 3 - 1j], jnp.complex64)
    tx = rmsprop(0.1, centered=True, momentum=0.9, storage=storage)
    state = tx.init(g)
    for _ in range(2):
        u, state = tx.update(g, state)
    assert u.dtype == jnp.complex64
    assert state[0].s.dtype == FORMATS[storage].init(1.0, 0.0, jnp.float32).dtype
    assert state[0].m.dtype == state[2].trace.dtype == jnp.complex64


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("storage", FORMATS)
def test_every_dialect_takes_every_format(dialect, storage):
    build = getattr(dialects, dialect)
    required = [
        name
        for name, parameter in inspect.signature(build).parameters.items()
        if parameter.default is parameter.empty
    ]
    tx = build(**dict.fromkeys(required, 0.01), storage=storage)
    params = jnp.ones((3, 2))
    state = tx.init(params)
    u, after = jax.eval_shape(tx.update, params, state, params)
    chex.assert_trees_all_equal_shapes_and_dtypes((u, after), (params, state))
    s = [x.s for x in jax.tree.leaves(state, is_leaf=is_moments) if is_moments(x)]
    assert [x.dtype.itemsize for x in s] == [BYTES[storage]]


def is_moments(node):
    return isinstance(node, RMSPropState)


@every_narrow
def test_signed_buffers_are_bfloat16(storage):
    tx = rmsprop(0.1, centered=True, momentum=0.9, storage=storage)
    state = tx.init(jnp.ones(3))
    assert state[0].m.dtype == state[2].trace.dtype == jnp.bfloat16


@every_narrow
def test_state_keeps_its_type(storage):
    tx = rmsprop(0.1, centered=True, momentum=0.9, weight_decay=0.1, storage=storage)
    for dtype in (jnp.float16, jnp.bfloat16, jnp.float32):
        params = {"a": jnp.ones((3, 2), dtype), "b": jnp.asarray(1.0, dtype)}
        state = tx.init(params)
        u, after = jax.eval_shape(tx.update, params, state, params)
        chex.assert_trees_all_equal_shapes_and_dtypes(u, params)
        chex.assert_trees_all_equal_shapes_and_dtypes(after, state)
        assert not any(x.weak_type for x in jax.tree.leaves(state))


@every_narrow
def test_injected_equals_plain(storage):
    gs = jnp.asarray(gradients(steps=5), jnp.float32)
    options = dict(decay=0.99, eps=1e-6, momentum=0.9, storage=storage, seed=3)
    txs = [
        rmsprop(0.01, **options),
        optax.inject_hyperparams(rmsprop, static_args="seed")(0.01, **options),
        optax.inject_hyperparams(rmsprop)(0.01, **options),
    ]
    (want, *others), (state, *states) = run_all(txs, jnp.ones(7), gs)
    for got, other in zip(others, states, strict=True):
        chex.assert_trees_all_close(got, want, rtol=1e-5)
        chex.assert_trees_all_equal_shapes_and_dtypes(other.inner_state, state)


@every_narrow
@pytest.mark.rows(1)
def test_differentiating_through_is_refused(storage):
    tx = rmsprop(0.1, storage=storage)

    def end(g):
        state = tx.init(g)
        for _ in range(2):
            u, state = tx.update(g, state)
        return jnp.sum(u)

    for transform in (jax.grad, jax.jacfwd, lambda f: jax.jit(jax.grad(f))):
        with pytest.raises(TypeError, match=r"cannot be differen.*storage='float32'"):
            transform(end)(jnp.ones(3))
    # The first update alone depends on no stored value; nothing is differentiated.
    assert np.isfinite(jax.jit(end)(jnp.ones(3)))


def test_what_a_format_cannot_hold_is_refused():
    with pytest.raises(TypeError, match=r"UInt8.encode.*negative.*BFloat16\(\)"):
        UInt8().init(jnp.ones(2, jnp.complex64), 0.0, jnp.complex64)
    with pytest.raises(ValueError, match=r"UInt8\.init.*negative.*-1\.0"):
        UInt8().init(jnp.ones(2), -1.0, jnp.float32)
    for exponent in (-127, 65):
        with pytest.raises(
            ValueError, match=rf"min_exponent.*\[-126, 64\].*{exponent}"
        ):
            UInt8(exponent)
    for storage in ("float8", UInt8):
        with pytest.raises(ValueError, match=r"storage=.*'bfloat16', 'uint8'"):
            rmsprop(0.1, storage=storage)


def test_every_option_is_a_frozen_value():
    assert Float32() == Float32() != BFloat16()
    assert UInt8(-60) != UInt8()
    with pytest.raises(AttributeError):
        UInt8().min_exponent = 0


@pytest.mark.parametrize("made", ("float32", "bfloat16", "uint8"))
@pytest.mark.parametrize("used", ("float32", "bfloat16", "uint8"))
def test_a_state_of_another_storage_is_refused(made, used):
    p = jnp.ones(3)
    options = dict(centered=True, momentum=0.9)
    state = rmsprop(0.1, storage=made, **options).init(p)
    tx = rmsprop(0.1, storage=used, **options)
    if made == used:
        tx.update(p, state)
    else:
        with pytest.raises(ValueError, match=f"is {made}, which .*storage.convert"):
            tx.update(p, state)
