"""Record `tf.compat.v1.train.RMSPropOptimizer`, dense gradients, in a graph.

pip install tensorflow-cpu
"""

import numpy as np
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
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        variable = tf.compat.v1.get_variable("w", initializer=problem.initial)
        learning_rate = tf.compat.v1.placeholder(case.dtype, ())
        gradient = tf.compat.v1.placeholder(case.dtype, problem.initial.shape)
        optimizer = tf.compat.v1.train.RMSPropOptimizer(learning_rate, **case.arguments)
        step = optimizer.apply_gradients([(gradient, variable)])
        session.run(tf.compat.v1.global_variables_initializer())
        trajectory = []
        for rate, value in zip(problem.learning_rates, problem.gradients, strict=True):
            session.run(step, {learning_rate: rate, gradient: value})
            trajectory.append(session.run(variable))
    return np.stack(trajectory)


if __name__ == "__main__":
    record(
        "tensorflow1",
        framework="TensorFlow",
        version=tf.__version__,
        source="tf.compat.v1.train.RMSPropOptimizer (CPU kernel, dense)",
        cases=cases,
        run=run,
    )
