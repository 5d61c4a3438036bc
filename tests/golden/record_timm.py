"""Record `timm.optim.rmsprop_tf.RMSpropTF`.

pip install torch==2.13.0 numpy && pip install --no-deps timm
"""

import functools
from importlib.metadata import version

import torch_loop
from problem import grid, record

cases = [
    *grid(),
    *grid(momentum=[0.0, 0.9], centered=[False, True]),
    *grid(
        eps=[1e-3],
        weight_decay=[0.01],
        momentum=[0.0, 0.9],
        centered=[False, True],
        decoupled_decay=[False, True],
    ),
    *grid(momentum=[0.9], centered=[False, True], lr_in_momentum=[False]),
    *grid(
        alpha=[0.99],
        weight_decay=[0.01],
        momentum=[0.9],
        decoupled_decay=[False, True],
        lr_in_momentum=[False],
    ),
]

if __name__ == "__main__":
    module = torch_loop.import_alone("timm.optim.rmsprop_tf")
    make_optimizer = functools.partial(module.RMSpropTF, foreach=False)
    record(
        "timm",
        framework="timm",
        version=version("timm"),
        source="timm.optim.rmsprop_tf.RMSpropTF (foreach=False, CPU)",
        cases=cases,
        run=functools.partial(torch_loop.run, make_optimizer),
    )
