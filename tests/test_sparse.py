"""Sparse rows are the dense optimizer's, whichever rows a step touches."""

import dataclasses
import functools
import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import name, quick_jit
from hypothesis import given, settings
from hypothesis import strategies as st

from rmsprop_jax import Format, rmsprop, sparse
from rmsprop_jax._storage import FORMATS
from rmsprop_jax.sparse._float_patterns import FloatPatterns

DECAYED = dict(weight_decay=0.1, decoupled_weight_decay=True)
INSIDE = dict(momentum=0.9)
OUTSIDE = dict(momentum=0.9, lr_in_momentum=False)
NESTEROV = dict(nesterov=True)


def cosine(count):
    return 0.01 * (1 + jnp.cos(count / 40))


# Every way in which idle rows move: nothing, geometric sums with and without weight
# decay, sums of a schedule with and without; each with another rule.
MOTIONS = [
    (0.01, {}),
    (0.01, INSIDE),
    (0.01, OUTSIDE | NESTEROV),
    (0.01, DECAYED),
    (0.01, INSIDE | DECAYED),
    (0.01, OUTSIDE | NESTEROV | DECAYED),
    (cosine, INSIDE | NESTEROV),
    (cosine, OUTSIDE),
    (cosine, DECAYED),
    (cosine, INSIDE | NESTEROV | DECAYED),
    (cosine, OUTSIDE | DECAYED),
]
RULES = [
    dict(),
    dict(centered=True, initial_scale=1.0),
    dict(bias_correction=True, eps_in_sqrt=False),
    dict(centered=True, bias_correction=True),
    dict(centered=True, decay=0.7),
]
CASES = [
    (rate, motion | rule)
    for (rate, motion), rule in zip(MOTIONS, itertools.cycle(RULES), strict=False)
]


def case_name(case):
    return name(case) if isinstance(case, dict) else getattr(case, "__name__", "number")


def zipf(steps, rows=41, batch=9, seed=0):
    """Draw ids with repetitions, most rows seldom, one in ten padding."""
    rng = np.random.default_rng(seed)
    weights = 1 / np.arange(1, rows + 1)
    ids = rng.choice(rows, (steps, batch), p=weights / weights.sum())
    return np.where(rng.random(ids.shape) < 0.1, -3, ids).astype(np.int32)


def draw(ids, dim=3, dtype=np.float64, seed=1):
    """Draw row gradients over four decades."""
    rng = np.random.default_rng(seed)
    size = 10.0 ** rng.uniform(-3, 1, (*ids.shape, 1))
    return (size * rng.standard_normal((*ids.shape, dim))).astype(dtype)


def densely(ids, gradients, rows):
    """Give the gradient of the table."""
    zeros = jnp.zeros((rows, gradients.shape[-1]), gradients.dtype)
    return zeros.at[jnp.where(ids < 0, rows, ids)].add(gradients, mode="drop")


def ends(rate, options, ids, gradients, rows=41):
    """Run dense and sparse; give both ends, the gaps on the way, and the distance."""
    dense, tx = rmsprop(rate, **options), sparse.rmsprop(rate, **options)
    dim, dtype = gradients.shape[-1], gradients.dtype
    start = jnp.asarray(np.random.default_rng(2).standard_normal((rows, dim)), dtype)

    def step(carry, batch):
        want, dense_state, table, state = carry
        ids, g = batch
        read = tx.gather(table, state, ids)
        gap = jnp.where(ids[:, None] < 0, 0.0, read - want[ids])
        u, dense_state = dense.update(densely(ids, g, rows), dense_state, want)
        table, state = tx.update(table, state, ids, g)
        moved = jnp.max(jnp.abs(u))
        return (optax.apply_updates(want, u), dense_state, table, state), (gap, moved)

    carry = (start, dense.init(start), start, tx.init(start))
    batches = (jnp.asarray(ids), jnp.asarray(gradients))
    carry, (gaps, moved) = jax.lax.scan(step, carry, batches)
    want, dense_state, table, state = carry
    table, state = tx.flush(table, state)
    return want, dense_state, table, state, gaps, jnp.sum(moved)


def both(*args, **kwargs):
    *results, distance = quick_jit(lambda: ends(*args, **kwargs))()
    return *results, float(distance)


@pytest.mark.parametrize(("rate", "options"), CASES, ids=case_name)
@pytest.mark.rows(2)
def test_equal_to_dense_in_float64(x64, rate, options):
    """After 1,000 steps, moments too; on the way `gather` reads the dense table."""
    ids = zipf(1000)
    want, dense_state, got, state, gaps, distance = both(rate, options, ids, draw(ids))
    chex.assert_trees_all_close(got, want, rtol=0, atol=1e-12 * distance)
    assert float(jnp.max(jnp.abs(gaps))) <= 1e-12 * distance
    moments = dict(rtol=1e-9, atol=1e-12)
    chex.assert_trees_all_close((state.s, state.m), dense_state[0][1:], **moments)
    if options.get("momentum"):
        trace = next(x.trace for x in dense_state if hasattr(x, "trace"))
        chex.assert_trees_all_close(state.trace, trace, **moments)


@pytest.mark.parametrize("options", (RULES[0], INSIDE | RULES[1]), ids=name)
def test_equal_to_dense_in_float32(options):
    ids = zipf(1000)
    gradients = draw(ids, dtype=np.float32)
    want, _, got, _, _, distance = both(cosine, options, ids, gradients)
    chex.assert_trees_all_close(got, want, rtol=0, atol=1e-6 * distance)


@pytest.mark.parametrize("dtype", (jnp.bfloat16, jnp.complex64))
def test_tables_of_other_dtypes(dtype):
    ids = zipf(60)
    gradients = jnp.asarray(draw(ids)).astype(dtype)
    options = dict(centered=True, momentum=0.9)
    want, _, got, state, _, distance = both(0.01, options, ids, gradients)
    assert got.dtype == dtype
    assert state.s.dtype == jnp.float32
    # A narrow dense table rounds in every step, and so do its gradients.
    atol = 2e-6 if dtype == jnp.complex64 else 10 * float(jnp.finfo(dtype).eps)
    wide = jnp.complex64 if dtype == jnp.complex64 else jnp.float32
    chex.assert_trees_all_close(
        got.astype(wide), want.astype(wide), rtol=0, atol=atol * distance
    )


def test_narrow_moments_of_rows_touched_in_every_step_are_dense_to_the_bit():
    """The bits of a row's rounding are those that it has in the whole table."""
    storage = "bfloat16"  # of s, m and b alike
    ids = np.tile(np.arange(5, dtype=np.int32)[::-1], (30, 1))
    options = dict(storage=storage, centered=True, momentum=0.9, seed=7)
    want, dense_state, got, state, _, distance = both(
        0.01, options, ids, draw(ids, dtype=np.float32), rows=5
    )
    chex.assert_trees_all_close(got, want, rtol=0, atol=2e-6 * distance)
    narrow = {jnp.uint16: jnp.bfloat16}.get(state.s.dtype.type, state.s.dtype)
    assert dense_state[0].s.dtype == narrow
    kept = jax.lax.bitcast_convert_type(state.s, narrow)
    same = jnp.mean((kept == dense_state[0].s).astype(jnp.float32))
    # All but where the sum before the rounding differs in its last bit.
    assert float(same) > 0.9


@pytest.mark.parametrize("storage", ("bfloat16", "uint8"))
@pytest.mark.rows(1)
def test_narrow_moments_equal_dense_in_the_mean(storage):
    """Over seeds: the dense optimizer rounds in idle steps too, without bias."""
    ids = zipf(120, rows=12, batch=2)
    gradients = draw(ids, dtype=np.float32)

    decode, bits = FORMATS[storage].decode, FloatPatterns(FORMATS[storage]).decode

    def noisy(seed):
        options = dict(storage=storage, decay=0.95, seed=seed)
        want, dense_state, got, state, _, _ = ends(0.01, options, ids, gradients, 12)
        return (want, got), (decode(dense_state[0].s), bits(state.s))

    (want, got), moments = quick_jit(jax.vmap(noisy))(jnp.arange(200))
    want_s, got_s = (np.asarray(x, np.float64) for x in moments)
    error = np.sqrt((want_s.var(0) + got_s.var(0)) / len(want_s)) + 1e-12
    assert np.quantile(np.abs(want_s.mean(0) - got_s.mean(0)) / error, 0.95) < 3
    # A table depends on s by a root, so that less noise is less of a bias too.
    exact = np.asarray(both(0.01, dict(decay=0.95), ids, gradients, 12)[0])
    far, near = (
        np.sqrt(np.mean((np.asarray(x) - exact[None]) ** 2)) for x in (want, got)
    )
    assert near < 1.05 * far


@dataclasses.dataclass(frozen=True)
class Single(Format):
    """32 bits, of arrays of 64 bits too."""

    signed = True
    stochastic = False

    def encode(self, x, random):
        return x.astype(jnp.complex64 if jnp.iscomplexobj(x) else jnp.float32)

    def decode(self, stored):
        return stored


@pytest.mark.parametrize("storage", ("bfloat16", "uint8", Single()))
@pytest.mark.parametrize("dtype", (np.float64, np.complex128))
@pytest.mark.parametrize(("rate", "options"), CASES[::3], ids=case_name)
@pytest.mark.rows(2)
def test_what_does_not_move_keeps_its_64_bits(x64, rate, options, dtype, storage):
    """Moments of 32 bits cut no entry to 32 bits, and weight decay is exact."""
    tx = sparse.rmsprop(rate, storage=storage, **options)
    entries = np.asarray([[1 + 1e-10, 1e300], [-1 - 1e-10, -1e300], [np.inf, 0.0]])
    table = jnp.asarray(entries, dtype)
    state, update = tx.init(table), quick_jit(tx.update)
    ids, g = jnp.asarray([1, -1]), jnp.zeros((2, 2), dtype)
    for _ in range(3):
        table, state = update(table, state, ids, g)
    rates = [float(rate(jnp.int32(n))) if callable(rate) else rate for n in range(3)]
    kept = np.prod([1 - x * options.get("weight_decay", 0.0) for x in rates])
    rows = quick_jit(tx.gather)(table, state, jnp.arange(2))
    table, _ = quick_jit(tx.flush)(table, state)
    for got in (rows, table[:2]):
        chex.assert_trees_all_close(got, (kept * entries[:2]).astype(dtype), rtol=1e-13)
    assert table[2, 0].real == np.inf


@pytest.mark.parametrize(("rate", "options"), CASES, ids=case_name)
@pytest.mark.rows(1)
def test_moments_of_32_bits_move_a_table_of_64(x64, rate, options):
    """Far from 0, where a table of 32 bits would be off by 6e-5 in every step."""
    ids = zipf(40)
    batches = jnp.asarray(ids), jnp.asarray(draw(ids))
    table = 1000 + jnp.asarray(np.random.default_rng(2).standard_normal((41, 3)))

    def run(storage):
        tx = sparse.rmsprop(rate, eps=0.01, storage=storage, **options)

        def one(carry, batch):
            return tx.update(*carry, *batch), None

        carry, _ = jax.lax.scan(one, (table, tx.init(table)), batches)
        return tx.flush(*carry)

    got, state = quick_jit(lambda: run(Single()))()
    want, _ = quick_jit(lambda: run("float32"))()
    assert state.s.dtype == jnp.float32 and got.dtype == jnp.float64
    chex.assert_trees_all_close(got, want, rtol=0, atol=5e-6)


def row_wise(table, batches, rate, decay, eps, momentum):
    """Dense row-wise RMSProp: one second moment a row, of the mean square."""
    s, b = np.zeros((len(table), 1)), np.zeros_like(table)
    for g in batches:
        s = decay * s + (1 - decay) * np.mean(g**2, axis=1, keepdims=True)
        b = momentum * b + rate * g / np.sqrt(s + eps)
        table = table - b
    return table


def test_row_wise_equals_its_equation(x64):
    ids = zipf(200)
    gradients = draw(ids, dim=5)
    tx = sparse.rmsprop(0.01, momentum=0.9, row_wise=True)
    table = jnp.asarray(np.random.default_rng(3).standard_normal((41, 5)))
    state = tx.init(table)
    assert state.s.shape == (41,)
    step = quick_jit(tx.update)
    batches = [
        np.asarray(densely(i, g, 41)) for i, g in zip(ids, gradients, strict=True)
    ]
    want = row_wise(np.asarray(table), batches, 0.01, 0.9, 1e-8, 0.9)
    for i, g in zip(ids, gradients, strict=True):
        table, state = step(table, state, jnp.asarray(i), jnp.asarray(g))
    table, _ = tx.flush(table, state)
    chex.assert_trees_all_close(table, want, rtol=0, atol=1e-12)


def test_row_wise_neither_overflows_nor_underflows():
    tx = sparse.rmsprop(0.1, eps=0.0, row_wise=True)
    table = jnp.zeros((3, 2))
    g = jnp.asarray([[1e30, 1e30], [1e-30, 1e-30], [0.0, 0.0]])
    table, _ = quick_jit(tx.update)(table, tx.init(table), jnp.arange(3), g)
    step = -0.1 / np.sqrt(0.1)
    want = jnp.asarray([[step, step], [step, step], [0.0, 0.0]])
    chex.assert_trees_all_close(table, want, rtol=1e-5)


@pytest.mark.parametrize("row", (False, True))
def test_nonfinite_gradients_are_held_or_shown(row):
    table = jnp.ones((4, 2))
    g = jnp.asarray([[jnp.nan, 1.0], [jnp.inf, 1.0], [1.0, 1.0]])
    ids = jnp.arange(3)
    tx = sparse.rmsprop(0.1, nonfinite="hold", row_wise=row)
    held, state = quick_jit(tx.update)(table, tx.init(table), ids, g)
    chex.assert_tree_all_finite((held, state))
    assert bool(jnp.all(held[:2, 0] == 1)) and bool(jnp.all(held[2] < 1))
    assert bool(jnp.all((held[:2, 1] == 1) == row))
    tx = sparse.rmsprop(0.1, row_wise=row)
    shown, state = quick_jit(tx.update)(table, tx.init(table), ids, g)
    assert bool(jnp.all(jnp.isnan(shown[:2, 0])))
    chex.assert_tree_all_finite((shown[2:], state.s[2:]))


patterns = st.lists(
    st.lists(st.integers(-2, 5), min_size=4, max_size=4), min_size=7, max_size=7
)
PATTERN_OPTIONS = dict(momentum=0.8, centered=True, decay=0.6, **DECAYED)


@functools.cache
def pattern_run():
    def run(ids, gradients):
        rate = optax.linear_schedule(0.1, 0.01, 7)
        return ends(rate, PATTERN_OPTIONS, ids, gradients, rows=6)

    return quick_jit(run)


@settings(max_examples=60, deadline=None)
@given(patterns)
def test_any_pattern_of_ids(patterns):
    """Repetitions, padding alone, rows that never come, rows that come always."""
    ids = np.asarray(patterns, np.int32)
    want, _, got, _, gaps, distance = pattern_run()(ids, draw(ids, dtype=np.float32))
    tolerance = 5e-6 * float(distance)
    chex.assert_trees_all_close(got, want, rtol=0, atol=tolerance)
    assert float(jnp.max(jnp.abs(gaps))) <= tolerance
