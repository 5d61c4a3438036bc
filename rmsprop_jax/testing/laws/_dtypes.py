"""Laws 20 to 24: the dtypes of updates and state."""

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

# Arguments that name the dtype of a part of the state, and the dtype to try.
KEEPERS = {
    "mu_dtype": jnp.bfloat16,
    "nu_dtype": jnp.bfloat16,
    "accumulator_dtype": jnp.bfloat16,
    "state_dtype": jnp.bfloat16,
    "storage": "bfloat16",
}


def law_20_updates_in_gradient_dtype(subject: Subject) -> None:
    """Gradients and parameters of one dtype give updates of that dtype.

    For float16, bfloat16 and float32.

    Source: optax#1098, optax contrib/_common_test.py.
    """
    tx = subject.make()

    def check(dtype: DTypeLike) -> None:
        like = _shapes(dtype)
        _, u, _ = _types(subject, tx, like, like)
        chex.assert_trees_all_equal_dtypes(u, like)

    check_each(check, {jnp.dtype(dtype).name: dtype for dtype in REAL})


def law_21_keeps_the_types_of_its_state(subject: Subject) -> None:
    """Structure, shapes, dtypes and weak types of the state never change after `init`.

    For parameters and gradients of every floating point and complex dtype, and for
    gradients of another dtype than their parameters.

    Source: optax#1098, optax#377, tunix#1880, D12.
    """
    tx = subject.make()

    def check(dtypes: tuple[DTypeLike, DTypeLike]) -> None:
        with double_precision(any(dtype in WIDE for dtype in dtypes)):
            params, g = map(_shapes, dtypes)
            state, _, after = _types(subject, tx, g, params)
            _assert_same_types(after, state)

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
    """In a tree of several dtypes each update and each state leaf keeps its own dtype.

    Float16, bfloat16, float32 and float64 side by side, with 64-bit types on.

    Source: optax float64_test.py, D17.
    """
    tx = subject.make()
    with double_precision():
        params = {
            jnp.dtype(dtype).name: jax.ShapeDtypeStruct((2, 3), dtype)
            for dtype in (*REAL, np.float64)
        }
        state, u, after = _types(subject, tx, params, params)
        chex.assert_trees_all_equal_dtypes(u, params)
        _assert_same_types(after, state)


def law_23_honours_its_state_dtype(subject: Subject) -> None:
    """An argument that names the dtype of the state is obeyed, at `init` and after.

    Such as `mu_dtype`: with bfloat16 there is bfloat16 in the state, and as much of it
    after an update.

    Source: maxtext#1437, optax alias_test.py.
    """
    name = subject.need(KEEPERS)
    kept_at_all = {"momentum": 0.9} if "momentum" in subject.arguments else {}
    tx = subject.make(**{name: KEEPERS[name]}, **kept_at_all)
    params = _shapes(np.float32)
    state, _, after = _types(subject, tx, params, params)
    kept = [x.dtype for x in jax.tree.leaves(state)]
    assert jnp.bfloat16 in kept, f"{name}={KEEPERS[name]}: the state has {set(kept)}"
    _assert_same_types(after, state)


def law_24_treats_complex_as_a_plane(subject: Subject) -> None:
    """Rotated gradients give rotated updates, and conjugate gradients conjugate ones.

    Rotation is by i, and whether |g|**2 or the two parts are averaged does not matter.
    No leaf of the state may be complex and always real: it would take twice the memory
    that it needs.

    Source: jaxopt#169, pytorch#59998, D14.
    """
    tx = subject.compiled(subject.make())
    zeros = jax.tree.map(jnp.zeros_like, example(jnp.complex64))
    gs = gradients(3, jnp.complex64)
    want, state = subject.follow(tx, zeros, gs)
    chex.assert_trees_all_equal_dtypes(want[0], zeros)
    for what, move in (("g * 1j", lambda x: x * 1j), ("conj(g)", np.conj)):
        got, _ = subject.follow(tx, zeros, _moved(gs, move))
        moved = _moved(want, move)
        assert_close(got, moved, rtol=1e-3, atol=1e-6, what=f"for {what}")
    for path, x in jax.tree_util.tree_leaves_with_path(state):
        where = jax.tree_util.keystr(path)
        wasteful = jnp.iscomplexobj(x) and x.size > 0 and not np.any(np.imag(x))
        assert not wasteful, f"the state at {where} is {x.dtype} and always real"


def _moved(trees: list[PyTree], move: Any) -> list[PyTree]:
    return [jax.tree.map(lambda x: move(np.asarray(x)), tree) for tree in trees]


def _shapes(dtype: DTypeLike) -> PyTree:
    """Return the tree of `example` without its numbers."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, dtype), example())


def _types(subject: Subject, tx: Any, gradients: PyTree, params: PyTree) -> Any:
    """Return the types of a fresh state, of its updates, and of the state after them.

    Nothing is compiled or computed.
    """

    def once(gradients: PyTree, params: PyTree) -> Any:
        state = tx.init(params)
        return state, *subject.update(tx, gradients, state, params)

    return jax.eval_shape(once, gradients, params)


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
