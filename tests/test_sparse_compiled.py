"""What XLA makes of a sparse step: in place, nothing as large as the table, no table
sent between devices."""

import functools
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from rmsprop_jax import sparse

ROWS, DIM, BATCH = 8192, 16, 32
OPTIONS = [
    dict(),
    dict(row_wise=True, storage="uint8"),
    dict(centered=True, momentum=0.9, storage="bfloat16"),
    dict(
        learning_rate=lambda count: 0.01 * jnp.cos(count / 100),
        momentum=0.9,
        lr_in_momentum=False,
        weight_decay=0.1,
        decoupled_weight_decay=True,
    ),
]


@pytest.fixture
def compile_quickly():
    """Compile as users do, in the place of the fixture of conftest."""
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(autouse=True)
def compile_as_users(compile_quickly):
    del compile_quickly


def case_name(case):
    """Name a case without the address of a function, which differs by process."""
    return "-".join(case) or "plain" if isinstance(case, dict) else str(case)


def make(options):
    return sparse.rmsprop(**{"learning_rate": 0.01, **options})


def batch(steps=None, seed=0):
    rng = np.random.default_rng(seed)
    shape = (BATCH,) if steps is None else (steps, BATCH)
    ids = rng.integers(-3, ROWS, shape).astype(np.int32)
    ids[..., 1] = ids[..., 0]
    return ids, rng.standard_normal((*shape, DIM)).astype(np.float32)


def row_arrays(program):
    """Give the instructions that yield an array with a row for each of the table."""
    entry = program.as_text().split("\nENTRY ")[1]
    return re.findall(rf"= \w+\[{ROWS}(?:,{DIM})?\]\S* ([\w-]+)\(", entry)


@pytest.mark.parametrize("options", OPTIONS, ids=case_name)
@pytest.mark.rows(2)
def test_a_step_writes_in_place(options):
    tx = make(options)
    table = jnp.zeros((ROWS, DIM))
    state = tx.init(table)
    kept = sum(x.nbytes for x in jax.tree.leaves((table, state)))
    step = jax.jit(tx.update, donate_argnums=(0, 1))
    program = step.lower(table, state, *batch()).compile()
    memory = program.memory_analysis()
    assert memory.alias_size_in_bytes == kept
    jax.block_until_ready(step(table, state, *batch()))
    assert all(x.is_deleted() for x in jax.tree.leaves((table, state)) if x.nbytes > 4)
    # The smallest array with a row for each of the table is `touched`.
    assert memory.temp_size_in_bytes < 40 * BATCH * DIM * 4
    assert "copy" not in row_arrays(program)


def test_momentum_costs_the_same_whatever_it_is():
    """The sums of a schedule have as many terms at 0.99999 as at 0.9."""
    work = []
    for momentum in (0.9, 0.99999):
        tx = make(OPTIONS[-1] | dict(momentum=momentum))
        table = jax.ShapeDtypeStruct((ROWS, DIM), jnp.float32)
        state = jax.eval_shape(tx.init, table)
        step = jax.jit(tx.update).lower(table, state, *batch())
        work.append(step.cost_analysis()["flops"])
    # But for a multiplication by a number that happens to be 1.
    assert 0 < 0.99 * work[0] < work[1] < 1.01 * work[0]


@pytest.mark.parametrize(
    ("rows", "period"), [(6, 4096), (2**21, 4096), (2**21 + 1, 8192), (10**8, 32768)]
)
def test_what_a_schedule_keeps(rows, period):
    """Four bytes per row for weight decay, four for momentum, and a few sums."""
    table = jax.ShapeDtypeStruct((rows, 1), jnp.float32)
    both = jax.eval_shape(make(OPTIONS[-1]).init, table).schedule
    shapes = [x.shape for x in jax.tree.leaves(both)]
    assert shapes == [(period,)] * 4 + [(rows,)] * 2
    momentum = dict(OPTIONS[-1], weight_decay=None, decoupled_weight_decay=False)
    one = jax.eval_shape(make(momentum).init, table).schedule
    assert [x.shape for x in jax.tree.leaves(one)] == [(period,)] * 2 + [(rows,)]


def test_the_measure_can_fail():
    """A dense gradient shows, and so does a table that is not donated."""
    tx = sparse.rmsprop(0.01)
    table = jnp.zeros((ROWS, DIM))

    def step(table, state, ids):
        g = jax.grad(lambda table: jnp.sum(table[ids] ** 2))(table)
        return tx.update(table, state, ids, g[ids])

    ids, g = batch()
    jitted = jax.jit(step, donate_argnums=(0, 1))
    program = jitted.lower(table, tx.init(table), ids).compile()
    assert program.memory_analysis().temp_size_in_bytes >= table.nbytes
    program = jax.jit(tx.update).lower(table, tx.init(table), ids, g).compile()
    assert "copy" in row_arrays(program)


def test_the_gradient_of_a_loss_is_never_dense():
    tx = sparse.rmsprop(0.01)
    table = jnp.zeros((ROWS, DIM))

    def loss(weights, table, ids):
        return jnp.sum((table[ids] @ weights) ** 2) + jnp.sum(table[ids + 1])

    grad = sparse.value_and_row_grad(loss, tx)

    def step(weights, table, state, ids):
        value, (g, rows) = grad(weights, table, state, ids)
        return value, weights - g, *tx.update(table, state, *rows)

    arguments = jnp.ones(DIM), table, tx.init(table), batch()[0]
    jitted = jax.jit(step, donate_argnums=(1, 2))
    memory = jitted.lower(*arguments).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 40 * 2 * BATCH * DIM * 4 < table.nbytes


def run(tx, table, state, ids, gradients):
    """Take a few steps and flush."""

    def one(carry, x):
        rows = tx.gather(*carry, x[0])
        return tx.update(*carry, *x), jnp.sum(rows)

    carry, sums = jax.lax.scan(one, (table, state), (ids, gradients))
    return tx.flush(*carry), sums


def collectives(program):
    """Give the sizes, in elements, of what is sent between devices."""
    pattern = r"= (\S.*?) (?:all-gather|all-reduce|all-to-all|collective-permute)"
    pattern += r"(?:-start)?\("
    sizes = []
    for shapes in re.findall(pattern, program.as_text()):
        for dims in re.findall(r"\[([\d,]*)\]", shapes.split("{")[0] + shapes):
            sizes.append(int(np.prod([int(d) for d in dims.split(",") if d])))
    return sizes


EXPLICIT = [AxisType.Explicit] if hasattr(jax.sharding, "auto_axes") else []


@functools.cache
def unsharded():
    table, batches = start(), batch(steps=5)
    return jax.jit(lambda *x: run(SHARDED, *x))(table, SHARDED.init(table), *batches)


def start():
    rng = np.random.default_rng(3)
    return jnp.asarray(rng.standard_normal((ROWS, DIM)), jnp.float32)


SHARDED = sparse.rmsprop(0.01, momentum=0.9, storage="bfloat16")


@pytest.mark.parametrize(
    ("axis_type", "of_batch"),
    [
        (AxisType.Auto, None),
        (AxisType.Auto, "rows"),
        *((kind, "rows") for kind in EXPLICIT),
    ],
    ids=str,
)
@pytest.mark.rows(1)
def test_sharded_rows_equal_unsharded_and_stay_where_they_are(axis_type, of_batch):
    mesh = jax.make_mesh((8,), ("rows",), axis_types=(axis_type,))
    split = NamedSharding(mesh, PartitionSpec("rows"))
    by_batch = NamedSharding(mesh, PartitionSpec(None, of_batch))
    tx, batches = SHARDED, batch(steps=5)
    want, sums = unsharded()
    table = jax.device_put(start(), split)
    state = tx.init(table)
    for x in (state.touched, state.s, state.trace):
        assert x.sharding.is_equivalent_to(split, x.ndim)
    batches = [jax.device_put(x, by_batch) for x in batches]
    arguments = table, state, *batches
    jitted = jax.jit(lambda *x: run(tx, *x), donate_argnums=(0, 1))
    program = jitted.lower(*arguments).compile()
    got, sharded_sums = program(*arguments)
    chex.assert_trees_all_close(jax.device_get(got), want, rtol=1e-5, atol=1e-6)
    chex.assert_trees_all_close(jax.device_get(sharded_sums), sums, rtol=1e-4)
    for x in (got[0], got[1].touched, got[1].s, got[1].trace):
        assert x.sharding.is_equivalent_to(split, x.ndim)
    # Ids, rows and row gradients of a batch at most; a device has 1,024 rows.
    sent = collectives(program)
    assert sent
    assert max(sent) <= BATCH * DIM < ROWS // 8


@pytest.mark.parametrize("axis_type", EXPLICIT, ids=case_name)
def test_eager_calls_on_an_explicit_mesh(axis_type):
    mesh = jax.make_mesh((8,), ("rows",), axis_types=(axis_type,))
    split = NamedSharding(mesh, PartitionSpec("rows"))
    tx = sparse.rmsprop(0.01)
    table = jax.device_put(jnp.ones((16, 2)), split)
    state = tx.init(table)
    ids = jnp.asarray([3, 3, -1])
    table, state = tx.update(table, state, ids, jnp.ones((3, 2)))
    assert table.sharding.is_equivalent_to(split, 2)
    rows = tx.gather(table, state, ids)
    chex.assert_trees_all_close(rows[2], jnp.zeros(2))


KINDS = [AxisType.Auto, *EXPLICIT]
SPECS = [("rows",), ("rows", "columns"), (None, "columns"), (("rows", "columns"),)]


@pytest.mark.parametrize("options", OPTIONS, ids=case_name)
@pytest.mark.parametrize("spec", SPECS, ids=str)
@pytest.mark.parametrize("axis_type", KINDS, ids=str)
@pytest.mark.rows(2)
def test_init_under_jit_puts_rows_where_they_are(axis_type, spec, options):
    """As eager `init` does, by shapes alone: what is in the table is never read."""
    mesh = jax.make_mesh((4, 2), ("rows", "columns"), axis_types=(axis_type,) * 2)
    table = jnp.asarray(np.resize([np.inf, -np.inf, np.nan, 1.0, 2.0], (16, 4)))
    table = jax.device_put(table, NamedSharding(mesh, PartitionSpec(*spec)))
    tx = make(options)
    program = jax.jit(tx.init).lower(table).compile()
    got, want = program(table), tx.init(table)
    chex.assert_trees_all_equal(jax.device_get(got), jax.device_get(want))
    for x, y in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert x.ndim == 0 or x.sharding.is_equivalent_to(y.sharding, x.ndim)
    assert not collectives(program)
    entry = program.as_text().split("\nENTRY ")[1]
    given = re.search(r"(%[\w.]+) = \S+ parameter\(0\)", entry)[1]
    assert len(re.findall(rf"{given}\b(?!\.)", entry)) == 1


# On explicit axes JAX itself jits nothing that gives no number at all.
@pytest.mark.parametrize(
    ("axis_type", "shape"),
    [(AxisType.Auto, (0, 8)), *((kind, (8, 0)) for kind in KINDS)],
    ids=str,
)
@pytest.mark.rows(1)
def test_init_under_jit_of_an_empty_table(axis_type, shape):
    mesh = jax.make_mesh((4,), ("rows",), axis_types=(axis_type,))
    split = NamedSharding(mesh, PartitionSpec("rows"))
    table = jax.device_put(jnp.ones(shape), split)
    for options in OPTIONS:
        tx = make(options)
        got, want = jax.jit(tx.init)(table), tx.init(table)
        chex.assert_trees_all_equal(jax.device_get(got), jax.device_get(want))
        assert got.touched.shape == shape[:1]
