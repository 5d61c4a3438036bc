"""Record `tf_keras.optimizers.legacy.RMSprop`, the RMSprop of TensorFlow 2.0 to 2.10.

pip install tensorflow-cpu && pip install --no-deps tf-keras
"""

import numpy as np
import tensorflow as tf
import tf_keras
from problem import float32_value, grid, record

ROUNDED = "rho and momentum are float32 values: the optimizer rounds them to float32"
RHO = float32_value(0.9)

cases = [
    *grid(["float32"]),
    *grid(
        rho=[RHO],
        momentum=[0.0, RHO],
        centered=[False, True],
        note=ROUNDED,
    ),
    *grid(
        rho=[float32_value(0.99)],
        epsilon=[1e-3],
        momentum=[0.0, RHO],
        centered=[False, True],
        note=ROUNDED,
    ),
]


def run(problem, case):
    """Return the parameters after each step."""
    variable = tf.Variable(problem.initial)
    optimizer = tf_keras.optimizers.legacy.RMSprop(**case.arguments)
    trajectory = []
    for learning_rate, gradient in zip(
        problem.learning_rates, problem.gradients, strict=True
    ):
        optimizer.learning_rate = float(learning_rate)
        optimizer.apply_gradients([(tf.constant(gradient), variable)])
        trajectory.append(variable.numpy())
    return np.stack(trajectory)


if __name__ == "__main__":
    record(
        "keras_legacy",
        framework="tf-keras",
        version=f"{tf_keras.__version__} (TensorFlow {tf.__version__})",
        source="tf_keras.optimizers.legacy.RMSprop",
        cases=cases,
        run=run,
    )
