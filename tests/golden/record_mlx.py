"""Record `mlx.optimizers.RMSprop` on the CPU.

pip install "mlx[cpu]" numpy
"""

from importlib.metadata import version

import mlx.core as mx
import mlx.optimizers
import numpy as np
from problem import grid, record

cases = [
    *grid(),
    *grid(alpha=[0.9], eps=[1e-8, 1e-3]),
]


def run(problem, case):
    """Return the parameters after each step."""
    dtype = getattr(mx, case.dtype)
    params = {"w": mx.array(problem.initial, dtype)}
    optimizer = mlx.optimizers.RMSprop(learning_rate=0.0, **case.arguments)
    trajectory = []
    for learning_rate, gradient in zip(
        problem.learning_rates, problem.gradients, strict=True
    ):
        optimizer.learning_rate = float(learning_rate)
        params = optimizer.apply_gradients({"w": mx.array(gradient, dtype)}, params)
        trajectory.append(np.array(params["w"]))
    return np.stack(trajectory)


if __name__ == "__main__":
    mx.set_default_device(mx.cpu)
    record(
        "mlx",
        framework="MLX",
        version=version("mlx"),
        source="mlx.optimizers.RMSprop (CPU)",
        cases=cases,
        run=run,
    )
