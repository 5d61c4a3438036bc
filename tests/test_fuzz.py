"""Any tree, any options, any sequence of operations, against the oracle.

The default run has a few examples, the same each time; `make test-long` continues with
new seeds for FUZZ_SECONDS.
"""

import os
import pickle
import time

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest

from rmsprop_jax import rmsprop

SHAPES = ((3,), (1, 3), (), (0,))
GRADIENTS = ("float16", "bfloat16", "float32")

leaves = st.tuples(st.sampled_from(SHAPES), st.sampled_from((*GRADIENTS, "complex64")))
trees = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=2),
        st.dictionaries(st.sampled_from("abc"), inner, min_size=1, max_size=2),
    ),
    max_leaves=3,
)
rules = st.fixed_dictionaries(
    dict(
        decay=st.sampled_from((0.0, 0.5, 0.9, 0.99, 0.999)),
        eps=st.sampled_from((0.0, 1e-10, 1e-3, 1.0)),
        eps_in_sqrt=st.booleans(),
        centered=st.booleans(),
        start=st.sampled_from(("plain", "corrected", "one")),
    )
)
chains = st.fixed_dictionaries(
    dict(
        momentum=st.sampled_from((None, 0.0, 0.5, 0.9)),
        nesterov=st.booleans(),
        lr_in_momentum=st.booleans(),
        weight_decay=st.sampled_from((None, 0.0, 0.1)),
        decoupled_weight_decay=st.booleans(),
        storage=st.sampled_from(("float32", "float32", "bfloat16", "uint8")),
        nonfinite=st.sampled_from(("propagate", "hold")),
    )
)
operations = st.lists(
    st.sampled_from(("step", "step", "large", "small", "zero", "restart", "broken")),
    min_size=3,
    max_size=8,
)


def options_of(rule, chain):
    start = rule["start"]
    kept = {k: v for k, v in rule.items() if k != "start"}
    kept["bias_correction"] = start == "corrected"
    kept["initial_scale"] = 1.0 if start == "one" else 0.0
    unused = set()  # a flag without an effect is refused
    if chain["momentum"] is None:
        unused |= {"nesterov", "lr_in_momentum"}
    if chain["weight_decay"] is None:
        unused |= {"decoupled_weight_decay"}
    return {**kept, **{k: v for k, v in chain.items() if k not in unused}}


def gradient(rng, operation, shape, dtype):
    """Make one gradient, exact in its dtype, and where it is not finite."""
    scale = {"large": 1e3, "small": 1e-3, "zero": 0.0}.get(operation, 1.0)
    g = scale * rng.standard_normal(shape)
    if dtype == "complex64":
        g = g + 1j * scale * rng.standard_normal(shape)
    g = np.asarray(jnp.asarray(g).astype(dtype))
    bad = np.zeros(shape, bool)
    if operation == "broken":
        bad = np.asarray(rng.random(shape) < 0.5)
        g = np.where(bad, np.asarray(np.nan, g.dtype), g)
    return g, bad


def is_leaf(node):
    return isinstance(node, tuple)


def follow(tree, options, sequence, seed):
    """Run a sequence of operations; return the start, and gradients with updates."""
    rng = np.random.default_rng(seed)
    found, treedef = jax.tree.flatten(tree, is_leaf=is_leaf)
    wide = ["complex64" if dtype == "complex64" else "float32" for _, dtype in found]
    start = [
        np.asarray(rng.standard_normal(shape)).astype(dtype)
        for (shape, _), dtype in zip(found, wide, strict=True)
    ]
    tx = rmsprop(0.01, **options)
    params = jax.tree.unflatten(treedef, [jnp.asarray(x) for x in start])
    state = tx.init(params)
    shapes = jax.tree.map(lambda x: (x.shape, x.dtype), state)
    history = []
    for operation in sequence:
        if operation == "restart":
            state = pickle.loads(pickle.dumps(jax.tree.map(np.asarray, state)))
            state = jax.tree.map(jnp.asarray, state)
            continue
        if operation == "broken" and options["nonfinite"] == "propagate":
            continue
        made = [gradient(rng, operation, *leaf) for leaf in found]
        gs = jax.tree.unflatten(treedef, [jnp.asarray(g) for g, _ in made])
        updates, state = tx.update(gs, state, params)
        assert jax.tree.map(lambda x: (x.shape, x.dtype), state) == shapes
        assert [u.dtype for u in jax.tree.leaves(updates)] == wide
        params = jax.tree.map(lambda p, u: p + u.astype(p.dtype), params, updates)
        history.append((made, jax.tree.leaves(updates)))
    return start, history


def check(tree, rule, chain, sequence, seed):
    options = options_of(rule, chain)
    start, history = follow(tree, options, sequence, seed)
    for k, p in enumerate(start):
        gs = [made[k][0] for made, _ in history]
        us = [np.asarray(updates[k], complex) for _, updates in history]
        spared = ~np.any([made[k][1] for made, _ in history], axis=0)
        for u in us:
            assert np.all(np.isfinite(u))
        wide = [np.where(spared, g, 0).astype(complex) for g in gs]
        if chain["storage"] == "float32":
            compare(p, wide, us, options, np.asarray(spared))
        elif options["momentum"] is None and options["weight_decay"] is None:
            bound(us, gs, spared, options)


def compare(p, wide, us, options, spared):
    """Equal to the oracle where the rule is well conditioned."""
    names = set(options) - {"storage", "nonfinite"}
    numbers = {name: options[name] for name in names}
    real = wide if np.iscomplexobj(p) else [g.real for g in wide]
    path = oracle.rmsprop(p, real, 0.01, **numbers)
    coupled = not options.get("decoupled_weight_decay", False)
    decay = (options["weight_decay"] or 0.0) * coupled
    real = [g + decay * x for g, x in zip(real, [p, *path], strict=False)]
    before, largest = p, 0.0
    for t, (u, after) in enumerate(zip(us, path, strict=True)):
        want, before = after - before, after
        v = oracle.second_moment(
            real[: t + 1],
            options["decay"],
            options["initial_scale"],
            options["centered"],
            options["bias_correction"],
        )
        size = np.max([np.abs(g) for g in real[: t + 1]], axis=0)
        # Far below the gradients the variance is what their rounding leaves of it.
        if np.any(spared & (v + options["eps"] < 1e-4 * size**2)):
            return
        largest = np.maximum(largest, np.abs(want))
        error = np.abs(u - want)
        allowed = 2e-5 * largest + float(jnp.finfo(jnp.float32).tiny)
        assert np.all((error <= allowed) | ~spared), (t, u, want)


def bound(us, gs, spared, options):
    """Point along the gradient, no longer than a single gradient would move."""
    if options["centered"]:
        return
    longest = 0.01 / np.sqrt(1 - options["decay"])
    for u, g in zip(us, gs, strict=True):
        u, g = u[spared], np.asarray(g).astype(complex)[spared]
        assert np.all(np.abs(u) <= 1.01 * longest)
        assert np.all((u * np.conj(g)).real <= 0)


arguments = (trees, rules, chains, operations, st.integers(0, 2**16))


@hypothesis.settings(max_examples=8, deadline=None, derandomize=True)
@hypothesis.given(*arguments)
def test_any_sequence_of_operations(tree, rule, chain, sequence, seed):
    check(tree, rule, chain, sequence, seed)


@pytest.mark.long
def test_any_sequence_of_operations_for_minutes():
    end = time.monotonic() + float(os.environ.get("FUZZ_SECONDS", "300"))
    rounds = 0
    while time.monotonic() < end:
        rounds += 1

        @hypothesis.seed(rounds)
        @hypothesis.settings(max_examples=200, deadline=None, database=None)
        @hypothesis.given(*arguments)
        def once(tree, rule, chain, sequence, seed):
            check(tree, rule, chain, sequence, seed)

        once()
    assert rounds
