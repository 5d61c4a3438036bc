"""What has no moments of ours in it is not converted, and not given back either."""

import chex
import jax
import jax.numpy as jnp
import optax
import pytest

from rmsprop_jax import master_weights, rmsprop, scale_by_rmsprop, sparse
from rmsprop_jax.interop import storage

PARAMS = {"w": jnp.ones((3, 2)), "b": jnp.ones(2)}
TABLE = sparse.rmsprop(0.1).init(jnp.ones((3, 2)))


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        (optax.adam(0.1).init(PARAMS), "tuple"),
        (optax.rmsprop(0.1).init(PARAMS), "tuple"),
        (PARAMS, "dict"),
        (jnp.ones(3), "Array"),
    ],
)
def test_a_state_of_something_else_is_refused(state, kind):
    match = rf"^`interop.storage.convert`: there is no RMSPropState .*got {kind}"
    with pytest.raises(ValueError, match=match):
        storage.convert(state, after="uint8")


@pytest.mark.parametrize(
    "state", [TABLE, {"embedding": TABLE, "others": rmsprop(0.1).init(PARAMS)}]
)
def test_a_state_of_a_table_is_refused(state):
    """Also beside another one: half of a conversion is none."""
    match = "^`interop.storage.convert`: .* TableState of `sparse.rmsprop`"
    with pytest.raises(ValueError, match=match):
        storage.convert(state, after="uint8")


def test_an_unknown_format_is_named_as_it_was_given():
    state = scale_by_rmsprop().init(PARAMS)
    for given in ({"after": "uint9"}, {"before": "uint9", "after": "uint8"}):
        word = min(given, key=lambda key: given[key] != "uint9")
        match = rf"storage.convert\({word}=...\)` must be one of .*got 'uint9'"
        with pytest.raises(ValueError, match=match):
            storage.convert(state, **given)


def test_wherever_ours_is():
    """Inside wrappers; without parameters; behind another optimizer."""

    def inside(kept):
        return optax.chain(
            optax.masked(optax.adam(0.1), {"w": False, "b": True}),
            optax.MultiSteps(master_weights(rmsprop(0.1, storage=kept)), 2),
        )

    for make, params in (
        (inside, jax.tree.map(lambda x: x.astype(jnp.bfloat16), PARAMS)),
        (lambda kept: scale_by_rmsprop(storage=kept), {}),
    ):
        found = storage.convert(make("float32").init(params), after="uint8")
        chex.assert_trees_all_equal(found, make("uint8").init(params))


def test_narrow_storage_has_forgotten_the_64_bits(x64):
    """As the docstring says, with what it says to do about it."""
    params = {"w": jnp.ones(2, jnp.float64), "b": jnp.ones(2, jnp.float32)}
    narrow = scale_by_rmsprop(storage="uint8").init(params)
    found = storage.convert(narrow, before="uint8", after="float32")
    assert found.s["w"].dtype == jnp.float32
    like = scale_by_rmsprop().init(params)
    found = jax.tree.map(lambda x, y: x.astype(y.dtype), found, like)
    chex.assert_trees_all_equal_dtypes(found, like)
