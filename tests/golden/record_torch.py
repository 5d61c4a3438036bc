"""Record `torch.optim.RMSprop`.

pip install torch==2.13.0 numpy
"""

import functools

import torch
import torch_loop
from problem import grid, record

COMPLEX = ("complex64", "complex128")

cases = [
    *grid(),
    *grid(momentum=[0.0, 0.9], centered=[False, True], weight_decay=[0.0, 0.01]),
    *grid(alpha=[0.9], eps=[1e-3], momentum=[0.0, 0.9], centered=[False, True]),
    *grid(
        alpha=[0.9],
        momentum=[0.0, 0.9],
        weight_decay=[0.01],
        maximize=[True],
        note="the gradient is negated before weight decay is added",
    ),
    *grid(
        COMPLEX,
        alpha=[0.9],
        momentum=[0.9],
        centered=[False, True],
        note="real and imaginary parts are two real parameters",
    ),
    *grid(COMPLEX, weight_decay=[0.01], maximize=[True]),
]

if __name__ == "__main__":
    make_optimizer = functools.partial(torch.optim.RMSprop, foreach=False)
    record(
        "torch",
        framework="PyTorch",
        version=torch.__version__,
        source="torch.optim.RMSprop (foreach=False, CPU)",
        cases=cases,
        run=functools.partial(torch_loop.run, make_optimizer),
    )
