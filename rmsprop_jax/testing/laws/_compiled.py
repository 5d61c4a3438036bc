"""Laws 34, 37 and 38: a step in place, accumulated, and in few kernels."""

import functools
import re
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import optax

from .._closeness import assert_close, assert_equal
from .._subject import Subject, example, gradients

SHAPE = (64, 64)
COPY = 4 * 64 * 64  # bytes of one parameter in float32
KERNELS = 20  # a step of `optax.rmsprop` takes 2 for each leaf, of `optax.lamb` 15
BOOKKEEPING = ("parameter", "tuple", "get-tuple-element", "bitcast", "constant")


def law_34_updates_in_place(subject: Subject) -> None:
    """Parameters and state can be donated, also fresh ones, and are updated in place.

    Every byte of them is reused for the result.

    Source: optax#1059, jax#18617.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="Some donated buffers")
        program, params, state = _compile_step(subject, 3)
    again = subject.make().init(params)
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        where = jax.tree_util.keystr(path)
        assert not _is_among(leaf, params), (
            f"fresh state at {where} is in the buffer of a parameter"
        )
        assert not _is_among(leaf, again), (
            f"the state at {where} is one buffer for all calls of `init`: donating it "
            "once deletes it for all"
        )
    kept = sum(x.nbytes for x in jax.tree.leaves((params, state)))
    g = jax.tree.map(jnp.ones_like, params)
    jax.block_until_ready(program(params, state, g))
    reused = program.memory_analysis().alias_size_in_bytes
    assert reused == kept, (
        f"of {kept} bytes of parameters and state {reused} are reused"
    )


def law_37_accumulates(subject: Subject) -> None:
    """In `optax.MultiSteps(tx, 4)` updates are zero, then the update for the mean.

    Source: optax#320, optax#472.
    """
    tx, params, gs = subject.make(), example(), gradients(4)
    multi = optax.MultiSteps(tx, 4)
    update = jax.jit(lambda g, s: multi.update(g, s, params, **subject.extra_args))
    state, us = multi.init(params), []
    for g in gs:
        u, state = update(g, state)
        us.append(u)
    zeros = jax.tree.map(jnp.zeros_like, params)
    assert_equal(us[:3], [zeros] * 3)
    mean = jax.tree.map(lambda *x: sum(x) / 4, *gs)
    want, _ = subject.update(tx, mean, tx.init(params), params)
    assert_close(us[3], want, rtol=1e-4, atol=1e-6)


def law_38_compiles_to_little(subject: Subject) -> None:
    """A compiled step has few temporaries, and at most 20 kernels per parameter.

    The temporaries take less memory than one float32 copy of the parameters, however
    narrow the state is.

    Source: flashoptim-jax, precondition#24.
    """
    few, many = (_compile_step(subject, leaves)[0] for leaves in (1, 3))
    temporary = many.memory_analysis().temp_size_in_bytes
    assert temporary < 3 * COPY, (
        f"for three parameters of {COPY} bytes in float32 a step has {temporary} bytes "
        "of temporaries"
    )
    added = (_kernels(many) - _kernels(few)) / 2
    assert added <= KERNELS, f"each further parameter adds {added:g} kernels"


@functools.lru_cache(maxsize=2)
def _compile_step(subject: Subject, leaves: int) -> tuple[Any, Any, Any]:
    """Compile a step that donates; return it with fresh arguments for it."""
    tx, params = subject.make(), _params(leaves)

    def step(params: Any, state: Any, g: Any) -> Any:
        updates, state = subject.update(tx, g, state, params)
        return optax.apply_updates(params, updates), state

    state = tx.init(params)
    jitted = jax.jit(step, donate_argnums=(0, 1))
    return jitted.lower(params, state, params).compile(), params, state


def _is_among(leaf: Any, tree: Any) -> bool:
    pointers = {x.unsafe_buffer_pointer() for x in jax.tree.leaves(tree)}
    return leaf.nbytes > 0 and leaf.unsafe_buffer_pointer() in pointers


def _params(leaves: int) -> Any:
    return {str(k): jnp.full(SHAPE, 1.0 + k) for k in range(leaves)}


def _kernels(program: Any) -> int:
    """Count the operations of the entry computation that compute."""
    entry = program.as_text().split("\nENTRY ")[1]
    names = re.findall(r"= .*? ([a-z][a-z\-]*)\(", entry)
    return sum(name not in BOOKKEEPING for name in names)
