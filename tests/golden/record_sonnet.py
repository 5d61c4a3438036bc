"""Record Sonnet 2's `snt.optimizers.RMSProp`.

pip install tensorflow-cpu dm-tree tabulate wrapt && pip install --no-deps dm-sonnet
"""

import numpy as np
import sonnet as snt
import tensorflow as tf
from problem import float32_value, grid, record

ROUNDED = "hyperparameters are float32 values: the optimizer rounds them to float32"
DECAY = float32_value(0.9)
EPSILON = float32_value(1e-10)

cases = [
    *grid(["float32"]),
    *grid(
        decay=[DECAY],
        momentum=[0.0, DECAY],
        epsilon=[EPSILON],
        centered=[False, True],
        note=ROUNDED,
    ),
    *grid(
        decay=[float32_value(0.99)],
        momentum=[0.0, DECAY],
        epsilon=[float32_value(1e-3)],
        centered=[False, True],
        note=ROUNDED,
    ),
]


def run(problem, case):
    """Return the parameters after each step."""
    variable = tf.Variable(problem.initial)
    optimizer = snt.optimizers.RMSProp(0.0, **case.arguments)
    trajectory = []
    for learning_rate, gradient in zip(
        problem.learning_rates, problem.gradients, strict=True
    ):
        optimizer.learning_rate = float(learning_rate)
        optimizer.apply([tf.constant(gradient)], [variable])
        trajectory.append(variable.numpy())
    return np.stack(trajectory)


if __name__ == "__main__":
    record(
        "sonnet",
        framework="Sonnet",
        version=f"{snt.__version__} (TensorFlow {tf.__version__})",
        source="sonnet.optimizers.RMSProp",
        cases=cases,
        run=run,
    )
