"""Law 30: derivatives through updates."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from .._closeness import assert_close, assert_finite
from .._context import double_precision
from .._subject import Subject

STEPS = 3


def law_30_has_derivatives(subject: Subject) -> None:
    """Derivatives through three updates are right, and finite at zero gradients.

    With respect to the gradients, and to the learning rate where the factory takes one;
    forward and reverse; away from zero they equal finite differences in float64.

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

    @jax.jit
    def derivatives(g: Array, rate: Array) -> tuple[Array, Array, Array]:
        ones = jnp.ones_like(g), jnp.ones_like(rate)
        out, forward = jax.jvp(end, (g, rate), ones)
        reverse = jax.vjp(end, g, rate)[1](jnp.ones_like(out))
        return out, forward, sum(map(jnp.sum, reverse), jnp.zeros((), g.dtype))

    at_zero = jnp.asarray([0.0, 0.5, 0.0, -1.0], jnp.float32)
    _, forward, reverse = derivatives(at_zero, jnp.float32(0.1))
    assert_finite(forward, what="forward, at zero gradients")
    assert_finite(reverse, what="reverse, at zero gradients")
    with double_precision():
        g, rate, h = np.asarray([0.25, 0.5, 0.75, -1.0]), 0.1, 1e-6
        _, forward, reverse = derivatives(g, np.float64(rate))
        high, low = (derivatives(g + x, np.float64(rate + x))[0] for x in (h, -h))
        want = (high - low) / (2 * h)
        close = dict(rtol=1e-4, atol=1e-6)
        what = "finite differences"
        assert_close(forward, want, **close, what=what)
        assert_close(reverse, jnp.sum(want), **close, what=what)
