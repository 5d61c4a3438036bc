"""What XLA makes of one step: passes over memory, temporaries, aliasing.

Counted in the compiled program of the CPU, where the figures in docs come from.
"""

import re

import jax
import jax.numpy as jnp
import optax
import pytest

from rmsprop_jax import master_weights, rmsprop

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


COLLECTIVES = re.compile(
    r"all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter|send|recv"
)


def compiled(tx, leaves=1, dtype=jnp.float32, place=lambda x: x):
    """Compile one donated step on equal leaves; give the bytes that it must keep."""

    def step(params, state, g):
        updates, state = tx.update(g, state, params)
        return optax.apply_updates(params, updates), state

    params = {str(k): place(jnp.zeros(SHAPE, dtype)) for k in range(leaves)}
    state = tx.init(params)
    kept = sum(x.nbytes for x in jax.tree.leaves((params, state)))
    jitted = jax.jit(step, donate_argnums=(0, 1))
    as_users = {"xla_cpu_use_fusion_emitters": True}  # the other tests do not
    # Master weights give float32 updates, to be added to narrow parameters.
    with jax.numpy_dtype_promotion("standard"):
        return jitted.lower(params, state, params).compile(as_users), kept


def passes(program, dtype=r"\w+", shape="256,256"):
    """Count the loops of the entry computation that yield a parameter-sized array."""
    entry = program.as_text().split("\nENTRY ")[1]
    array = rf"{dtype}\[{shape}\]"
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


def small(inner):
    return master_weights(inner, bits=24)


# Dtype of the parameters, how they are trained, the float32 arrays of their size that
# the step makes, and the bytes of temporaries for each parameter. With float32
# parameters the one array is the new parameters. With master weights there are two
# results of one division, which XLA on CPU does not compute twice.
NARROW = [
    (jnp.float32, lambda: rmsprop(1e-3, storage="bfloat16"), 1, 2),
    (jnp.float32, lambda: rmsprop(1e-3, storage="uint8"), 1, 1),
    (jnp.bfloat16, lambda: rmsprop(1e-3, storage="uint8"), 0, 1),
    (jnp.bfloat16, lambda: small(rmsprop(1e-3, storage="uint8")), 2, 12),
    (jnp.bfloat16, lambda: small(optax.sgd(1e-3)), 0, 3),
]


@pytest.mark.parametrize(("dtype", "make", "wide", "temporary"), NARROW)
def test_float32_temporaries_of_narrow_storage(dtype, make, wide, temporary):
    program, kept = compiled(make(), dtype=dtype)
    memory = program.memory_analysis()
    assert passes(program, "f32") <= wide
    assert memory.temp_size_in_bytes < (temporary + 0.1) * SIZE / 4
    assert memory.alias_size_in_bytes == kept


@pytest.mark.parametrize("storage", ("bfloat16", "uint8"))
@pytest.mark.rows(1)
def test_narrow_storage_copies_a_few_leaves_at_a_time(storage):
    """What was stored is copied before it is overwritten; with 32 leaves not all."""
    program, kept = compiled(rmsprop(1e-3, storage=storage), leaves=32)
    copies = 32 * SIZE / 4 * (2 if storage == "bfloat16" else 1)
    assert program.memory_analysis().temp_size_in_bytes < copies / 4


def kernels(program):
    """Give the different loops over a parameter, without the names in them."""
    loop = r"\n%fused_\S+ (\([^\n]* -> \w+\[256,256\].*?\n\})"
    loops = re.findall(loop, program.as_text(), re.DOTALL)
    names = re.compile(r"%[\w.-]+|\w+(\.\d+)?:|, metadata=\{.*?\}")
    return {names.sub("", loop) for loop in loops}


@pytest.mark.parametrize("storage", ("float32", "bfloat16", "uint8"))
def test_leaves_of_one_shape_are_compiled_once(storage):
    tx = rmsprop(1e-3, centered=True, momentum=0.9, storage=storage)
    one, many = (kernels(compiled(tx, leaves)[0]) for leaves in (1, 3))
    assert len(one) > 2 and many == one


def test_a_leaf_with_a_number_of_its_own_shows():
    """The measure can fail: a number baked into the program of each leaf."""
    numbered = optax.stateless(lambda g, _: {k: x * float(k) for k, x in g.items()})
    program, _ = compiled(optax.chain(numbered, rmsprop(1e-3)), leaves=3)
    assert len(kernels(program)) > len(kernels(compiled(rmsprop(1e-3), 3)[0]))


@pytest.mark.parametrize("spec", (("x",), ("x", "y"), (("y", "x"), None)), ids=str)
@pytest.mark.parametrize("storage", ("float32", "bfloat16", "uint8"))
@pytest.mark.rows(3)
def test_an_update_of_sharded_leaves_has_no_collective(storage, spec):
    mesh = jax.make_mesh((4, 2), ("x", "y"))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*spec))
    tx = rmsprop(1e-3, centered=True, momentum=0.9, storage=storage)
    program, _ = compiled(tx, place=lambda x: jax.device_put(x, sharding))
    assert not COLLECTIVES.search(program.as_text())
    assert "[256,256]" not in program.as_text()  # each device has its part


def test_a_sharded_master_weight_update_has_no_collective():
    mesh = jax.make_mesh((8,), ("x",))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("x"))
    tx = small(rmsprop(1e-3, storage="uint8"))
    program, _ = compiled(
        tx, dtype=jnp.bfloat16, place=lambda x: jax.device_put(x, sharding)
    )
    assert not COLLECTIVES.search(program.as_text())


def test_a_collective_shows():
    """The measure can fail: a norm over all devices."""
    mesh = jax.make_mesh((8,), ("x",))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("x"))
    tx = optax.chain(optax.clip_by_global_norm(1.0), rmsprop(1e-3))
    program, _ = compiled(tx, place=lambda x: jax.device_put(x, sharding))
    assert COLLECTIVES.search(program.as_text())


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
