"""Losses over `table[ids]`: row gradients, Flax, mixed models and checkpoints."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import quick_jit

from rmsprop_jax import rmsprop, sparse


def tables():
    rng = np.random.default_rng(0)
    return {
        "user": jnp.asarray(rng.standard_normal((7, 3)), jnp.float32),
        "item": jnp.asarray(rng.standard_normal((5, 3)), jnp.float32),
    }


def loss(weights, tables, users, items):
    """Look up users twice; items by ids made on the way."""
    both = tables["user"][users] * tables["item"][items % 5]
    again = tables["user"][users[:, None]]
    return jnp.sum((both @ weights) ** 2) + jnp.sum(jnp.sin(again))


def dense_loss(weights, tables, users, items):
    padded = {k: jnp.pad(x, ((0, 1), (0, 0))) for k, x in tables.items()}
    return loss(weights, padded, users, items)


USERS, ITEMS = jnp.asarray([1, -1, 6, 1]), jnp.asarray([8, 2, 0, 3])
WEIGHTS = jnp.asarray([1.0, -2.0, 0.5])


def test_row_gradients_add_up_to_the_dense_gradient():
    tx = sparse.rmsprop(0.1)
    given = tables()
    states = {k: tx.init(x) for k, x in given.items()}
    f = quick_jit(sparse.value_and_row_grad(loss, tx))
    value, (g, rows) = f(WEIGHTS, given, states, USERS, ITEMS)
    dense = quick_jit(jax.value_and_grad(dense_loss, (0, 1)))
    want, (want_g, want_tables) = dense(WEIGHTS, given, USERS, ITEMS)
    chex.assert_trees_all_close((value, g), (want, want_g), rtol=1e-6)
    assert rows["user"].ids.tolist() == [1, -1, 6, 1] * 2
    assert rows["user"].gradients.shape == (8, 3)
    for k, (ids, gradients) in rows.items():
        summed = jnp.zeros_like(given[k])
        summed = summed.at[jnp.where(ids < 0, 99, ids)].add(gradients, mode="drop")
        chex.assert_trees_all_close(summed, want_tables[k], rtol=1e-5, atol=1e-6)


def test_a_loss_reads_rows_as_they_would_be_now():
    tx = sparse.rmsprop(0.1, momentum=0.9)
    table = jnp.ones((3, 2))
    state = tx.init(table)
    update = quick_jit(tx.update)
    for ids in ([0, 1], [1, 2]):
        table, state = update(table, state, jnp.asarray(ids), jnp.ones((2, 2)))
    f = sparse.value_and_row_grad(lambda _, table: jnp.sum(table[np.arange(3)]), tx)
    value, _ = quick_jit(f)(None, table, state)
    flushed, _ = quick_jit(tx.flush)(table, state)
    chex.assert_trees_all_close(value, jnp.sum(flushed), rtol=1e-6)


def test_each_table_has_its_optimizer_and_aux_comes_back():
    txs = {"user": sparse.rmsprop(0.1, row_wise=True), "item": sparse.rmsprop(0.2)}
    given = tables()
    states = {k: tx.init(given[k]) for k, tx in txs.items()}
    with_aux = lambda *args: (loss(*args), "aux")  # noqa: E731
    f = sparse.value_and_row_grad(with_aux, txs, has_aux=True)

    @quick_jit
    def step(given, states):
        (value, aux), (_, rows) = f(WEIGHTS, given, states, USERS, ITEMS)
        assert aux == "aux" and value.shape == ()
        return [tx.update(given[k], states[k], *rows[k]) for k, tx in txs.items()]

    for k, (table, _) in zip(txs, step(given, states), strict=True):
        assert bool(jnp.any(table != given[k]))


def test_a_table_that_is_not_looked_up_has_no_rows():
    tx, table = sparse.rmsprop(0.1), jnp.ones((3, 2))
    f = sparse.value_and_row_grad(lambda w, table: jnp.sum(w), tx)
    _, (g, rows) = f(jnp.ones(2), table, tx.init(table))
    assert rows.ids.shape == (0,) and rows.gradients.shape == (0, 2)
    chex.assert_trees_all_equal(g, jnp.ones(2))


def test_what_is_no_lookup_is_refused():
    tx, table = sparse.rmsprop(0.1), jnp.ones((3, 2))

    def f(read, table=table):
        state = tx.init(jnp.ones((3, 2)))
        return sparse.value_and_row_grad(lambda _, x: read(x), tx)(None, table, state)

    with pytest.raises(TypeError, match="ids must be integers; got float32"):
        f(lambda table: table[jnp.ones(2)].sum())
    with pytest.raises(TypeError, match="ids must be integers; got a tuple"):
        f(lambda table: table[:, 0].sum())
    with pytest.raises(TypeError, match="cannot be iterated over"):
        f(lambda table: sum(row.sum() for row in table))
    with pytest.raises(ValueError, match="below the number of rows, 3; got 3"):
        f(lambda table: table[np.asarray([3])].sum())
    with pytest.raises(TypeError, match=r"shape \(rows, dim\)"):
        f(lambda table: 0.0, jnp.ones(3))


def test_optimizers_and_states_that_do_not_fit_the_tables_are_refused():
    given, tx = tables(), sparse.rmsprop(0.1)
    states = {k: tx.init(x) for k, x in given.items()}

    def f(tx, states):
        return sparse.value_and_row_grad(loss, tx)(WEIGHTS, given, states, USERS, ITEMS)

    name = "`sparse.value_and_row_grad"
    with pytest.raises(ValueError, match=f"^{name}`: .* trees like the tables, .*user"):
        f(tx, states["user"])
    with pytest.raises(TypeError, match=rf"^{name}\(tx=...\)` must be a `SparseTr"):
        f(dict.fromkeys(given, rmsprop(0.1)), states)
    with pytest.raises(ValueError, match=f"^{name}`: the state does .* trace is N"):
        f(sparse.rmsprop(0.1, momentum=0.9), states)


def test_flax_embed_and_dense_layers_in_one_step():
    """The example of docs/large-tables.md, beside the same run with a dense table."""
    nnx = pytest.importorskip("flax.nnx")

    class Model(nnx.Module):
        def __init__(self, rngs):
            self.embed = nnx.Embed(50, 4, rngs=rngs)
            self.out = nnx.Linear(4, 1, rngs=rngs)

        def __call__(self, ids):
            return self.out(self.embed(ids))

    def is_table(path, _):
        return path[-1] == "embedding"

    graph, tables, params = nnx.split(Model(nnx.Rngs(0)), is_table, nnx.Param)
    table = tables["embed"]["embedding"][...]

    def mean_square(params, table, ids, targets):
        model = nnx.merge(graph, tables, params)
        model.embed = table.__getitem__
        return jnp.mean((model(ids)[:, 0] - targets) ** 2)

    def dense(both, ids, targets):
        tables, params = both
        model = nnx.merge(graph, tables, params)
        return jnp.mean((model(ids)[:, 0] - targets) ** 2)

    tx, rows_tx = rmsprop(0.01, momentum=0.9), sparse.rmsprop(0.01, momentum=0.9)
    f = sparse.value_and_row_grad(mean_square, rows_tx)

    @quick_jit
    def step(params, state, table, rows_state, ids, targets):
        _, (g, rows) = f(params, table, rows_state, ids, targets)
        updates, state = tx.update(g, state, params)
        table, rows_state = rows_tx.update(table, rows_state, *rows)
        return optax.apply_updates(params, updates), state, table, rows_state

    @quick_jit
    def dense_step(both, state, ids, targets):
        g = jax.grad(dense)(both, ids, targets)
        updates, state = tx.update(g, state, both)
        return optax.apply_updates(both, updates), state

    carry = params, tx.init(params), table, rows_tx.init(table)
    both = (tables, params)
    state = tx.init(both)
    rng = np.random.default_rng(0)
    for _ in range(10):
        ids = jnp.asarray(rng.integers(0, 50, 6))
        targets = jnp.asarray(rng.standard_normal(6), jnp.float32)
        carry = step(*carry, ids, targets)
        both, state = dense_step(both, state, ids, targets)
    table, _ = rows_tx.flush(*carry[2:])
    want = both[0]["embed"]["embedding"][...]
    chex.assert_trees_all_close(table, want, rtol=0, atol=1e-5)
    chex.assert_trees_all_close(carry[0], both[1], rtol=0, atol=1e-5)


def test_a_checkpoint_holds_dense_and_sparse_state():
    serialization = pytest.importorskip("flax.serialization")
    tx, rows_tx = rmsprop(0.1), sparse.rmsprop(0.1, centered=True, storage="uint8")
    table, params = jnp.ones((4, 2)), {"w": jnp.ones(3)}
    rows_state = rows_tx.init(table)
    update = quick_jit(rows_tx.update)
    table, rows_state = update(table, rows_state, jnp.asarray([2]), jnp.ones((1, 2)))
    saved = (params, tx.init(params), table, rows_state)
    written = serialization.to_bytes(saved)
    template = jax.tree.map(np.zeros_like, saved)
    chex.assert_trees_all_equal(serialization.from_bytes(template, written), saved)
