"""Laws 11 to 14: parameters in any tree."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import chex
import jax
import jax.numpy as jnp
import optax
from jaxtyping import PyTree

from .._closeness import assert_close, assert_finite
from .._report import check_each
from .._subject import Subject, example, gradients


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Layer:
    """A model of its own class."""

    w: Any
    b: Any


@jax.tree_util.register_pytree_with_keys_class
class Frozen(Mapping):
    """A mapping that is not a dict."""

    def __init__(self, **items: Any) -> None:
        self._items = items

    def __getitem__(self, key: str) -> Any:
        return self._items[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def tree_flatten_with_keys(self) -> tuple[list[Any], tuple[str, ...]]:
        items = self._items.items()
        return [(jax.tree_util.DictKey(k), v) for k, v in items], tuple(self._items)

    @classmethod
    def tree_unflatten(cls, keys: tuple[str, ...], values: Any) -> "Frozen":
        return cls(**dict(zip(keys, values, strict=True)))


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Model(Layer):
    """A model that is called, as in Equinox."""

    def __call__(self, *args: Any) -> None:
        raise AssertionError("the parameters were called, as if they were a function")


def law_11_takes_every_tree(subject: Subject) -> None:
    """Parameters may be any tree, and updates and state keep its structure.

    An empty tree, one with None or `optax.MaskedNode` in it, with a scalar or a leaf of
    size zero, nested containers and classes, and a single array.

    Source: optax#271, equinox#193.
    """
    tx, ones = subject.make(), jnp.ones
    trees = {
        "empty": {},
        "None": {"a": ones(4), "b": None},
        "MaskedNode": {"a": ones(4), "b": optax.MaskedNode()},
        "scalar": {"a": ones(())},
        "zero-size": {"a": ones(4), "b": jnp.zeros((0, 3))},
        "nested": [{"a": ones(4)}, (ones(4), [], {}), Layer(ones((2, 3)), ones(4))],
        "mapping": Frozen(a=ones(4), b=Frozen(c=ones(4))),
        "array": ones(4),
    }

    def check(params: PyTree) -> None:
        state = tx.init(params)
        u, after = subject.update(tx, params, state, params)
        chex.assert_trees_all_equal_structs(u, params)
        chex.assert_trees_all_equal_shapes(u, params)
        chex.assert_trees_all_equal_structs(after, state)
        assert_finite(u)

    check_each(check, trees)


def law_12_takes_none_gradients(subject: Subject) -> None:
    """A gradient of None gives no update, and the structure of the state stays.

    The next step may have all gradients again.

    Source: AMICI#3130.
    """
    tx, params = subject.make(), example()
    g, other = gradients(2)
    state = tx.init(params)
    u, after = subject.update(tx, {"a": g["a"], "b": None}, state, params)
    assert u["b"] is None, f"the update for a gradient of None is {u['b']}"
    chex.assert_trees_all_equal_structs(after, state)
    assert_finite(u["a"])
    u, _ = subject.update(tx, other, after, params)
    chex.assert_trees_all_equal_shapes_and_dtypes(u, params)


def law_13_may_be_masked(subject: Subject) -> None:
    """Masked or partitioned, a part of a tree is updated as it is alone.

    In `optax.masked`, nested too, and in `optax.partition`.

    Source: optax#271, flax#5372.
    """
    params, gs = example(), gradients(2)
    part = [{"a": g["a"]} for g in gs]
    want, _ = subject.follow(subject.make(), {"a": params["a"]}, part)
    want = [u["a"] for u in want]
    only_a, labels = {"a": True, "b": False}, {"a": "train", "b": "stop"}

    def check(make: Any) -> None:
        got, _ = subject.follow(make(subject.make()), params, gs)
        assert_close([u["a"] for u in got], want, rtol=1e-6)

    def partition(tx: Any) -> Any:
        return optax.partition({"train": tx, "stop": optax.set_to_zero()}, labels)

    check_each(
        check,
        {
            "masked": lambda tx: optax.masked(tx, only_a),
            "masked by a function": lambda tx: optax.masked(tx, lambda _: only_a),
            "nested": lambda tx: optax.masked(optax.masked(tx, only_a), only_a),
            "partition": partition,
        },
    )


def law_14_takes_callable_params(subject: Subject) -> None:
    """Parameters that can be called are accepted, and are not called.

    Source: optax#1373, equinox#193.
    """
    tx, params = subject.make(), example()
    (g,) = gradients(1)
    model, slopes = (Model(w=x["b"], b=x["a"]) for x in (params, g))
    u, _ = subject.update(tx, slopes, tx.init(model), model)
    chex.assert_trees_all_equal_structs(u, model)
    plain, ordinary = (Layer(w=x["b"], b=x["a"]) for x in (params, g))
    want, _ = subject.update(tx, ordinary, tx.init(plain), plain)
    assert_close(jax.tree.leaves(u), jax.tree.leaves(want), rtol=1e-6)
