"""Which ids there may be, what is refused, and the corners of tables and counters."""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import quick_jit

from rmsprop_jax import Format, sparse
from rmsprop_jax._arguments import Call
from rmsprop_jax.sparse import _sparse_rmsprop, _table_checks

TX = sparse.rmsprop(0.1)
DECAYED = dict(weight_decay=0.1, decoupled_weight_decay=True)
TABLE = np.arange(12, dtype=np.float32).reshape(6, 2)


def step(ids, gradients=None, tx=None):
    """Take one step from `TABLE`, with padding to four ids: compiled once."""
    tx = tx or TX
    ids, table = jnp.asarray(ids), jnp.asarray(TABLE)
    if gradients is None:
        gradients = jnp.ones((len(ids), 2))
    ids = jnp.full(4, -1).at[: len(ids)].set(ids)
    gradients = jnp.full((4, 2), jnp.nan).at[: len(gradients)].set(gradients)
    return compiled(tx, "update")(table, tx.init(table), ids, gradients)


@functools.cache
def compiled(tx, method):
    return quick_jit(getattr(tx, method))


@pytest.mark.parametrize("dtype", (np.int8, np.uint8, np.int16, np.int32, np.uint32))
@pytest.mark.rows(2)
def test_ids_of_any_integer_dtype(dtype):
    ids = np.asarray([5, 0, 5, 3], dtype)
    for given in (ids, jnp.asarray(ids)):
        chex.assert_trees_all_equal(read(given), jnp.asarray(TABLE[ids]))
    past = jnp.asarray([5, 100], dtype)
    chex.assert_trees_all_equal(quick_jit(read)(past)[1], jnp.zeros(2))


def read(ids, table=TABLE):
    table = jnp.asarray(table)
    return TX.gather(table, TX.init(table), ids)


@pytest.mark.parametrize("shape", ((), (2,), (2, 1, 2), (2, 0)))
@pytest.mark.rows(2)
def test_ids_of_any_shape(shape):
    ids = np.resize([5, -1, 5, 3], shape).astype(np.int32)
    rows = np.where(ids[..., None] < 0, 0.0, TABLE[ids])
    chex.assert_trees_all_equal(read(ids), jnp.asarray(rows, jnp.float32))


def test_update_takes_ids_of_two_dimensions():
    ids, g = jnp.asarray([[5, -1], [5, 3]]), jnp.ones((2, 2, 2))
    table = jnp.asarray(TABLE)
    got = quick_jit(TX.update)(table, TX.init(table), ids, g)
    chex.assert_trees_all_equal(got, step([5, -1, 5, 3]))


def test_ids_of_64_bits(x64):
    ids = jnp.asarray([5, 0, 2**32 + 5, -(2**32) + 5])
    assert ids.dtype == jnp.int64
    want = jnp.asarray(np.where([[1], [1], [0], [0]], TABLE[[5, 0, 0, 0]], 0.0))
    chex.assert_trees_all_equal(quick_jit(read)(ids), want)


def test_numpy_ids_of_64_bits_are_not_cut():
    with pytest.raises(ValueError, match=rf"got {2**32 + 5}"):
        read(np.asarray([2**32 + 5]))
    for dtype, far in ((np.int64, -(2**40)), (np.uint64, 5)):
        got = read(np.asarray([5, far], dtype))
        chex.assert_trees_all_equal(got[0], jnp.asarray(TABLE[5]))


def test_ids_too_narrow_for_the_length_of_the_table():
    table = np.arange(300, dtype=np.float32)[:, None]
    for ids, want in (
        (jnp.asarray([127, -1], jnp.int8), [127.0, 0.0]),
        (jnp.asarray([127, 255], jnp.uint8), [127.0, 255.0]),
    ):
        chex.assert_trees_all_equal(read(ids, table)[:, 0], jnp.asarray(want))


@pytest.mark.parametrize("method", ("gather", "update"))
def test_ids_past_the_end_are_refused_or_dropped_and_counted(method):
    tx, table = TX, jnp.asarray(TABLE)
    state, ids = tx.init(table), jnp.asarray([6, 1, 99, -5])
    more = (jnp.ones((4, 2)),) if method == "update" else ()
    with pytest.raises(
        ValueError,
        match=rf"sparse.rmsprop.{method}.*below the number of rows, 6; got 99.*jit",
    ):
        getattr(tx, method)(table, state, ids, *more)
    result = compiled(tx, method)(table, state, ids, *more)
    if method == "gather":
        want = jnp.zeros((4, 2)).at[1].set(table[1])
        chex.assert_trees_all_equal(result, want)
    else:
        want, _ = step(jnp.asarray([1]))
        chex.assert_trees_all_equal(result[0], want)
        assert result[1].dropped == 2


def test_repeated_ids_are_added_before_they_are_squared():
    table, state = step(jnp.asarray([2, 4, 2]), jnp.asarray([[1.0, 2]] * 3))
    want, want_state = step(jnp.asarray([2, 4]), jnp.asarray([[2.0, 4], [1, 2]]))
    chex.assert_trees_all_equal(table, want)
    chex.assert_trees_all_equal(state, want_state)


def test_padding_alone_is_a_step_all_the_same():
    """Time goes on, and gradients of NaN are no gradients."""
    table, state = step([-1, -1, -7], jnp.full((3, 2), jnp.nan))
    chex.assert_trees_all_equal(table, jnp.asarray(TABLE))
    assert state.step == 1 and not bool(jnp.any(state.touched))


def test_an_empty_batch_is_a_step_all_the_same():
    tx, table = sparse.rmsprop(0.1, momentum=0.9), jnp.asarray(TABLE)
    ids = jnp.zeros(0, jnp.int32)
    after, state = quick_jit(tx.update)(table, tx.init(table), ids, jnp.zeros((0, 2)))
    chex.assert_trees_all_equal(after, table)
    assert state.step == 1 and not bool(jnp.any(state.touched))


@pytest.mark.parametrize("shape", ((1, 3), (4, 1), (0, 3), (3, 0)))
@pytest.mark.rows(2)
def test_tables_of_few_rows_and_columns(shape):
    ids = jnp.asarray([0, -1, 0] if shape[0] else [-1, -1, -1])
    tx = sparse.rmsprop(0.1, momentum=0.9, row_wise=True)
    table, g = jnp.ones(shape), jnp.ones((3, shape[1]))
    table, _ = quick_jit(tx.update)(table, tx.init(table), ids, g)
    assert table.shape == shape
    want = 1 - 0.1 * 2 / np.sqrt(0.1 * 4 + 1e-8)
    chex.assert_trees_all_close(table[:1], jnp.full(table[:1].shape, want))


def test_counters_at_their_maximum():
    """The count stops, as that of the dense optimizer; the clock goes on, modulo."""
    tx = sparse.rmsprop(cosine_of_count, 0.5, momentum=0.5, bias_correction=True)
    table = jnp.zeros((3, 2))
    state = tx.init(table)._replace(trace=jnp.ones((3, 2)))
    top = jnp.iinfo(jnp.int32).max
    late = state._replace(
        step=jnp.asarray(top, jnp.int32),
        clock=jnp.asarray(2**32 - 2, jnp.uint32),
        touched=jnp.full(3, 2**32 - 5, jnp.uint32),
        dropped=jnp.asarray(top, jnp.int32),
    )
    update = quick_jit(tx.update)
    for _ in range(4):
        table, late = update(table, late, jnp.asarray([1, 9]), jnp.ones((2, 2)))
    assert late.step == top and late.clock == 2 and late.dropped == top
    table, late = quick_jit(tx.flush)(table, late)
    # Seven idle steps of momentum 0.5 from 1, across the end of the clock.
    chex.assert_trees_all_close(table[0], jnp.full(2, 1 - 0.5**7), rtol=1e-6)
    chex.assert_tree_all_finite((table, late))


def cosine_of_count(count):
    return 0.1 * jnp.cos(count / 100)


def test_rows_idle_for_ages_underflow_to_zero():
    tx = sparse.rmsprop(0.1, momentum=0.9, centered=True)
    table, state = step([0, 1], tx=tx)
    state = state._replace(clock=jnp.asarray(10**9, jnp.uint32))
    table, state = quick_jit(tx.flush)(table, state)
    chex.assert_trees_all_equal((state.s, state.trace), (jnp.zeros((6, 2)),) * 2)
    chex.assert_tree_all_finite((table, state))


def test_decay_and_momentum_of_zero_are_numbers():
    """A row that missed no step keeps its moments: 0**0 is 1."""
    tx = sparse.rmsprop(0.1, decay=0.0, momentum=0.0)
    table, state = step([1, 4], tx=tx)
    want = TABLE - 0.1 * np.isin(np.arange(6), [1, 4])[:, None]
    chex.assert_trees_all_close(tx.gather(table, state, np.arange(6)), want, rtol=1e-6)


@dataclasses.dataclass(frozen=True)
class Bits(Format):
    """Keeps the random bits alone."""

    signed = True
    stochastic = True

    def encode(self, x, random):
        return (random >> 8).astype(jnp.float32)

    def decode(self, stored):
        return jnp.zeros_like(stored)


def test_a_flush_rounds_by_other_bits_than_the_step_after_it():
    tx, table = sparse.rmsprop(0.1, storage=Bits()), jnp.asarray(TABLE)
    state = tx.init(table)
    _, flushed = tx.flush(table, state)
    _, stepped = tx.update(table, state, jnp.arange(6), jnp.ones((6, 2)))
    assert not bool(jnp.any(flushed.s == stepped.s))
    assert len(np.unique(flushed.s)) == len(np.unique(stepped.s)) == 12


def test_flush_twice_is_flush_once():
    options = dict(momentum=0.9, weight_decay=0.1, decoupled_weight_decay=True)
    tx = sparse.rmsprop(cosine_of_count, storage="uint8", **options)
    update, flush = quick_jit(tx.update), quick_jit(tx.flush)
    table, state = jnp.asarray(TABLE), tx.init(jnp.asarray(TABLE))
    for ids in ([0, 3], [3, 5]):
        table, state = update(table, state, jnp.asarray(ids), jnp.ones((2, 2)))
    once = flush(table, state)
    chex.assert_trees_all_equal(flush(*once), once)


def test_vmap_over_tables():
    tx = sparse.rmsprop(cosine_of_count, momentum=0.9, lr_in_momentum=False)
    rng = np.random.default_rng(0)
    tables = jnp.asarray(rng.standard_normal((3, 6, 2)), jnp.float32)
    ids = jnp.asarray(rng.integers(-1, 6, (5, 3, 4)), jnp.int32)
    g = jnp.asarray(rng.standard_normal((5, 3, 4, 2)), jnp.float32)

    def run(table, ids, g):
        def one(carry, batch):
            return tx.update(*carry, *batch), None

        carry, _ = jax.lax.scan(one, (table, tx.init(table)), (ids, g))
        return tx.flush(*carry)

    got = quick_jit(jax.vmap(run, in_axes=(0, 1, 1)))(tables, ids, g)
    alone = quick_jit(run)
    for k in range(3):
        want = alone(tables[k], ids[:, k], g[:, k])
        chex.assert_trees_all_close(
            jax.tree.map(lambda x, k=k: x[k], got), want, rtol=1e-6, atol=1e-7
        )


def test_vmap_over_learning_rates():
    def run(rate):
        tx = sparse.rmsprop(rate, momentum=0.9)
        return tx.update(table, tx.init(table), jnp.asarray([1]), jnp.ones((1, 2)))[0]

    table = jnp.asarray(TABLE)
    got = quick_jit(jax.vmap(run))(jnp.asarray([0.1, 0.2]))
    chex.assert_trees_all_close(got[0], step([1])[0], rtol=1e-6)
    chex.assert_trees_all_close(got[1] - table, 2 * (got[0] - table), rtol=1e-5)


@pytest.mark.parametrize("options", (dict(), dict(momentum=0.9, centered=True)))
def test_state_keeps_its_type(options):
    for storage in ("float32", "bfloat16", "uint8"):
        tx = sparse.rmsprop(0.1, storage=storage, **options)
        table, state = jnp.asarray(TABLE, jnp.bfloat16), None
        state = tx.init(table)
        types = jax.tree.map(lambda x: (x.shape, x.dtype, x.weak_type), (table, state))
        for after in (
            jax.eval_shape(tx.update, table, state, jnp.asarray([1]), jnp.ones((1, 2))),
            jax.eval_shape(tx.flush, table, state),
        ):
            chex.assert_trees_all_equal(
                jax.tree.map(lambda x: (x.shape, x.dtype, x.weak_type), after), types
            )


AT_CONSTRUCTION = [
    (dict(decay=1.0), ValueError, r"decay=...\)` must lie in \[0, 1\); got 1.0"),
    (dict(eps=-1.0), ValueError, r"eps=.*\[0, inf\)"),
    (dict(momentum=1.5), ValueError, r"momentum=.*\[0, 1\); got 1.5"),
    (dict(storage="int4"), ValueError, r"storage=.*'uint8'.*'int4'"),
    (dict(nonfinite="skip"), ValueError, r"nonfinite=.*'hold'.*'skip'"),
    (dict(initial_scale=1.0, bias_correction=True), ValueError, "Drop one"),
    (dict(row_wise=True, centered=True), ValueError, "memory as the table.*Drop one"),
    (
        dict(weight_decay=0.1),
        ValueError,
        "every row a gradient.*decoupled_weight_decay=True",
    ),
    (
        dict(weight_decay=20.0, decoupled_weight_decay=True),
        ValueError,
        r"must be below 1.*got 0.1 \* 20.0",
    ),
]


@pytest.mark.parametrize(("options", "error", "match"), AT_CONSTRUCTION)
def test_construction_names_what_is_wrong(options, error, match):
    with pytest.raises(error, match=rf"`sparse.rmsprop.*{match}"):
        sparse.rmsprop(0.1, **options)


def test_a_call_that_does_not_fit_is_refused_in_our_words():
    for options, match in (
        (dict(lr=0.1), r"has no argument `lr`; its word is `learning_rate`"),
        (dict(alpha=0.9), r"has no argument `alpha`; its word is `decay`"),
        (dict(weight_decay_mask=0), r"`weight_decay_mask`. Its arguments are `learn"),
        (dict(), r"missing a required argument: 'learning_rate'. Its arguments"),
        (dict(params=0), r"leave the parameters out"),
    ):
        with pytest.raises(TypeError, match=rf"^`sparse.rmsprop.*{match}"):
            sparse.rmsprop(**options)


def test_the_same_arguments_give_the_same_optimizer():
    """As the dense optimizer, so that `jax.jit` compiles once for both."""
    assert sparse.rmsprop(0.1, 0.9) is sparse.rmsprop(learning_rate=0.1)
    assert sparse.rmsprop(0.1) is not sparse.rmsprop(0.2)


def test_what_must_be_known_may_not_be_traced():
    with pytest.raises(TypeError, match=r"decay=.*known at construction.*traced"):
        jax.jit(lambda decay: sparse.rmsprop(0.1, decay) and 0)(0.9)
    for options in (
        dict(momentum=0.9, lr_in_momentum=False),
        dict(weight_decay=0.1, decoupled_weight_decay=True),
    ):
        with pytest.raises(TypeError, match=r"learning_rate=.*traced.*or a schedule"):
            jax.jit(lambda rate, k=options: sparse.rmsprop(rate, **k) and 0)(0.1)


def test_a_schedule_for_a_number_is_refused():
    # The annotations of `rmsprop` are enforced here and would speak first.
    with pytest.raises(TypeError, match=r"decay=.*it is a function. Only `learning_r"):
        _sparse_rmsprop._constant("decay", lambda count: 0.9)


ONES = jnp.ones((2, 2))
CALLS = [
    ("init", (jnp.ones(3),), TypeError, r"shape \(rows, dim\).*shape \(3,\)"),
    ("init", (jnp.ones((3, 2), jnp.int32),), TypeError, "got int32"),
    ("update", (TABLE, [0.5, 1.0], ONES), TypeError, "integers; got float"),
    ("update", (TABLE, [0, 1, 2], ONES), ValueError, r"\(3, 2\); got \(2, 2\)"),
    ("update", (TABLE, [0, 1], ONES.astype(int)), TypeError, "point.*got int32"),
    ("update", (TABLE, [0, 1], ONES.astype(complex)), TypeError, "got complex64"),
    (
        "update",
        (TABLE[:3], [0, 1], ONES),
        ValueError,
        r"touched is uint32\[6\], not uint32\[3\].*`init`",
    ),
    (
        "flush",
        (TABLE[:, :1],),
        ValueError,
        r"float32\[6,1\].*s is float32\[6,2\], not.*6,1",
    ),
    ("gather", (TABLE, jnp.ones(2)), TypeError, "integers; got float32"),
]


@pytest.mark.parametrize(("method", "arguments", "error", "match"), CALLS)
def test_calls_name_what_is_wrong(method, arguments, error, match):
    tx = sparse.rmsprop(0.1)
    table, *rest = arguments
    table = jnp.asarray(table)
    state = () if method == "init" else (tx.init(jnp.asarray(TABLE)),)
    with pytest.raises(error, match=rf"`sparse.rmsprop.{method}`.*{match}"):
        getattr(tx, method)(table, *state, *rest)


# What a state was made with, what goes on with it, and what the message says.
OTHER_OPTIONS = [
    (dict(), dict(storage="bfloat16"), r"s is float32\[6,2\], not uint16\[6,2\]"),
    (dict(storage="bfloat16"), dict(), r"s is uint16\[6,2\], not float32\[6,2\]"),
    (dict(), dict(storage="uint8"), r"s is float32\[6,2\], not uint8\[6,2\]"),
    (dict(), dict(momentum=0.9), r"trace is None, not float32\[6,2\]"),
    (dict(momentum=0.9), dict(), r"trace is float32\[6,2\], not None"),
    (dict(), dict(centered=True), r"m is None, not float32\[6,2\]"),
    (dict(centered=True), dict(), r"m is float32\[6,2\], not None"),
    (dict(), dict(row_wise=True), r"s is float32\[6,2\], not float32\[6\]"),
    (dict(row_wise=True), dict(), r"s is float32\[6\], not float32\[6,2\]"),
    (
        dict(momentum=0.9, storage="bfloat16"),
        dict(storage="uint8"),
        r"s is uint16.*, not uint8.*; trace is uint16.*, not None",
    ),
    (
        dict(momentum=0.9),
        dict(momentum=0.9, learning_rate=cosine_of_count, lr_in_momentum=False),
        r"schedule is None, not a ScheduleState",
    ),
    (
        dict(momentum=0.9, learning_rate=cosine_of_count, lr_in_momentum=False),
        dict(DECAYED, learning_rate=cosine_of_count),
        r"trace is float32.*; .*schedule.of_rows.log_keep is None, not float32\[6\]; "
        r"schedule.of_rows.reach is float32\[6\], not None",
    ),
]


@pytest.mark.parametrize("method", ("gather", "update", "flush"))
@pytest.mark.parametrize(("made", "used", "match"), OTHER_OPTIONS)
def test_a_state_of_other_options_is_refused(made, used, match, method):
    table = jnp.asarray(TABLE)
    before, after = (
        sparse.rmsprop(**dict(dict(learning_rate=0.1), **x)) for x in (made, used)
    )
    state, ids = before.init(table), jnp.asarray([1])
    more = dict(gather=(ids,), update=(ids, jnp.ones((1, 2))), flush=())[method]
    match = rf"`sparse.rmsprop.{method}`: .*{match}.*options that the state was made"
    for call in (getattr(after, method), jax.jit(getattr(after, method))):
        with pytest.raises(ValueError, match=match):
            call(table, state, *more)


def test_a_state_of_a_table_of_another_dtype_is_refused(x64):
    table = jnp.asarray(TABLE)
    with pytest.raises(ValueError, match=r"s is float64\[6,2\], not float32\[6,2\]"):
        TX.flush(table, TX.init(table.astype(jnp.float64)))


def test_what_is_no_state_is_refused():
    table = jnp.asarray(TABLE)
    restored = dict(TX.init(table)._asdict())
    # The annotations of `flush` are enforced here and would speak first.
    with pytest.raises(
        TypeError, match=r"`flush`.* must be a `TableState`.*got dict.*init\(table\)"
    ):
        _table_checks.checked(Call("flush"), table, restored, TX.init)


def test_a_state_is_checked_by_shapes_alone():
    """A schedule is not traced again in the calls after the first."""
    calls = []

    def schedule(count):
        calls.append(count)
        return 0.1 * jnp.ones_like(count, jnp.float32)

    tx = sparse.rmsprop(schedule, momentum=0.9, lr_in_momentum=False)
    table = jnp.asarray(TABLE)
    state, ids = tx.init(table), jnp.asarray([1])
    tx.gather(table, state, ids)
    known = len(calls)
    tx.gather(table, state, ids)
    assert len(calls) == known


@pytest.mark.parametrize("dtype", (np.float32, np.float64, jnp.bfloat16))
@pytest.mark.rows(1)
def test_arrays_of_numpy_are_tables_and_states(dtype):
    """As `jax.device_get` and `flax.serialization.from_bytes` give them."""
    tx = sparse.rmsprop(0.1, momentum=0.9, centered=True, storage="uint8")
    given, ids, g = TABLE.astype(dtype), np.asarray([1, 3, 1]), np.ones((3, 2))
    table = jnp.asarray(given)
    state = tx.init(table)
    chex.assert_trees_all_equal(tx.init(given), state)
    want = tx.update(table, state, ids, g)
    got = tx.update(given, jax.device_get(state), ids, g)
    chex.assert_trees_all_equal(got, want)
    host = jax.device_get(want)
    if dtype == np.float64:
        host = (host[0].astype(dtype), host[1])
    chex.assert_trees_all_equal(tx.gather(*host, ids), tx.gather(*want, ids))
    chex.assert_trees_all_equal(tx.flush(*host), tx.flush(*want))
    f = sparse.value_and_row_grad(lambda _, table: jnp.sum(table[ids]), tx)
    chex.assert_trees_all_equal(f(None, *host), f(None, *want))


def test_too_many_rows_for_their_numbers():
    shape = jax.ShapeDtypeStruct((2**31 - 2, 1), jnp.float32)
    tx = sparse.rmsprop(0.1)
    state = jax.eval_shape(tx.init, shape)
    g = jax.ShapeDtypeStruct((4, 1), jnp.float32)
    ids = jax.ShapeDtypeStruct((4,), jnp.int32)
    with pytest.raises(ValueError, match=r"fewer than 2\*\*31.*Use several tables"):
        jax.eval_shape(tx.update, shape, state, ids, g)


def test_an_optax_schedule_is_a_learning_rate():
    tx = sparse.rmsprop(optax.linear_schedule(0.1, 0.0, 1))
    table, state = step([1], tx=tx)
    ids, g = jnp.asarray([1, -1, -1, -1]), jnp.ones((4, 2))
    again, _ = compiled(tx, "update")(table, state, ids, g)
    chex.assert_trees_all_equal(again, table)
