"""The small network of the PyTorch training recordings."""

import torch


def make_regression():
    """Return the inputs (100, 10), targets (100, 1) and network 10-50-1 of seed 0."""
    torch.manual_seed(0)
    inputs, targets = torch.randn(100, 10), torch.randn(100, 1)
    network = torch.nn.Sequential(
        torch.nn.Linear(10, 50), torch.nn.ReLU(), torch.nn.Linear(50, 1)
    )
    return inputs, targets, network


def train(network, inputs, targets, optimizer, steps):
    """Take full-batch steps on the mean squared error; return the loss before each."""
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(network(inputs), targets)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def arrays(prefix, tensors):
    """Return copies as NumPy arrays, each named `<prefix>/<name>`."""
    return {
        f"{prefix}/{name}": tensor.detach().numpy().copy()
        for name, tensor in tensors.items()
    }
