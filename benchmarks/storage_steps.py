"""How much the length of a step with stored moments differs from the exact one."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from rmsprop_jax import scale_by_rmsprop
from rmsprop_jax._storage import Format

MEDIAN = 1e-4
SIZE = 128 * 256
STEPS, MEASURED = 500, 100
PERCENTILES = {"0.1": 0.1, "50": 50.0, "99": 99.0, "99.9": 99.9, "max": 100.0}


@functools.partial(jax.jit, static_argnames="format_")
def ratios(
    format_: Format, decay: ArrayLike, eps: ArrayLike, spread: ArrayLike
) -> Float[Array, "steps size"]:
    """Return |u| / |u exact| of the last steps, for gradients of different sizes.

        g = MEDIAN * 10**(spread*z) * noise,    z and noise normal

    `z` is drawn once per coordinate, so `spread` is the standard deviation, within a
    block, of the base-10 logarithm of the size of a gradient.
    """
    stored = scale_by_rmsprop(decay, eps, storage=format_)
    exact = scale_by_rmsprop(decay, eps, storage="float32")
    first, then = jax.random.split(jax.random.key(0))
    sizes = MEDIAN * 10 ** (spread * jax.random.normal(first, (SIZE,)))

    def step(states, key: Array):
        g = sizes * jax.random.normal(key, (SIZE,))
        u, s = stored.update(g, states[0])
        u_exact, s_exact = exact.update(g, states[1])
        return (s, s_exact), jnp.where(u_exact == 0, 1.0, jnp.abs(u / u_exact))

    states = stored.init(sizes), exact.init(sizes)
    return jax.lax.scan(step, states, jax.random.split(then, STEPS))[1][-MEASURED:]


def step_lengths(
    format_: Format, decay: float, eps: float, spread: float
) -> dict[str, float]:
    """Return percentiles of |u| / |u exact| over coordinates and the last steps."""
    settings = map(jnp.float32, (decay, eps, spread))
    found = np.percentile(ratios(format_, *settings), list(PERCENTILES.values()))
    return dict(zip(PERCENTILES, found.tolist(), strict=True))
