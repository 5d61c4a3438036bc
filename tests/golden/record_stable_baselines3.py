"""Record Stable-Baselines3's `RMSpropTFLike`.

pip install torch==2.13.0 numpy && pip install --no-deps stable-baselines3
"""

import functools
from importlib.metadata import version

import torch_loop
from problem import grid, record

MODULE = "stable_baselines3.common.sb2_compat.rmsprop_tf_like"

cases = [
    *grid(),
    *grid(momentum=[0.0, 0.9], centered=[False, True], weight_decay=[0.0, 0.01]),
    *grid(alpha=[0.9], eps=[1e-3], momentum=[0.0, 0.9], centered=[False, True]),
]

if __name__ == "__main__":
    make_optimizer = torch_loop.import_alone(MODULE).RMSpropTFLike
    record(
        "stable_baselines3",
        framework="Stable-Baselines3",
        version=version("stable-baselines3"),
        source=f"{MODULE}.RMSpropTFLike",
        cases=cases,
        run=functools.partial(torch_loop.run, make_optimizer),
    )
