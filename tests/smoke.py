"""The installed wheel, with nothing but its run-time dependencies."""

from importlib.metadata import version
from importlib.resources import files

import jax
import jax.numpy as jnp
import optax

import rmsprop_jax

assert "site-packages" in rmsprop_jax.__file__, rmsprop_jax.__file__
assert version("rmsprop_jax") == rmsprop_jax.__version__
assert files("rmsprop_jax").joinpath("py.typed").is_file()

tx = rmsprop_jax.rmsprop(0.1, centered=True, momentum=0.5, weight_decay=1e-4)
params = jnp.array([1.0, -2.0])
state = tx.init(params)
for _ in range(100):
    updates, state = tx.update(jax.grad(lambda p: p @ p)(params), state, params)
    params = optax.apply_updates(params, updates)
assert float(jnp.max(jnp.abs(params))) < 0.5, params
print(f"rmsprop_jax {rmsprop_jax.__version__} on jax {jax.__version__}: works")
