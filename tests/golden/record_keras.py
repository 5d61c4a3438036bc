"""Record `keras.optimizers.RMSprop` of Keras 3 on the JAX backend.

pip install keras jax
"""

import os

os.environ["KERAS_BACKEND"] = "jax"

import jax
import keras
import numpy as np
from problem import grid, record

TWO_VARIABLES = {
    "split": (5,),
    "note": "two variables, of 5 and 3 elements: np.split(gradients, [5], axis=1)",
}

cases = [
    *grid(),
    *grid(momentum=[0.0, 0.9], centered=[False, True], weight_decay=[None, 0.01]),
    *grid(rho=[0.99], epsilon=[1e-3], momentum=[0.0, 0.9], centered=[False, True]),
    *grid(momentum=[0.0, 0.9], clipnorm=[1.0], **TWO_VARIABLES),
    *grid(momentum=[0.0, 0.9], global_clipnorm=[1.0], **TWO_VARIABLES),
    *grid(momentum=[0.0, 0.9], clipvalue=[0.5], **TWO_VARIABLES),
]


def run(problem, case):
    """Return the parameters after each step, the variables joined again."""
    keras.config.set_floatx(case.dtype)
    variables = [
        keras.Variable(part, dtype=case.dtype)
        for part in np.split(problem.initial, case.split)
    ]
    optimizer = keras.optimizers.RMSprop(**case.arguments)
    trajectory = []
    for learning_rate, gradient in zip(
        problem.learning_rates, problem.gradients, strict=True
    ):
        optimizer.learning_rate = float(learning_rate)
        gradients = [
            keras.ops.convert_to_tensor(part) for part in np.split(gradient, case.split)
        ]
        optimizer.apply(gradients, variables)
        trajectory.append(np.concatenate([np.asarray(v.value) for v in variables]))
    return np.stack(trajectory)


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    record(
        "keras",
        framework="Keras",
        version=keras.__version__,
        source=f"keras.optimizers.RMSprop (backend jax {jax.__version__})",
        cases=cases,
        run=run,
    )
