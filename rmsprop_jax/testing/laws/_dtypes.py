"""Laws 20 to 24: what has which dtype."""

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import PyTree

from .._closeness import assert_close
from .._context import double_precision
from .._report import check_each
from .._subject import Subject, example, gradients

REAL = (jnp.float16, jnp.bfloat16, jnp.float32)
WIDE = (np.float64, np.complex128)

# Arguments that say in which dtype to keep what, and what to ask of them.
KEEPERS = {
    "mu_dtype": jnp.bfloat16,
    "nu_dtype": jnp.bfloat16,
    "accumulator_dtype": jnp.bfloat16,
    "state_dtype": jnp.bfloat16,
    "storage": "bfloat16",
}


def law_20_updates_in_gradient_dtype(subject: Subject) -> None:
    """Give updates in the dtype of the gradients.

    Float16, bfloat16 and float32, with parameters of the same.

    Source: optax#1098, optax contrib/_common_test.py.
    """
    tx = subject.make()

    def check(dtype: DTypeLike) -> None:
        like = example(dtype)
        u, _ = _types(subject, tx, like, like)
        chex.assert_trees_all_equal_dtypes(u, like)

    check_each(check, {jnp.dtype(dtype).name: dtype for dtype in REAL})


def law_21_keeps_the_types_of_its_state(subject: Subject) -> None:
    """From `init` on, keep structure, shapes, dtypes and weak types of the state.

    For parameters and gradients of every floating point and complex dtype, and for
    gradients of another dtype than their parameters.

    Source: optax#1098, optax#377, tunix#1880, D12.
    """
    tx = subject.make()

    def check(dtypes: tuple[DTypeLike, DTypeLike]) -> None:
        with double_precision(any(dtype in WIDE for dtype in dtypes)):
            params, g = map(example, dtypes)
            _, after = _types(subject, tx, g, params)
            _assert_same_types(after, tx.init(params))

    same = [(x, x) for x in (*REAL, jnp.complex64, *WIDE)]
    mixed = [(jnp.bfloat16, jnp.float32), (jnp.float32, jnp.bfloat16)]
    check_each(
        check,
        {
            f"{jnp.dtype(p).name} parameters, {jnp.dtype(g).name} gradients": (p, g)
            for p, g in same + mixed
        },
    )


def law_22_keeps_a_mixed_tree_apart(subject: Subject) -> None:
    """In a tree of several dtypes each update and each state keeps its own.

    Float16, bfloat16, float32 and float64 side by side, with 64-bit types on.

    Source: optax float64_test.py, D17.
    """
    tx = subject.make()
    with double_precision():
        dtypes = {jnp.dtype(x).name: jnp.dtype(x) for x in (*REAL, np.float64)}
        params = {name: jnp.ones((2, 3), dtype) for name, dtype in dtypes.items()}
        u, after = _types(subject, tx, params, params)
        chex.assert_trees_all_equal_dtypes(u, params)
        _assert_same_types(after, tx.init(params))


def law_23_honours_its_state_dtype(subject: Subject) -> None:
    """An argument that names the dtype of the state is obeyed, at `init` and after.

    Such as `mu_dtype`; with bfloat16 there is bfloat16 in the state, and as much of it
    after an update.

    Source: maxtext#1437, optax alias_test.py.
    """
    name = subject.need(KEEPERS)
    kept_at_all = {"momentum": 0.9} if "momentum" in subject.arguments else {}
    tx = subject.make(**{name: KEEPERS[name]}, **kept_at_all)
    params = example()
    state = tx.init(params)
    _, after = _types(subject, tx, params, params)
    kept = [x.dtype for x in jax.tree.leaves(state)]
    assert jnp.bfloat16 in kept, f"{name}={KEEPERS[name]}: the state has {set(kept)}"
    _assert_same_types(after, state)


def law_24_treats_complex_as_a_plane(subject: Subject) -> None:
    """Turn and mirror with complex gradients; keep no real number as a complex one.

    Gradients times i give updates times i, conjugate gradients conjugate updates,
    whether |g|**2 or the two parts are what is averaged. A state leaf that is complex
    and never has an imaginary part takes twice the memory that it needs.

    Source: jaxopt#169, pytorch#59998, D14.
    """
    tx, zeros = subject.make(), jax.tree.map(jnp.zeros_like, example(jnp.complex64))
    gs = gradients(3, jnp.complex64)
    want, state = subject.follow(tx, zeros, gs)
    chex.assert_trees_all_equal_dtypes(want[0], zeros)
    for what, move in (("g * 1j", lambda x: x * 1j), ("conj(g)", jnp.conj)):
        moved = [jax.tree.map(move, g) for g in gs]
        got, _ = subject.follow(tx, zeros, moved)
        expected = [jax.tree.map(move, u) for u in want]
        assert_close(got, expected, rtol=1e-3, atol=1e-6, what=f"for {what}")
    for path, x in jax.tree_util.tree_leaves_with_path(state):
        where = jax.tree_util.keystr(path)
        wasteful = jnp.iscomplexobj(x) and x.size > 0 and not np.any(np.imag(x))
        assert not wasteful, f"the state at {where} is {x.dtype} and always real"


def _types(subject: Subject, tx: Any, gradients: PyTree, params: PyTree) -> Any:
    """Give the types that an update returns."""
    state = tx.init(params)
    return jax.eval_shape(
        lambda g, s, p: subject.update(tx, g, s, p), gradients, state, params
    )


def _assert_same_types(after: PyTree, before: PyTree) -> None:
    chex.assert_trees_all_equal_structs(after, before)
    named = jax.tree_util.tree_leaves_with_path(after)
    for (path, new), old in zip(named, jax.tree.leaves(before), strict=True):
        got, want = _type(new), _type(old)
        where = jax.tree_util.keystr(path)
        assert got == want, f"the state at {where} is {want} at first, {got} after"


def _type(x: Any) -> str:
    weak = " (weak)" if getattr(x, "weak_type", False) else ""
    return f"{x.dtype}{list(x.shape)}{weak}"
