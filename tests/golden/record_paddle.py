"""Record `paddle.optimizer.RMSProp` on the CPU.

pip install paddlepaddle
"""

import numpy as np
import paddle
from problem import float32_value, grid, record

ROUNDED = "hyperparameters are float32 values: the kernel takes them as C++ floats"
MOMENTA = [0.0, float32_value(0.9)]

cases = [
    *grid(["float32"]),
    *grid(
        rho=[float32_value(0.95)],
        epsilon=[float32_value(1e-6)],
        momentum=MOMENTA,
        centered=[False, True],
        note=ROUNDED,
    ),
    *grid(
        rho=[float32_value(0.99)],
        epsilon=[float32_value(1e-3)],
        momentum=MOMENTA,
        centered=[False, True],
        weight_decay=[float32_value(0.01)],
        note=ROUNDED,
    ),
]


def run(problem, case):
    """Return the parameters after each step."""
    paddle.set_default_dtype(case.dtype)
    param = paddle.create_parameter(problem.initial.shape, case.dtype)
    param.set_value(problem.initial)
    optimizer = paddle.optimizer.RMSProp(0.0, parameters=[param], **case.arguments)
    trajectory = []
    for learning_rate, gradient in zip(
        problem.learning_rates, problem.gradients, strict=True
    ):
        optimizer.set_lr(float(learning_rate))
        param.grad = paddle.to_tensor(gradient)
        optimizer.step()
        trajectory.append(param.numpy().copy())
    return np.stack(trajectory)


if __name__ == "__main__":
    record(
        "paddle",
        framework="PaddlePaddle",
        version=paddle.__version__,
        source="paddle.optimizer.RMSProp (CPU)",
        cases=cases,
        run=run,
    )
