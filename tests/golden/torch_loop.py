"""What the recordings of PyTorch optimizers share."""

import importlib
import importlib.util
import sys
import types
from pathlib import Path

import numpy as np
import torch


def run(make_optimizer, problem, case):
    """Return the parameters after each step of a PyTorch optimizer."""
    param = torch.nn.Parameter(torch.from_numpy(problem.initial.copy()))
    optimizer = make_optimizer([param], **case.arguments)
    trajectory = []
    for learning_rate, gradient in zip(
        problem.learning_rates, problem.gradients, strict=True
    ):
        optimizer.param_groups[0]["lr"] = float(learning_rate)
        param.grad = torch.from_numpy(gradient.copy())
        optimizer.step()
        trajectory.append(param.detach().numpy().copy())
    return np.stack(trajectory)


def import_alone(module):
    """Import one module of an installed package without its packages' `__init__`.

    So the optimizer's file runs as installed while the rest of the package, and all
    that the rest needs, is left out.
    """
    packages = module.split(".")[:-1]
    spec = importlib.util.find_spec(packages[0])
    if spec is None:
        raise ModuleNotFoundError(f"No module named {packages[0]!r}", name=packages[0])
    location = spec.submodule_search_locations[0]
    for depth in range(len(packages)):
        name = ".".join(packages[: depth + 1])
        stand_in = types.ModuleType(name)
        stand_in.__path__ = [str(Path(location, *packages[1 : depth + 1]))]
        sys.modules[name] = stand_in
    return importlib.import_module(module)
