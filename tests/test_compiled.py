"""What XLA makes of one step: passes over memory, temporaries, aliasing.

Counted in the compiled program of the CPU, where the figures in docs come from.
"""

import re

import jax
import jax.numpy as jnp
import optax
import pytest

from rmsprop_jax import rmsprop

SHAPE = (256, 256)
SIZE = 4 * 256 * 256

# Options and the number of loops over a parameter that one step takes. Two is what XLA
# on CPU makes of the smallest step, of `optax.rmsprop` too: one for s, one for p.
PASSES = [
    ({}, 2),
    (dict(eps_in_sqrt=False), 2),
    (dict(eps=0.0), 2),
    (dict(nonfinite="hold"), 2),
    (dict(bias_correction=True), 2),
    (dict(weight_decay=0.1), 2),
    (dict(weight_decay=0.1, decoupled_weight_decay=True), 2),
    (dict(centered=True), 3),
    (dict(centered=True, bias_correction=True), 3),
    (dict(momentum=0.9), 3),
    (dict(momentum=0.9, lr_in_momentum=False), 3),
    (dict(centered=True, momentum=0.9), 4),
]


def compiled(tx, leaves=1):
    """Compile one donated step on equal leaves; give the bytes that it must keep."""

    def step(params, state, g):
        updates, state = tx.update(g, state, params)
        return optax.apply_updates(params, updates), state

    params = {str(k): jnp.zeros(SHAPE) for k in range(leaves)}
    state = tx.init(params)
    kept = sum(x.nbytes for x in jax.tree.leaves((params, state)))
    jitted = jax.jit(step, donate_argnums=(0, 1))
    return jitted.lower(params, state, params).compile(), kept


def passes(program):
    """Count the loops of the entry computation that yield a parameter-sized array."""
    entry = program.as_text().split("\nENTRY ")[1]
    array = re.escape("f32[256,256]")
    return len(re.findall(rf"= {array}\S* (?:fusion|copy|call)\(", entry))


@pytest.mark.parametrize(("options", "count"), PASSES, ids=str)
def test_passes_temporaries_and_aliasing(options, count):
    program, kept = compiled(rmsprop(1e-3, **options))
    memory = program.memory_analysis()
    assert passes(program) == count
    assert memory.temp_size_in_bytes < SIZE / 64
    assert memory.alias_size_in_bytes == kept


def test_optax_takes_as_many_passes():
    program, _ = compiled(optax.rmsprop(1e-3))
    assert passes(program) == 2


def test_a_stored_gradient_shows_as_a_temporary():
    """The measure can fail: a product that XLA cannot fuse into the step."""
    square = optax.stateless(lambda g, _: jax.tree.map(lambda x: x @ x, g))
    program, _ = compiled(optax.chain(square, rmsprop(1e-3)))
    assert program.memory_analysis().temp_size_in_bytes >= SIZE


def test_fresh_parameters_and_state_can_be_donated():
    tx = rmsprop(1e-3, centered=True, momentum=0.9)
    params = {"a": jnp.zeros(SHAPE), "b": jnp.zeros(SHAPE)}
    for init in (tx.init, jax.jit(tx.init)):
        state = init(params)
        step = jax.jit(lambda p, s: tx.update(p, s, p), donate_argnums=(0, 1))
        jax.block_until_ready(step(jax.tree.map(jnp.copy, params), state))
        assert all(x.is_deleted() for x in jax.tree.leaves(state) if x.nbytes > 4)


def test_eager_init_keeps_the_sharding():
    mesh = jax.make_mesh((8,), ("data",))
    spec = jax.sharding.PartitionSpec("data")
    sharding = jax.sharding.NamedSharding(mesh, spec)
    params = jax.device_put(jnp.ones((16, 3)), sharding)
    tx = rmsprop(1e-3, centered=True, momentum=0.9)
    state = tx.init(params)
    _, after = jax.jit(tx.update)(params, state)
    for x in jax.tree.leaves((state, after)):
        if x.ndim:
            assert x.sharding.is_equivalent_to(sharding, x.ndim)
