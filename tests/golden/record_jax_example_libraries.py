"""Record `jax.example_libraries.optimizers.rmsprop` and `rmsprop_momentum`.

pip install jax
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.example_libraries import optimizers
from problem import grid, record

WITHOUT = "optimizers.rmsprop"
WITH = "optimizers.rmsprop_momentum"

cases = [
    *grid(note=WITHOUT),
    *grid(gamma=[0.99], eps=[1e-3], note=WITHOUT),
    *grid(momentum=[0.9], note=WITH),
    *grid(gamma=[0.99], eps=[1e-3], momentum=[0.5], note=WITH),
]


def run(problem, case):
    """Return the parameters after each step."""
    has_momentum = "momentum" in case.arguments
    make = optimizers.rmsprop_momentum if has_momentum else optimizers.rmsprop
    rates = jnp.asarray(problem.learning_rates, case.dtype)
    init, update, get_params = make(lambda step: rates[step], **case.arguments)
    state = init(jnp.asarray(problem.initial))
    trajectory = []
    for step, gradient in enumerate(problem.gradients):
        state = update(step, jnp.asarray(gradient), state)
        trajectory.append(np.asarray(get_params(state)))
    return np.stack(trajectory)


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    record(
        "jax_example_libraries",
        framework="JAX",
        version=jax.__version__,
        source="jax.example_libraries.optimizers.rmsprop and rmsprop_momentum",
        cases=cases,
        run=run,
    )
