"""Record a PyTorch run at half time: weights and `state_dict` at steps 30 and 60.

pip install torch==2.13.0 numpy

Two runs, `momentum_centered` and `plain`. Arrays of `torch_midrun.npz`: `inputs`,
`targets`, `<run>/params/<step>/<name>` and `<run>/state/<step>/<name>/<slot>`; the
param_groups are in `meta`. `torch_midrun.pt` and `torch_midrun_plain.pt` hold what
`torch.save(optimizer.state_dict(), path)` writes at step 30.
"""

import torch
from problem import FOLDER, save
from torch_mlp import arrays, make_regression, train

RUNS = {
    "momentum_centered": {
        "lr": 0.001,
        "momentum": 0.9,
        "centered": True,
        "weight_decay": 1e-4,
    },
    "plain": {"lr": 0.001},
}
FILES = {"momentum_centered": "torch_midrun.pt", "plain": "torch_midrun_plain.pt"}


def record_run(run, recorded):
    """Train for 60 steps, adding to `recorded`; return the param_groups at step 30."""
    inputs, targets, network = make_regression()
    recorded |= {"inputs": inputs.numpy(), "targets": targets.numpy()}
    recorded |= arrays(f"{run}/params/0", network.state_dict())
    optimizer = torch.optim.RMSprop(network.parameters(), **RUNS[run])
    names = [name for name, _ in network.named_parameters()]
    for step in (30, 60):
        train(network, inputs, targets, optimizer, 30)
        recorded |= arrays(f"{run}/params/{step}", network.state_dict())
        state_dict = optimizer.state_dict()
        for index, slots in state_dict["state"].items():
            recorded |= arrays(f"{run}/state/{step}/{names[index]}", slots)
        if step == 30:
            torch.save(state_dict, FOLDER / FILES[run])
            param_groups = state_dict["param_groups"]
    return param_groups


if __name__ == "__main__":
    recorded = {}
    param_groups = {run: record_run(run, recorded) for run in RUNS}
    save(
        "torch_midrun",
        recorded,
        framework="PyTorch",
        version=torch.__version__,
        source="torch.optim.RMSprop (CPU)",
        executed=True,
        arguments=RUNS,
        param_groups=param_groups,
        note="the network, data and loss of torch_mlp.npz, full batch",
    )
