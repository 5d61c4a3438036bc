"""Laws 15 to 19: a state is found, mapped, saved, restored and reset."""

import importlib.util
import pickle
from collections import Counter
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import PyTree

from .._closeness import about, assert_equal, assert_finite
from .._report import check_each
from .._subject import Subject, example, gradients

FIELDS = ("count", "mu", "nu", "trace", "s", "m")
COUNTERS = ("count", "step")


def law_15_names_its_state(subject: Subject) -> None:
    """Every array of the state is under a field name, and counters are int32.

    `optax.tree.get` refuses a name that occurs twice, so each of `count`, `mu`, `nu`,
    `trace`, `s` and `m` occurs once at most. Counters are named `count` or `step`.

    Source: optax _state_utils.py.
    """
    state = subject.make().init(example())
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        named = any(isinstance(key, jax.tree_util.GetAttrKey) for key in path)
        where = jax.tree_util.keystr(path)
        assert named, f"the state at {where} is under no field name: use a NamedTuple"
        if path[-1] in map(jax.tree_util.GetAttrKey, COUNTERS):
            assert leaf.dtype == jnp.int32, f"the counter at {where} is {leaf.dtype}"
    for name in FIELDS:
        found = optax.tree.get_all_with_path(state, name)
        assert len(found) <= 1, (
            f"`optax.tree.get(state, {name!r})` finds {len(found)}: "
            f"{', '.join(_name(path) for path, _ in found)}"
        )


def law_16_maps_its_params(subject: Subject) -> None:
    """`optax.tree.map_params` finds the leaves that belong to parameters.

    Mapping the identity changes nothing, each leaf meets the name of its parameter, and
    `init` works with the placeholder without leaves that optax passes.

    Source: optax#548, optax _state_utils.py.
    """
    tx, params = subject.make(), example()
    state = tx.init(params)
    same = optax.tree.map_params(tx, lambda x: x, state)
    assert_equal(same, state)
    named = optax.tree.map_params(
        tx, lambda _, name: name, state, {"a": "A", "b": "B"}, transform_non_params=str
    )
    expected = {params["a"].shape: "A", params["b"].shape: "B"}
    kept = jax.tree_util.tree_leaves_with_path(state)
    for (path, leaf), got in zip(kept, jax.tree.leaves(named), strict=True):
        want = expected.get(leaf.shape, got)
        assert got == want, f"{_name(path)} belongs to {want} and was taken for {got!r}"


def law_17_inits_from_shapes(subject: Subject) -> None:
    """`init` works on `jax.ShapeDtypeStruct` and under `jax.eval_shape`.

    The shapes and dtypes are those that it gives for arrays.

    Source: optax _state_utils.py, flax#5110.
    """
    tx, params = subject.make(), example()
    want = tx.init(params)
    with about("under eval_shape"):
        chex.assert_trees_all_equal_shapes_and_dtypes(
            jax.eval_shape(tx.init, params), want
        )
    shapes = jax.tree.map(lambda p: jax.ShapeDtypeStruct(p.shape, p.dtype), params)
    with about("from ShapeDtypeStruct"):
        chex.assert_trees_all_equal_shapes_and_dtypes(tx.init(shapes), want)


def law_18_survives_a_checkpoint(subject: Subject) -> None:
    """A state that was saved and restored continues as before.

    Saved by pickle, as its leaves alone, and by Flax's msgpack where Flax is installed.
    No boolean of the factory changes the classes of the state, so that a state that was
    saved with one value can be restored with the other.

    Source: optax#353, ferminet#105, maxdiffusion#484, D13.
    """
    step, params = subject.step, example()
    g, other = gradients(2)
    _, state = step.update(g, step.tx.init(params), params)
    want = step.update(other, state, params)

    def check(restore: Any) -> None:
        chex.assert_trees_all_equal_structs(restore(), state)
        got = step.update(other, restore(), params)
        assert_equal(got, want)

    structure = jax.tree.structure(step.tx.init(params))
    restorers = {
        "pickle": lambda: pickle.loads(pickle.dumps(state)),
        "leaves": lambda: structure.unflatten(map(np.asarray, jax.tree.leaves(state))),
    }
    if importlib.util.find_spec("flax") is not None:
        restorers["msgpack"] = lambda: _through_msgpack(state, step.tx.init(params))
    check_each(check, restorers)
    flags = [k for k, v in subject.arguments.items() if isinstance(v, bool)]

    def check_classes(flag: str) -> None:
        try:
            flipped = subject.make(**{flag: not subject.arguments[flag]})
        except ValueError:  # refused together with the other arguments
            return
        want, got = _classes(state), _classes(flipped.init(params))
        assert got == want, f"the classes are {_some(got)}, not {_some(want)}"

    check_each(check_classes, {f"with {flag} the other way": flag for flag in flags})


def law_19_resets_in_part(subject: Subject) -> None:
    """A state of which a part was reset can be used, without compiling again.

    The state of one parameter is reset to what `init` gives, by
    `optax.tree.map_params`, and a counter that occurs once to 0, by `optax.tree.set`.

    Source: optax#1371.
    """
    step, params = subject.step, example()
    (g,) = gradients(1)
    fresh = step.tx.init(params)
    _, state = step.update(g, fresh, params)
    before = step.traces
    reset = optax.tree.map_params(
        step.tx,
        lambda _, reset: reset,
        state,
        {"a": True, "b": False},
        transform_non_params=lambda _: False,
    )
    mixed = jax.tree.map(
        lambda reset, old, new: new if reset else old, reset, state, fresh
    )
    for name in COUNTERS:
        if len(optax.tree.get_all_with_path(mixed, name)) == 1:
            mixed = optax.tree.set(mixed, **{name: jnp.zeros((), jnp.int32)})
    chex.assert_trees_all_equal_structs(mixed, state)
    u, after = step.update(g, mixed, params)
    assert_finite(u)
    chex.assert_trees_all_equal_shapes_and_dtypes(after, state)
    assert step.traces == before, "`update` was traced anew for the state reset in part"


def _through_msgpack(state: Any, target: Any) -> Any:
    from flax import serialization

    return serialization.from_bytes(target, serialization.to_bytes(state))


def _classes(state: PyTree) -> Counter:
    """Count the NamedTuple classes in a state, without `optax.EmptyState`."""
    found = Counter()

    def look(node: Any) -> bool:
        if hasattr(node, "_fields") and node != optax.EmptyState():
            found[type(node).__name__] += 1
        return False

    jax.tree.leaves(state, is_leaf=look)
    return found


def _some(classes: Counter) -> str:
    return ", ".join(sorted(classes)) or "no class"


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path)
