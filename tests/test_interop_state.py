"""The state that an import gives: that of the template, whatever holds it."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec

from rmsprop_jax import dialects, rmsprop, scale_by_rmsprop
from rmsprop_jax.interop import keras, torch

PARAMS = {"layer": {"kernel": jnp.zeros((2, 8)), "bias": jnp.zeros(8)}}
MAPPING = torch.flax_mapping(PARAMS, {"layer": "0"})
SQUARES = {"0.weight": np.arange(16.0).reshape(8, 2), "0.bias": np.arange(8.0)}
RULE = dict(eps_in_sqrt=False, lr_in_momentum=False)


def saved(step=30, momentum=False, centered=False, names=True, **group):
    """Give a state dict; means are a tenth, buffers twice the squares."""
    state = {}
    for number, square in enumerate(SQUARES.values()):
        square = square.astype(np.float32)
        state[number] = {"step": np.float32(step), "square_avg": square}
        if centered:
            state[number]["grad_avg"] = square / 10
        if momentum:
            state[number]["momentum_buffer"] = 2 * square
    group |= {"momentum": 0.9 * momentum, "centered": centered, "params": [0, 1]}
    group |= {"param_names": list(SQUARES)} if names else {}
    return {"state": state, "param_groups": [group]}


def fill(tx, params=PARAMS, **options):
    """Import into a transformation; the structure and the types are the template's."""
    template = tx.init(params)
    state = torch.from_state_dict(saved(**options), template, MAPPING)
    chex.assert_trees_all_equal_shapes_and_dtypes(state, template)
    weak = [x.weak_type for x in jax.tree.leaves(template)]
    assert [x.weak_type for x in jax.tree.leaves(state)] == weak
    back = torch.to_state_dict(state, saved(**options) | {"state": {}}, MAPPING)
    chex.assert_trees_all_equal(back, saved(**options))
    return state


def test_bare():
    state = fill(scale_by_rmsprop())
    assert state.count == 30
    np.testing.assert_array_equal(state.s["layer"]["kernel"], SQUARES["0.weight"].T)


def test_counts_of_schedules():
    tx = rmsprop(
        optax.constant_schedule(0.1),
        momentum=0.9,
        weight_decay=0.1,
        decoupled_weight_decay=True,
        **RULE,
    )
    state = fill(tx, momentum=True)
    counts = [x for x in jax.tree.leaves(state) if x.dtype == jnp.int32]
    assert len(counts) == 4 and all(count == 30 for count in counts)


def test_injected_hyperparameters():
    tx = optax.inject_hyperparams(rmsprop)(
        optax.linear_schedule(1.0, 0.0, 100), momentum=0.9, **RULE
    )
    state = fill(tx, momentum=True)
    assert state.count == state.hyperparams_states["learning_rate"].count == 30
    _, state = jax.jit(tx.update)(PARAMS, state)
    np.testing.assert_allclose(state.hyperparams["learning_rate"], 0.7)


def test_chain_around_a_chain():
    tx = optax.chain(optax.clip(1.0), rmsprop(0.1, centered=True, eps_in_sqrt=False))
    assert fill(tx, centered=True)[1][0].count == 30


def test_partition_and_mask():
    """Each parameter's moments go to the transformation that has it."""
    labels = {"layer": {"kernel": "a", "bias": "b"}}
    tx = optax.partition({"a": rmsprop(0.1), "b": rmsprop(0.2)}, labels)
    a, b = (fill(tx).inner_states[key].inner_state[0].s["layer"] for key in "ab")
    np.testing.assert_array_equal(a["kernel"], SQUARES["0.weight"].T)
    np.testing.assert_array_equal(b["bias"], SQUARES["0.bias"])
    tx = optax.masked(rmsprop(0.1), {"layer": {"kernel": True, "bias": False}})
    with pytest.raises(ValueError, match="unexpected: square_avg of '0.bias'"):
        fill(tx)


def test_multi_steps():
    tx = optax.MultiSteps(rmsprop(0.1), 4)
    state = fill(tx)
    assert (state.mini_step, state.gradient_step) == (0, 30)


def test_low_precision_parameters():
    params = jax.tree.map(lambda p: p.astype(jnp.bfloat16), PARAMS)
    assert fill(rmsprop(0.1), params)[0].s["layer"]["bias"].dtype == jnp.float32


def test_double_precision_parameters(x64):
    params = jax.tree.map(lambda p: p.astype(jnp.float64), PARAMS)
    template = rmsprop(0.1).init(params)
    state = torch.from_state_dict(saved(), template, MAPPING)
    assert state[0].s["layer"]["bias"].dtype == jnp.float64


def test_shardings_are_those_of_the_template():
    mesh = jax.make_mesh((8,), ("data",))
    split = NamedSharding(mesh, PartitionSpec(None, "data"))
    one = NamedSharding(mesh, PartitionSpec("data"))
    shardings = {"layer": {"kernel": split, "bias": one}}
    params = jax.device_put(PARAMS, shardings)
    tx = rmsprop(0.1, momentum=0.9, centered=True, **RULE)
    template = tx.init(params)
    state = torch.from_state_dict(
        saved(momentum=True, centered=True), template, MAPPING
    )
    for got, want in zip(
        jax.tree.leaves(state), jax.tree.leaves(template), strict=True
    ):
        assert got.sharding == want.sharding
        assert got.committed == want.committed
    assert state[0].s["layer"]["kernel"].sharding == split
    jax.jit(tx.update)(params, state, params)  # all of it may meet the parameters
    back = torch.to_state_dict(state, saved(momentum=True, centered=True), MAPPING)
    chex.assert_trees_all_equal(back, saved(momentum=True, centered=True))


def test_template_of_shapes():
    tx = rmsprop(0.1)
    mesh = jax.make_mesh((8,), ("data",))
    shapes = jax.eval_shape(tx.init, PARAMS)
    state = torch.from_state_dict(saved(), shapes, MAPPING)
    chex.assert_trees_all_equal(
        state, torch.from_state_dict(saved(), tx.init(PARAMS), MAPPING)
    )
    everywhere = NamedSharding(mesh, PartitionSpec())
    shapes = jax.tree.map(lambda x: x.update(sharding=everywhere), shapes)
    state = torch.from_state_dict(saved(), shapes, MAPPING)
    assert all(x.sharding == everywhere for x in jax.tree.leaves(state))


def test_nnx_optimizer():
    class Model(nnx.Module):
        def __init__(self, rngs):
            self.layer = nnx.Linear(2, 8, rngs=rngs)

    model = Model(nnx.Rngs(0))
    tx = dialects.torch(0.1, momentum=0.9, centered=True)
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    params = nnx.state(model, nnx.Param)
    mapping = torch.flax_mapping(params, {"layer": "0"})
    assert mapping == MAPPING
    options = dict(momentum=True, centered=True)
    optimizer.opt_state = torch.from_state_dict(
        saved(**options), optimizer.opt_state, mapping
    )
    nnx.update(model, torch.from_weights(SQUARES, params, mapping))
    np.testing.assert_array_equal(model.layer.kernel[...], SQUARES["0.weight"].T)
    back = torch.to_state_dict(optimizer.opt_state, saved(**options), mapping)
    chex.assert_trees_all_equal(back, saved(**options))
    nnx.jit(lambda optimizer, model: optimizer.update(model, nnx.state(model)))(
        optimizer, model
    )
    assert int(optimizer.opt_state[0].count[...]) == 31


@dataclasses.dataclass(frozen=True)
class Half:
    """A format that keeps float16 and nothing else of note."""

    signed = True
    stochastic = False

    def init(self, like, fill, dtype):
        return jnp.full_like(like, fill, dtype=jnp.float16)

    def encode(self, x, bits):
        del bits
        return x.astype(jnp.float16)

    def decode(self, stored):
        return stored.astype(jnp.float32)


def test_storage_is_that_of_the_template():
    options = dict(momentum=True, centered=True)
    tx = rmsprop(0.1, momentum=0.9, centered=True, storage=Half(), **RULE)
    given = saved(**options)
    state = torch.from_state_dict(given, tx.init(PARAMS), MAPPING, storage=Half())
    assert state[1].trace["layer"]["bias"].dtype == jnp.float16
    back = torch.to_state_dict(state, given, MAPPING, storage=Half())
    for number, kept in given["state"].items():
        for slot, x in kept.items():
            assert back["state"][number][slot].dtype == np.float32
            np.testing.assert_allclose(back["state"][number][slot], x, rtol=1e-3)
    with pytest.raises(ValueError, match=r"is float16, which storage `Float32\(\)`"):
        torch.from_state_dict(given, tx.init(PARAMS), MAPPING)
    with pytest.raises(ValueError, match=r"is float16, which storage `Float32\(\)`"):
        torch.to_state_dict(state, given, MAPPING)
    with pytest.raises(
        ValueError, match=r"from_state_dict\(storage=...\)` must be one"
    ):
        torch.from_state_dict(given, tx.init(PARAMS), MAPPING, storage="float8")


@pytest.mark.parametrize(("storage", "error"), [("bfloat16", 2**-8), ("uint8", 2**-3)])
def test_narrow_storage_is_read_and_written(storage, error):
    """s in its format, m and momentum in bfloat16; rounded to nearest, and once."""
    options = dict(momentum=True, centered=True)
    tx = rmsprop(0.1, momentum=0.9, centered=True, storage=storage, **RULE)
    given, template = saved(**options), tx.init(PARAMS)
    state = torch.from_state_dict(given, template, MAPPING, storage=storage)
    chex.assert_trees_all_equal_shapes_and_dtypes(state, template)
    back = torch.to_state_dict(state, given, MAPPING, storage=storage)
    again = torch.from_state_dict(back, template, MAPPING, storage=storage)
    for number, kept in given["state"].items():
        for slot, x in kept.items():
            got = back["state"][number][slot]
            np.testing.assert_allclose(got, x, rtol=2 * error, atol=1e-6)
    chex.assert_trees_all_equal(again[1], state[1])


def test_timm_keeps_steps_and_subtracts_them():
    state_dict = saved(momentum=True, lr_in_momentum=True)
    state = torch.from_state_dict(
        state_dict, dialects.timm(0.1, momentum=0.9).init(PARAMS), MAPPING
    )
    trace = state[2].trace["layer"]["bias"]
    np.testing.assert_array_equal(trace, -2 * SQUARES["0.bias"])


def test_bitsandbytes():
    """32-bit, with and without the wrapping that hides the moments from FSDP."""
    group = {"params": [0, 1], "lr": 0.1, "betas": (0.99, 0.9), "eps": 1e-8}
    group |= {"weight_decay": 0.0}
    plain = {
        number: {"step": 30, "state1": square}
        for number, square in enumerate(SQUARES.values())
    }
    nested = {
        number: {
            "step": 30,
            "__bnb_optimizer_quant_state__": {"state1": kept["state1"]},
        }
        for number, kept in plain.items()
    }
    tx = dialects.bitsandbytes(**torch.options({"state": {}, "param_groups": [group]}))
    for state in (plain, nested):
        given = {"state": state, "param_groups": [group]}
        got = torch.from_state_dict(
            given, tx.init(PARAMS), MAPPING, names=list(SQUARES)
        )
        np.testing.assert_array_equal(got[0].s["layer"]["bias"], SQUARES["0.bias"])
        back = torch.to_state_dict(got, given, MAPPING, names=list(SQUARES))
        chex.assert_trees_all_equal(back["state"], plain)
    eight = {0: nested[0], 1: nested[1] | {"qmap1": 0, "absmax1": 0}}
    with pytest.raises(ValueError, match=r"state1 of '0.bias' \(8-bit moments do not"):
        given = {"state": eight, "param_groups": [group]}
        torch.from_state_dict(given, tx.init(PARAMS), MAPPING, names=list(SQUARES))


@pytest.mark.parametrize("path", ["w", ""])
def test_complex_parameters_have_moments_of_their_parts(path):
    """Also where an infinite part would make the other one NaN in an addition."""
    square = np.array([1 + 2j, 3 + np.inf * 1j, 0.5j], np.complex64)
    square.real[1] = 3
    group = {"params": [0], "param_names": ["w"], "momentum": 0.9}
    kept = {"step": np.float32(5), "square_avg": square}
    kept["momentum_buffer"] = np.array([1j, 2, 3], np.complex64)
    given = {"state": {0: kept}, "param_groups": [group]}
    params = jnp.zeros(3, jnp.complex64)
    template = dialects.torch(0.1, momentum=0.9).init({"w": params} if path else params)
    state = torch.from_state_dict(given, template, {"w": path})
    s = state[0].s["w"] if path else state[0].s
    np.testing.assert_array_equal(s.real, [1, 3, 0])
    np.testing.assert_array_equal(s.imag, [2, np.inf, 0.5])
    back = torch.to_state_dict(state, given, {"w": path})
    chex.assert_trees_all_equal(back, given)
    bad = given | {"state": {0: kept | {"square_avg": square[:2]}}}
    with pytest.raises(ValueError, match=r"of 'w': got \(2,\), expected \(3,\) for"):
        torch.from_state_dict(bad, template, {"w": path})


def test_names_for_numbers():
    """From FSDP, whose numbers are names; from the file; or from the caller."""
    named = saved(names=False)
    named["param_groups"][0]["params"] = list(SQUARES)
    named["state"] = dict(zip(SQUARES, named["state"].values(), strict=True))
    template = scale_by_rmsprop().init(PARAMS)
    want = torch.from_state_dict(saved(), template, MAPPING)
    chex.assert_trees_all_equal(torch.from_state_dict(named, template, MAPPING), want)
    bare = saved(names=False)
    got = torch.from_state_dict(bare, template, MAPPING, names=list(SQUARES))
    chex.assert_trees_all_equal(got, want)
    for names in (None, ["0.weight"]):
        with pytest.raises(ValueError, match=r"names=.*must name the 2 parameters"):
            torch.from_state_dict(bare, template, MAPPING, names=names)


def test_the_count_stops_at_its_maximum():
    template = scale_by_rmsprop().init(PARAMS)
    state = torch.from_state_dict(saved(step=2**40), template, MAPPING)
    assert state.count == 2**31 - 1


def test_keras_lists_what_does_not_fit():
    variables = {"rmsprop/w_velocity": np.ones(3), "rmsprop/w_average": np.ones(3)}
    variables |= {"rmsprop/v_velocity": np.ones(3), "rmsprop/w_momentum": np.ones(3)}
    template = scale_by_rmsprop().init(jnp.ones(3))
    with pytest.raises(ValueError) as raised:
        keras.from_variables(variables, template, {"w": ""})
    assert str(raised.value).splitlines()[:-1] == [
        "`interop.keras.from_variables`: does not fit.",
        "  missing: 'iteration'",
        "  unexpected: 'w_average' (of `use_ema`: leave it out here, and see "
        "`interop.keras.averages`)",
        "  unexpected: velocity of 'v', which the mapping lacks",
        "  unexpected: momentum, which the target does not keep",
    ]
    paths = ["rmsprop/iteration", "rmsprop/learning_rate", "rmsprop/v_velocity"]
    with pytest.raises(ValueError) as raised:
        keras.to_variables(template, {"w": ""}, paths)
    assert str(raised.value).splitlines()[:-1] == [
        "`interop.keras.to_variables`: does not fit.",
        "  missing: 'learning_rate'",
        "  missing: velocity of 'v', for which the mapping has no name",
        "  unexpected: velocity of the root, for there is no 'w'",
    ]


def test_keras_needs_paths_for_numbers():
    with pytest.raises(ValueError, match=r"paths=.*must name the 2 variables.*none"):
        keras.from_variables(
            {"0": 1, "1": np.ones(3)}, scale_by_rmsprop().init(jnp.ones(3)), {"w": ""}
        )
