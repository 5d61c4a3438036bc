r"""Record `flax.optim.RMSProp`, which Flax removed after 0.5.3.

pip install jax==0.4.13 jaxlib==0.4.13 "numpy<2" "scipy<1.12" msgpack rich pyyaml \
    typing-extensions absl-py toolz dm-tree matplotlib tensorstore==0.1.40
pip install --no-deps flax==0.5.3 optax==0.1.7 "chex<0.1.8"
"""

import flax
import flax.optim
import jax
import jax.numpy as jnp
import numpy as np
from problem import grid, record

cases = [
    *grid(),
    *grid(centered=[False, True]),
    *grid(beta2=[0.99], eps=[1e-3], centered=[False, True]),
]


def run(problem, case):
    """Return the parameters after each step."""
    optimizer = flax.optim.RMSProp(**case.arguments).create(
        jnp.asarray(problem.initial)
    )
    trajectory = []
    for learning_rate, gradient in zip(
        problem.learning_rates, problem.gradients, strict=True
    ):
        optimizer = optimizer.apply_gradient(
            jnp.asarray(gradient), learning_rate=float(learning_rate)
        )
        trajectory.append(np.asarray(optimizer.target))
    return np.stack(trajectory)


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    record(
        "flax_legacy",
        framework="Flax",
        version=f"{flax.__version__} (JAX {jax.__version__})",
        source="flax.optim.RMSProp",
        cases=cases,
        run=run,
    )
