"""Every tree that optax users have, and every way that they run one."""

import dataclasses

import chex
import hypothesis
import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import oracle
import pytest

from rmsprop_jax import master_weights, rmsprop, scale_by_rmsprop

OPTIONS = dict(centered=True, momentum=0.9, weight_decay=0.1)


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Layer:
    w: jax.Array
    b: jax.Array


TREES = {
    "empty dict": {},
    "scalar": jnp.asarray(2.0),
    "zero-size": jnp.zeros((0, 3)),
    "none leaf": {"a": jnp.ones(2), "b": None},
    "nested": {
        "a": [jnp.ones(2), (jnp.ones((2, 2)), {})],
        "b": Layer(*jnp.ones((2, 1))),
    },
    "tuple": (jnp.ones(2), jnp.ones(())),
}


@pytest.mark.parametrize("tree", TREES.values(), ids=TREES)
def test_every_tree_keeps_its_structure(tree):
    tx = rmsprop(0.1, **OPTIONS)
    state = tx.init(tree)
    updates, after = jax.jit(tx.update)(tree, state, tree)
    chex.assert_trees_all_equal_structs(updates, tree)
    chex.assert_trees_all_equal_structs(after, state)
    chex.assert_trees_all_equal_shapes(updates, tree)


def test_each_leaf_is_on_its_own():
    """A leaf in a tree moves as it does alone."""
    tree = {"a": jnp.linspace(-1, 1, 4), "b": {"c": jnp.asarray(3.0)}}
    tx = rmsprop(0.1, **OPTIONS)
    together, _ = tx.update(tree, tx.init(tree), tree)
    alone = jax.tree.map(lambda x: tx.update(x, tx.init(x), x)[0], tree)
    chex.assert_trees_all_equal(together, alone)


def test_a_gradient_that_is_none_leaves_its_state():
    params = {"a": jnp.ones(2), "b": jnp.ones(3)}
    tx = rmsprop(0.1, **OPTIONS)
    state = tx.init(params)
    updates, after = tx.update({"a": jnp.ones(2), "b": None}, state, params)
    assert updates["b"] is None
    chex.assert_trees_all_equal_structs(after, state)
    for kept, given in ((after[1].s, state[1].s), (after[3].trace, state[3].trace)):
        chex.assert_trees_all_equal(kept["b"], given["b"])
        assert bool(jnp.all(kept["a"] != given["a"]))


def test_a_tree_that_is_none():
    tx = rmsprop(0.1, centered=True, momentum=0.9)
    updates, _ = tx.update(None, tx.init(None))
    assert updates is None


def test_python_numbers_are_leaves():
    tx = scale_by_rmsprop()
    u, state = tx.update(1.0, tx.init(2.0))
    np.testing.assert_allclose(u, 1 / np.sqrt(0.1), rtol=1e-5)
    tx = rmsprop(0.1, weight_decay=1.0)
    u, _ = tx.update(-1.0, tx.init(2.0), 2.0)
    np.testing.assert_allclose(u, -0.1 / np.sqrt(0.1), rtol=1e-5)
    tx = rmsprop(0.1)
    u, _ = tx.update(np.ones(2, np.float16), tx.init(np.ones(2, np.float16)))
    assert u.dtype == np.float16
    assert state.s.dtype == jnp.float32 and not state.s.weak_type


def test_masked_and_partitioned():
    params = {"a": jnp.ones(2), "b": jnp.ones(3, jnp.int32)}
    mask = {"a": True, "b": False}
    masked = optax.masked(rmsprop(0.1, **OPTIONS), mask)
    updates, _ = masked.update(params, masked.init(params), params)
    alone = rmsprop(0.1, **OPTIONS)
    want, _ = alone.update(params["a"], alone.init(params["a"]), params["a"])
    chex.assert_trees_all_equal(updates["a"], want)
    split = optax.partition(
        {"train": rmsprop(0.1, **OPTIONS), "freeze": optax.set_to_zero()},
        {"a": "train", "b": "freeze"},
    )
    updates, _ = split.update(params, split.init(params), params)
    chex.assert_trees_all_equal(updates["a"], want)


def test_init_takes_shapes_and_map_params_finds_every_leaf():
    params = {"a": jnp.ones(2), "b": jnp.ones((2, 3), jnp.bfloat16)}
    tx = rmsprop(0.1, **OPTIONS)
    shapes = jax.tree.map(lambda p: jax.ShapeDtypeStruct(p.shape, p.dtype), params)
    want = tx.init(params)
    chex.assert_trees_all_equal(tx.init(shapes), want)
    chex.assert_trees_all_equal_shapes_and_dtypes(jax.eval_shape(tx.init, params), want)
    chex.assert_trees_all_equal(optax.tree.map_params(tx, lambda x: x, want), want)
    specs = optax.tree.map_params(
        tx, lambda _, name: name, want, {"a": "A", "b": "B"}, transform_non_params=str
    )
    assert specs[1].s == specs[1].m == specs[3].trace == {"a": "A", "b": "B"}


def test_each_field_is_found_once():
    tx = rmsprop(0.1, **OPTIONS)
    state = tx.init(jnp.ones(2))
    for field in ("s", "m", "trace"):
        assert optax.tree.get(state, field) is not None
    state = optax.tree.set(state, s=jnp.full(2, 7.0))
    np.testing.assert_array_equal(optax.tree.get(state, "s"), [7.0, 7.0])


@pytest.mark.parametrize("momentum", (None, 0.9))
@pytest.mark.parametrize("rate", (0.1, optax.constant_schedule(0.1)))
def test_the_count_of_a_schedule_is_found_as_with_optax(rate, momentum):
    p = jnp.ones(2)
    counts = []
    for make in (optax.rmsprop, rmsprop):
        tx = make(rate, momentum=momentum)
        state = tx.update(p, tx.init(p), p)[1]
        counts.append(optax.tree.get(state, "count"))
    assert counts[0] == counts[1]


def test_moments_are_read_as_with_optax():
    """`state[0].nu` and `.mu`, of what is kept in float32."""
    gs = jnp.array([[1.0, -2.0], [0.5, 3.0], [-1.0, 0.0]])
    for centered in (False, True):
        kept = []
        for make in (optax.rmsprop, rmsprop):
            tx = make(0.1, centered=centered)
            state = tx.init(gs[0])
            for g in gs:
                _, state = tx.update(g, state)
            kept.append(state[0])
        theirs, ours = kept
        np.testing.assert_allclose(ours.nu, theirs.nu, rtol=1e-6)
        if centered:
            np.testing.assert_allclose(ours.mu, theirs.mu, rtol=1e-6)
        assert ours.count == 3


def test_codes_of_one_byte_are_not_read_as_moments():
    state = scale_by_rmsprop(storage="uint8").init(jnp.ones(2))
    with pytest.raises(AttributeError, match=r"uint8.*interop.storage.convert"):
        _ = state.nu


@pytest.mark.parametrize("bits", (None, 24))
def test_integers_beside_floats_get_no_state_and_no_update(bits):
    params = {
        "w": jnp.ones(2, jnp.bfloat16 if bits else jnp.float32),
        "n": jnp.array([1, 2]),
        "b": jnp.array([True]),
    }

    def loss(p):
        return jnp.sum(p["w"].astype(jnp.float32) ** 2)

    g = jax.grad(loss, allow_int=True)(params)  # float0 for integers
    tx = rmsprop(0.1, centered=True, momentum=0.9, weight_decay=0.1)
    tx = master_weights(tx) if bits else tx
    state = tx.init(params)
    assert len(jax.tree.leaves(state)) == (7 if bits else 5)
    for gradients in (g, {**g, "n": jnp.zeros(2, int), "b": jnp.zeros(1, bool)}):
        updates, after = tx.update(gradients, state, params)
        chex.assert_trees_all_equal_structs(after, state)
        with jax.numpy_dtype_promotion("standard"):
            moved = optax.apply_updates(params, updates)
        assert moved["w"][0] != 1.0
        chex.assert_trees_all_equal({**moved, "w": 0}, {**params, "w": 0})
    key = {"key": jax.random.key(0), "w": params["w"]}
    state = tx.init(key)
    tx.update({"key": None, "w": g["w"]}, state, key)


def test_a_rate_of_shape_one():
    p = jnp.ones(3)
    for rate in (jnp.array([0.1]), np.array([0.1]), lambda count: jnp.array([0.1])):
        tx = rmsprop(rate, weight_decay=0.1, decoupled_weight_decay=True)
        plain = rmsprop(0.1, weight_decay=0.1, decoupled_weight_decay=True)
        u, want = (x.update(p, x.init(p), p)[0] for x in (tx, plain))
        np.testing.assert_array_equal(u, want)


def test_extra_arguments_are_ignored():
    for tx in (scale_by_rmsprop(), rmsprop(0.1, **OPTIONS)):
        p = jnp.ones(2)
        assert isinstance(tx, optax.GradientTransformationExtraArgs)
        tx.update(p, tx.init(p), p, value=1.0, anything=None)


def test_one_trace_however_many_steps():
    tx = rmsprop(optax.linear_schedule(0.1, 0.0, 10), **OPTIONS)

    @jax.jit
    @chex.assert_max_traces(n=1)
    def step(params, state, g):
        updates, state = tx.update(g, state, params)
        return optax.apply_updates(params, updates), state

    params = {"a": jnp.ones(2), "b": jnp.ones((2, 3), jnp.bfloat16)}
    state = tx.init(params)
    for _ in range(5):
        params, state = step(params, state, params)


def test_scan_cond_and_vmap():
    tx = rmsprop(0.1, **OPTIONS)
    p = jnp.linspace(0.5, 1, 3)

    def step(carry, skip):
        p, state = carry
        return jax.lax.cond(
            skip,
            lambda: (p, state),
            lambda: (lambda u, s: (p + u, s))(*tx.update(p, state, p)),
        ), p

    (end, _), _ = jax.lax.scan(step, (p, tx.init(p)), jnp.arange(6) % 2 == 0)
    want, state = p, tx.init(p)
    for _ in range(3):
        u, state = tx.update(want, state, want)
        want = want + u
    chex.assert_trees_all_close(end, want, rtol=1e-6)

    def trained(learning_rate, decay):
        tx = rmsprop(learning_rate, decay, **OPTIONS)
        return tx.update(p, tx.init(p), p)[0]

    rates, decays = jnp.linspace(0.1, 1, 5), jnp.linspace(0, 0.9, 5)
    swept = jax.vmap(trained)(rates, decays)
    alone = jnp.stack([trained(*x) for x in zip(rates, decays, strict=True)])
    chex.assert_trees_all_close(swept, alone, rtol=1e-6)


magnitudes = st.one_of(
    st.just(0.0),
    st.tuples(st.sampled_from((-1, 1)), st.floats(-30, 30)).map(
        lambda x: x[0] * 10.0 ** x[1]
    ),
)


@hypothesis.settings(max_examples=25, deadline=None, derandomize=True)
@hypothesis.given(
    data=st.data(),
    shape=hnp.array_shapes(min_dims=0, max_dims=3, max_side=3),
    dtype=st.sampled_from(("float16", "bfloat16", "float32")),
    decay=st.sampled_from((0.0, 0.5, 0.9, 0.999)),
    eps=st.sampled_from((0.0, 1e-30, 1e-8, 0.1)),
    eps_in_sqrt=st.booleans(),
    centered=st.booleans(),
    bias_correction=st.booleans(),
)
def test_any_gradient_gives_a_finite_bounded_update(
    data, shape, dtype, decay, eps, eps_in_sqrt, centered, bias_correction
):
    """1e-30 to 1e30 and zeros: |u| <= 1/sqrt(1-decay) uncentered, of the sign of g."""
    elements = hnp.arrays(np.float64, shape, elements=magnitudes)
    largest = float(jnp.finfo(dtype).max)
    gs = [
        jnp.asarray(np.clip(data.draw(elements), -largest, largest), dtype)
        for _ in range(3)
    ]
    tx = scale_by_rmsprop(
        decay,
        eps,
        eps_in_sqrt=eps_in_sqrt,
        centered=centered,
        bias_correction=bias_correction,
    )
    state = tx.init(gs[0])
    for g in gs:
        u, state = tx.update(g, state)
        chex.assert_tree_all_finite((u, state))
        assert u.dtype == g.dtype and u.shape == g.shape
        assert bool(jnp.all(u * jnp.sign(g) >= 0))
        assert bool(jnp.all(state.s >= 0))
        if not centered:
            bound = 1.001 / np.sqrt(1 - decay) + 2 * float(jnp.finfo(dtype).eps)
            assert bool(jnp.all(jnp.abs(u.astype(jnp.float32)) <= bound * 1.01))


@hypothesis.settings(max_examples=30, deadline=None, derandomize=True)
@hypothesis.given(
    gs=hnp.arrays(
        np.float32,
        st.tuples(st.just(4), st.integers(1, 4)),
        elements=st.tuples(st.sampled_from((-1, 1)), st.floats(-15, 15)).map(
            lambda x: float(np.float32(x[0] * 10.0 ** x[1]))
        ),
    ),
    decay=st.sampled_from((0.0, 0.5, 0.9, 0.999)),
    eps=st.sampled_from((1e-8, 1e-3)),
    eps_in_sqrt=st.booleans(),
    bias_correction=st.booleans(),
)
def test_any_float32_gradient_equals_the_oracle(
    gs, decay, eps, eps_in_sqrt, bias_correction
):
    options = dict(eps_in_sqrt=eps_in_sqrt, bias_correction=bias_correction)
    tx = scale_by_rmsprop(decay, eps, **options)
    state, us = tx.init(jnp.zeros(gs.shape[1])), []
    for g in gs:
        u, state = tx.update(jnp.asarray(g), state)
        us.append(u)
    path = oracle.rmsprop(np.zeros(gs.shape[1]), gs, 1.0, decay, eps, **options)
    want = -np.diff(np.stack([np.zeros(gs.shape[1]), *path]), axis=0)
    # Differences of the path lose what a large step hides.
    np.testing.assert_allclose(np.stack(us), want, rtol=3e-5, atol=1e-12)
