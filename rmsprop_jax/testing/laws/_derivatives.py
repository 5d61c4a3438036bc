"""Law 30: derivatives through updates."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from .._closeness import assert_close, assert_finite
from .._context import double_precision
from .._subject import Subject

STEPS = 3


def law_30_has_derivatives(subject: Subject) -> None:
    """Derivatives through three updates are finite at zero gradients, and right.

    In the gradients, and in the learning rate where the factory takes one; forward and
    reverse; away from zero equal to finite differences in float64.

    Source: optax#882, optax#228, torchopt#26, D8.
    """

    def end(g: Array, rate: Array) -> Array:
        name = subject.learning_rate
        tx = subject.make(**({} if name is None else {name: rate}))
        params = {"a": jnp.zeros_like(g)}
        state = tx.init(params)
        for k in range(STEPS):
            u, state = subject.update(tx, {"a": (1.0 + k) * g}, state, params)
            params = {"a": params["a"] + u["a"]}
        return params["a"]

    def both(g: Any, dtype: Any) -> tuple[Array, Array]:
        args = jnp.asarray(g, dtype), jnp.asarray(0.1, dtype)
        ones = jax.tree.map(jnp.ones_like, args)
        out, forward = jax.jvp(end, args, ones)
        back = jax.vjp(end, *args)[1](jnp.ones_like(out))
        return forward, sum(map(jnp.sum, back), jnp.zeros((), dtype))

    forward, reverse = both([0.0, 0.5, 0.0, -1.0], jnp.float32)
    assert_finite(forward, what="forward, at zero gradients")
    assert_finite(reverse, what="reverse, at zero gradients")
    with double_precision():
        g = np.asarray([0.25, 0.5, 0.75, -1.0])
        forward, reverse = both(g, np.float64)
        h = 1e-6
        high, low = (end(jnp.asarray(g + x), jnp.asarray(0.1 + x)) for x in (h, -h))
        want = (high - low) / (2 * h)
        close = dict(rtol=1e-4, atol=1e-6)
        what = "finite differences"
        assert_close(forward, want, **close, what=what)
        assert_close(reverse, jnp.sum(want), **close, what=what)
