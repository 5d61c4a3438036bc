"""One device, meshes of automatic and meshes of explicit axes: gathers and values."""

import collections
import re

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from rmsprop_jax import master_weights, rmsprop, sharding

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
