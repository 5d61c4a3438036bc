"""One device, meshes of automatic and meshes of explicit axes: gathers and values."""

import collections
import contextlib
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from rmsprop_jax import (
    master_weights,
    rmsprop,
    scale_by_rmsprop,
    sharding,
    trace,
)

KINDS = (AxisType.Auto, AxisType.Explicit)
if not (hasattr(jax.sharding, "reshard") and hasattr(jax, "set_mesh")):
    KINDS = KINDS[:1]  # explicit meshes came later
DECOUPLED = dict(weight_decay=0.01, decoupled_weight_decay=True)

GATHERED = {
    "plain": lambda: rmsprop(0.1),
    "centered": lambda: rmsprop(0.1, centered=True),
    "momentum": lambda: rmsprop(0.1, momentum=0.9, nesterov=True),
    "bfloat16": lambda: rmsprop(0.1, momentum=0.9, storage="bfloat16"),
    "uint8": lambda: rmsprop(0.1, momentum=0.9, storage="uint8", weight_decay=0.01),
    "decoupled": lambda: rmsprop(0.1, momentum=0.9, **DECOUPLED),
    "masters": lambda: master_weights(rmsprop(0.1, momentum=0.9, **DECOUPLED)),
    "trace": lambda: trace(0.9),
}


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("make", GATHERED)
def test_zero1_gathers_each_update_once(make, kind):
    mesh = jax.make_mesh((8,), ("data",), axis_types=(kind,))
    everywhere, tx = NamedSharding(mesh, P()), GATHERED[make]()
    dtype = jnp.bfloat16 if make == "masters" else jnp.float32
    params = jax.device_put(jnp.ones((16, 4), dtype), everywhere)
    shardings = sharding.zero1_shardings(tx, params, mesh)
    state = sharding.init_sharded(tx, params, shardings)
    update = jax.jit(tx.update, out_shardings=(everywhere, shardings))
    text = update.lower(params, state, params).compile().as_text()
    names = "all-gather|all-reduce|reduce-scatter|all-to-all|collective-permute"
    found = collections.Counter(re.findall(rf" ({names})(?:-start)?\(", text))
    assert found == {"all-gather": 1}


@pytest.mark.skipif(len(KINDS) == 1, reason="explicit meshes came later")
@pytest.mark.parametrize("make", ("decoupled", "masters", "trace"))
def test_updates_have_the_type_of_their_gradients_and_states_their_own(make):
    """Gradients sharded over one axis, their state over that and another one."""
    kinds = (AxisType.Explicit,) * 2
    mesh = jax.make_mesh((2, 4), ("data", "model"), axis_types=kinds)
    tx, where = GATHERED[make](), NamedSharding(mesh, P("model"))
    dtype = jnp.bfloat16 if make == "masters" else jnp.float32
    params = jax.device_put(jnp.ones((16, 3), dtype), where)
    shardings = sharding.zero1_shardings(tx, params, mesh, "data", where)
    with jax.set_mesh(mesh):
        state = sharding.init_sharded(tx, params, shardings)
        updates, after = jax.jit(tx.update)(params, state, params)
    assert jax.typeof(updates).sharding.spec == P("model", None)
    types = ([jax.typeof(x) for x in jax.tree.leaves(t)] for t in (state, after))
    chex.assert_equal(*types)
    specs = {x.sharding.spec for x in jax.tree.leaves(after)}
    assert P(("model", "data"), None) in specs


@pytest.fixture(autouse=True)
def as_users_compile(compile_quickly):
    """With LLVM's optimizations: they decide which products and sums are contracted."""
    jax.config.update("jax_disable_most_optimizations", False)


SHAPES = {"a": (136, 7), "b": (13, 5), "c": (9,), "d": (24,)}
COMPARED = {
    "lr_in_momentum": lambda: rmsprop(0.01, momentum=0.9, centered=True),
    "float32": lambda: rmsprop(0.01),
    "masters": lambda: master_weights(
        rmsprop(0.01, momentum=0.9, storage="uint8", **DECOUPLED)
    ),
    "coupled": lambda: rmsprop(0.01, bias_correction=True, weight_decay=0.01),
    "scheduled": lambda: rmsprop(
        optax.linear_schedule(0.01, 0, 9), storage="bfloat16", **DECOUPLED
    ),
    "pytorch": lambda: rmsprop(
        0.01, eps_in_sqrt=False, momentum=0.9, nesterov=True, lr_in_momentum=False
    ),
}


def follow(tx, dtype, mesh=None, zero1=False):
    """Return parameters and state after each of three steps."""
    rng = np.random.default_rng(0)
    params, *gs = (
        {k: rng.standard_normal(s) * 10 ** rng.uniform(-3, 1, s) for k, s in sizes}
        for sizes in [SHAPES.items()] * 4
    )
    params = jax.tree.map(lambda p: jnp.asarray(p, dtype), params)
    gs = jax.tree.map(lambda g: jnp.asarray(g, jnp.float32), gs)
    state, where, results = tx.init(params), None, []
    if mesh:
        own = {k: s[0] % 8 == 0 and not zero1 for k, s in SHAPES.items()}
        where = {k: NamedSharding(mesh, P("data") if own[k] else P()) for k in SHAPES}
        shardings = sharding.zero1_shardings(tx, params, mesh, "data", where)
        params, state = jax.device_put((params, state), (where, shardings))
        gs = [jax.device_put(g, where) for g in gs]
        where = (where, shardings)

    def step(params, state, g):
        u, state = tx.update(g, state, params)
        with jax.numpy_dtype_promotion("standard"):
            return optax.apply_updates(params, u), state

    step = jax.jit(step, out_shardings=where)
    for g in gs:
        params, state = step(params, state, g)
        results.append(jax.tree.map(np.asarray, (params, state)))
    return results


def each_mesh():
    """Give each kind of mesh, with parameters sharded or ZeRO-1."""
    for kind in KINDS:
        for zero1 in (False, True):
            mesh = jax.make_mesh((8,), ("data",), axis_types=(kind,))
            with jax.set_mesh(mesh) if len(KINDS) > 1 else contextlib.nullcontext():
                yield dict(mesh=mesh, zero1=zero1)


@pytest.mark.parametrize("make", COMPARED)
@pytest.mark.rows(2)
def test_parameters_and_state_are_those_of_one_device(make):
    """Bit for bit, in parts whose size is a multiple of nothing."""
    tx, dtype = COMPARED[make](), jnp.bfloat16 if make == "masters" else jnp.float32
    alone = follow(tx, dtype)
    for where in each_mesh():
        chex.assert_trees_all_equal(follow(tx, dtype, **where), alone)


@pytest.mark.long
def test_a_rate_of_optax_gives_the_state_of_one_device_and_rounded_parameters():
    """There `-rate*u` may be contracted with the addition to the parameter."""
    tx = optax.chain(scale_by_rmsprop(), optax.scale(-0.01))
    alone = follow(tx, jnp.float32)
    for where in each_mesh():
        got = follow(tx, jnp.float32, **where)
        chex.assert_trees_all_equal(*([s for _, s in x] for x in (got, alone)))
        parameters = ([p for p, _ in x] for x in (got, alone))
        chex.assert_trees_all_close(*parameters, rtol=1e-6, atol=1e-8)
