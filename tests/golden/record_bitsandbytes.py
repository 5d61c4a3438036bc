"""Record `bitsandbytes.optim.RMSprop32bit` on the CPU.

pip install torch==2.13.0 numpy packaging && pip install --no-deps bitsandbytes
"""

import functools
from importlib.metadata import version

import bitsandbytes
import torch_loop
from problem import grid, record

cases = [
    *grid(["float32"]),
    *grid(["float32"], weight_decay=[0.0, 0.01]),
    *grid(["float32"], alpha=[0.9], eps=[1e-3], weight_decay=[0.0, 0.01]),
    *grid(["float32"], momentum=[0.9], note="momentum is accepted and ignored"),
]

if __name__ == "__main__":
    record(
        "bitsandbytes",
        framework="bitsandbytes",
        version=version("bitsandbytes"),
        source="bitsandbytes.optim.RMSprop32bit (CPU)",
        cases=cases,
        run=functools.partial(torch_loop.run, bitsandbytes.optim.RMSprop32bit),
    )
