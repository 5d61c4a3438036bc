"""Record ten epochs of a small network under `torch.optim.RMSprop`.

pip install torch==2.13.0 numpy

Arrays of `torch_mlp.npz`: `inputs`, `targets`, `initial/<name>`, `final/<name>`,
`losses` (the ten printed numbers, each before its step).
"""

import numpy as np
import torch
from problem import save
from torch_mlp import arrays, make_regression, train

ARGUMENTS = {"lr": 0.01, "alpha": 0.9}

if __name__ == "__main__":
    inputs, targets, network = make_regression()
    initial = arrays("initial", network.state_dict())
    optimizer = torch.optim.RMSprop(network.parameters(), **ARGUMENTS)
    losses = train(network, inputs, targets, optimizer, 10)
    for epoch, loss in enumerate(losses, 1):
        print(f"epoch {epoch:2d}  loss {loss:.6f}")
    save(
        "torch_mlp",
        {
            "inputs": inputs.numpy(),
            "targets": targets.numpy(),
            "losses": np.array(losses, np.float32),
            **initial,
            **arrays("final", network.state_dict()),
        },
        framework="PyTorch",
        version=torch.__version__,
        source="torch.optim.RMSprop (CPU)",
        executed=True,
        arguments=ARGUMENTS,
        note="loss = mean((network(inputs) - targets)**2), 10 full-batch steps",
    )
