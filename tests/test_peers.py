"""The recorders run again, beside our dialects: `make test-peers`.

Each script `golden/record_<name>.py` runs here as it is, except that it writes no file.
A framework that is not installed is skipped.
"""

import contextlib
import runpy
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from replay import GOLDEN, RECORDED, TOLERANCE, problem, relative_error, replay

from rmsprop_jax import dialects

pytestmark = pytest.mark.peers


@contextlib.contextmanager
def lenient():
    """Let another framework promote dtypes and warn as it likes."""
    jax.config.update("jax_numpy_dtype_promotion", "standard")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        jax.config.update("jax_numpy_dtype_promotion", "strict")


def recorder(name, monkeypatch):
    """Run a recording script, and return what it would write."""
    told = {}
    monkeypatch.setattr(problem, "record", lambda _, **rest: told.update(rest))
    try:
        runpy.run_path(str(GOLDEN / f"record_{name}.py"), run_name="__main__")
    except ImportError as error:
        pytest.skip(f"{name}: {error}")
    return told["cases"], told["run"]


@pytest.mark.parametrize("name", RECORDED)
def test_frameworks_take_our_steps_today(x64, monkeypatch, name):
    with lenient():
        cases, run = recorder(name, monkeypatch)
        paths = [run(problem.make_problem(case.dtype), case) for case in cases]
    errors = {
        case.name(): relative_error(case, want, got) / TOLERANCE[case.dtype]
        for case, want, got in zip(cases, paths, replay(name, cases), strict=True)
    }
    assert not {case: error for case, error in errors.items() if not error <= 1}


def test_a_torch_program_and_its_twin_print_the_same_losses():
    torch = pytest.importorskip("torch")
    import torch_mlp

    inputs, targets, network = torch_mlp.make_regression()
    params = [jnp.asarray(p.detach().numpy().T.copy()) for p in network.parameters()]
    optimizer = torch.optim.RMSprop(network.parameters(), lr=0.01, alpha=0.9)
    theirs = torch_mlp.train(network, inputs, targets, optimizer, 10)

    x, y = jnp.asarray(inputs.numpy()), jnp.asarray(targets.numpy())

    def loss(params):
        w1, b1, w2, b2 = params
        hidden = jax.nn.relu(x @ w1 + b1[None, :])
        return jnp.mean((hidden @ w2 + b2[None, :] - y) ** 2)

    tx = dialects.torch(lr=0.01, alpha=0.9)
    state, ours = tx.init(params), []
    for _ in range(10):
        value, g = jax.value_and_grad(loss)(params)
        updates, state = tx.update(g, state, params)
        params = optax.apply_updates(params, updates)
        ours.append(float(value))
    assert [f"{value:.4f}" for value in ours] == [f"{value:.4f}" for value in theirs]
    for mine, p in zip(params, network.parameters(), strict=True):
        np.testing.assert_allclose(mine, p.detach().numpy().T, rtol=1e-4, atol=1e-6)
