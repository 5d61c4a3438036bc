"""The real PyTorch, bitsandbytes and Keras: save, load, train on."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import distance
from midrun import GOLDEN, RUNS, TORCH_MODULES, TORCH_NAMES, ZEROS, torch_state_dict

from rmsprop_jax import dialects
from rmsprop_jax.interop import keras as from_keras
from rmsprop_jax.interop import torch as from_torch

pytestmark = pytest.mark.peers

MAPPING = {
    "0.weight": ("conv/kernel", "o i h w -> h w i o"),
    "0.bias": "conv/bias",
    "3.weight": ("out/kernel", "o (c h w) -> (h w c) o", {"h": 4, "w": 4}),
    "3.bias": "out/bias",
}
OPTIONS = [
    dict(momentum=momentum, centered=centered, weight_decay=0.01)
    for momentum in (0.0, 0.9)
    for centered in (False, True)
]


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


def network(torch):
    """A network without kinks, so that rounding does not grow."""
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(2, 3, 3),
        torch.nn.Tanh(),
        torch.nn.Flatten(),
        torch.nn.Linear(48, 5),
    )


DATA = np.random.default_rng(0).standard_normal((8, 2, 6, 6)).astype(np.float32)


def train_torch(torch, model, optimizer, steps):
    visited = []
    for _ in range(steps):
        optimizer.zero_grad()
        (model(torch.from_numpy(DATA)) ** 2).mean().backward()
        optimizer.step()
        weights = {k: v.detach().numpy().copy() for k, v in model.state_dict().items()}
        visited.append(weights)
    return visited


def loss(params):
    """The same network, channels last."""
    conv, out = params["conv"], params["out"]
    x = jax.lax.conv_general_dilated(
        np.moveaxis(DATA, 1, -1),
        conv["kernel"],
        (1, 1),
        "VALID",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    x = jnp.tanh(x + conv["bias"][None, None, None]).reshape(8, 48)
    return jnp.mean((x @ out["kernel"] + out["bias"][None]) ** 2)


def train_jax(tx, params, state, steps):
    @jax.jit
    def step(params, state):
        updates, state = tx.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, updates), state

    for _ in range(steps):
        params, state = step(params, state)
    return params, state


def zeros():
    return {
        "conv": {"kernel": jnp.zeros((3, 3, 2, 3)), "bias": jnp.zeros(3)},
        "out": {"kernel": jnp.zeros((48, 5)), "bias": jnp.zeros(5)},
    }


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_either_half_may_be_ours(torch, options):
    model = network(torch)
    start = {k: v.numpy().copy() for k, v in model.state_dict().items()}
    optimizer = torch.optim.RMSprop(model.named_parameters(), lr=1e-3, **options)
    fresh = optimizer.state_dict()
    path = train_torch(torch, model, optimizer, 30)
    half, weights = optimizer.state_dict(), model.state_dict()
    tx = dialects.torch(**from_torch.options(half))
    params = from_torch.from_weights(weights, zeros(), MAPPING)
    state = from_torch.from_state_dict(half, tx.init(params), MAPPING)
    # Imported before the optimizer goes on, which changes its tensors in place.
    path += train_torch(torch, model, optimizer, 30)
    params, _ = train_jax(tx, params, state, 30)
    compare(from_torch.to_weights(params, MAPPING), path, start)

    params = from_torch.from_weights(start, zeros(), MAPPING)
    params, state = train_jax(tx, params, tx.init(params), 30)
    model = network(torch)
    optimizer = torch.optim.RMSprop(model.named_parameters(), lr=1.0)
    loaded = from_torch.to_weights(params, MAPPING)
    model.load_state_dict({k: torch.from_numpy(x) for k, x in loaded.items()})
    optimizer.load_state_dict(
        from_torch.to_state_dict(state, fresh, MAPPING, array=torch.from_numpy)
    )
    compare(train_torch(torch, model, optimizer, 30)[-1], path, start)


def compare(got, path, start):
    for name, x in got.items():
        visited = [weights[name] for weights in path]
        error = np.max(np.abs(x - visited[-1])) / distance(visited, start[name])
        print(f"{name} {error:.1e}")
        assert error <= 2e-5


@pytest.mark.parametrize("run", RUNS)
def test_files_of_torch(torch, run, tmp_path):
    """The file that torch saved holds what the arrays say, and so does one of ours."""
    file = GOLDEN / {"plain": "torch_midrun_plain.pt"}.get(run, "torch_midrun.pt")
    mapping = from_torch.flax_mapping(ZEROS, TORCH_MODULES)
    template = dialects.torch(**from_torch.options(file)).init(ZEROS)
    given = torch_state_dict(run, 30)
    want = from_torch.from_state_dict(given, template, mapping, names=TORCH_NAMES)
    got = from_torch.from_state_dict(file, template, mapping, names=TORCH_NAMES)
    chex.assert_trees_all_equal(got, want)
    back = from_torch.to_state_dict(got, file, mapping, names=TORCH_NAMES)
    from_torch.save(back, tmp_path / "optimizer.pt")
    loaded = torch.load(tmp_path / "optimizer.pt", weights_only=True)
    assert isinstance(loaded["state"][0]["square_avg"], torch.Tensor)
    got = from_torch.from_state_dict(loaded, template, mapping, names=TORCH_NAMES)
    chex.assert_trees_all_equal(got, want)


def test_tensors_that_numpy_lacks(torch):
    for dtype in (torch.bfloat16, torch.float8_e5m2):
        weights = {"w": torch.nn.Parameter(torch.tensor([1.0, 0.5]).to(dtype))}
        params = from_torch.from_weights(weights, {"w": jnp.zeros(2)}, {"w": "w"})
        np.testing.assert_array_equal(params["w"], [1.0, 0.5])
    weights = {"w": torch.tensor([1 + 2j]).conj()}
    params = from_torch.from_weights(
        weights, {"w": jnp.zeros(1, jnp.complex64)}, {"w": "w"}
    )
    np.testing.assert_array_equal(params["w"], [1 - 2j])


def test_bitsandbytes(torch):
    bitsandbytes = pytest.importorskip("bitsandbytes")
    model = network(torch)
    start = {k: v.numpy().copy() for k, v in model.state_dict().items()}
    make = bitsandbytes.optim.RMSprop32bit
    optimizer = make(model.parameters(), lr=1e-3, weight_decay=0.01)
    path = train_torch(torch, model, optimizer, 30)
    half = optimizer.state_dict()
    tx = dialects.bitsandbytes(**from_torch.options(half))
    params = from_torch.from_weights(path[-1], zeros(), MAPPING)
    names = list(MAPPING)
    state = from_torch.from_state_dict(half, tx.init(params), MAPPING, names=names)
    path += train_torch(torch, model, optimizer, 30)
    params_after, state_after = train_jax(tx, params, state, 30)
    compare(from_torch.to_weights(params_after, MAPPING), path, start)

    model = network(torch)
    weights = from_torch.to_weights(params, MAPPING)
    model.load_state_dict({k: torch.from_numpy(x) for k, x in weights.items()})
    optimizer = make(model.parameters(), lr=1.0)
    saved = from_torch.to_state_dict(
        state, half, MAPPING, names=names, array=torch.from_numpy
    )
    optimizer.load_state_dict(saved)
    compare(train_torch(torch, model, optimizer, 30)[-1], path, start)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("options", [dict(), dict(momentum=0.9, centered=True)])
def test_keras(options, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    keras = pytest.importorskip("keras")
    keras.config.set_floatx("float32")  # the recorder in test_peers.py sets float64
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        gradients = np.random.default_rng(0).standard_normal((20, 4), np.float32)
        weight = keras.Variable(np.ones(4, np.float32), name="w")
        optimizer = keras.optimizers.RMSprop(0.01, **options)
        optimizer.build([weight])
        path = []
        for g in gradients:
            if len(path) == 10:
                variables = {v.path: v.numpy() for v in optimizer.variables}
            optimizer.apply([g], [weight])
            path.append(np.array(weight.numpy()))
        assert from_keras.options(optimizer.get_config())["rho"] == 0.9
        tx = dialects.keras(**from_keras.options(optimizer.get_config()))
        state = from_keras.from_variables(variables, tx.init(jnp.ones(4)), {"w": ""})
        paths = [v.path for v in optimizer.variables]
        stored = from_keras.to_variables(state, {"w": ""}, paths, learning_rate=0.01)
        again = keras.optimizers.RMSprop(0.5, **options)
        again.build([weight])
        again.load_own_variables(stored)
        weight.assign(path[9])
        for g in gradients[10:]:
            again.apply([g], [weight])
        np.testing.assert_array_equal(weight.numpy(), path[-1])
    params = jnp.asarray(path[9])
    for g in gradients[10:]:
        updates, state = tx.update(jnp.asarray(g), state, params)
        params = optax.apply_updates(params, updates)
    error = np.max(np.abs(params - path[-1])) / distance(path[10:], path[9])
    assert error <= 2e-5


@pytest.fixture
def one_process(torch):
    """A process group of one, on the CPU."""
    distributed = pytest.importorskip("torch.distributed")
    store = distributed.HashStore()
    distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield distributed
    distributed.destroy_process_group()


def continues(torch, model, optimizer, source, **names):
    """Import, train on in both, and compare the weights."""
    start = {k: full(v) for k, v in model.state_dict().items()}
    tx = dialects.torch(**from_torch.options(source))
    params = from_torch.from_weights(start, zeros(), MAPPING)
    state = from_torch.from_state_dict(source, tx.init(params), MAPPING, **names)
    params, _ = train_jax(tx, params, state, 5)
    path = []
    for _ in range(5):
        optimizer.zero_grad()
        (model(torch.from_numpy(DATA)) ** 2).mean().backward()
        optimizer.step()
        path.append({k: full(v) for k, v in model.state_dict().items()})
    compare(from_torch.to_weights(params, MAPPING), path, start)


def full(x):
    x = x.full_tensor() if hasattr(x, "full_tensor") else x
    return x.detach().numpy().copy()


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("whole", [False, True])
def test_fsdp2(torch, one_process, flat, whole):
    """Sharded tensors, with the numbers of the optimizer and in the ways to save."""
    from torch.distributed.checkpoint import state_dict as saving
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    model = network(torch)
    fully_shard(model, mesh=init_device_mesh("cpu", (1,)))
    optimizer = torch.optim.RMSprop(model.parameters(), lr=1e-3, momentum=0.9)
    for _ in range(3):
        optimizer.zero_grad()
        (model(torch.from_numpy(DATA)) ** 2).mean().backward()
        optimizer.step()
    options = saving.StateDictOptions(
        full_state_dict=whole, flatten_optimizer_state_dict=flat
    )
    saved = saving.get_optimizer_state_dict(model, optimizer, options=options)
    tx = dialects.torch(**from_torch.options(saved))
    of = [
        from_torch.from_state_dict(source, tx.init(zeros()), MAPPING, **names)
        for source, names in (
            (saved, {}),
            ({"app": {"optim": saved}}, {}),
            (optimizer.state_dict(), {"names": list(MAPPING)}),
        )
    ]
    chex.assert_trees_all_equal(*of)
    back = from_torch.to_state_dict(of[0], saved, MAPPING, array=torch.from_numpy)
    if not flat:
        options = saving.StateDictOptions(full_state_dict=True)
        saving.set_optimizer_state_dict(model, optimizer, back, options=options)
    continues(torch, model, optimizer, saved)


def test_the_folder_that_accelerate_saves(torch, tmp_path):
    """Files optimizer.bin, scheduler.bin and model.safetensors, as it names them."""
    safetensors = pytest.importorskip("safetensors.torch")
    model = network(torch)
    optimizer = torch.optim.RMSprop(model.parameters(), lr=1e-3, centered=True)
    scheduler = torch.optim.lr_scheduler.LinearLR(optimizer)
    train_torch(torch, model, optimizer, 5)
    torch.save(optimizer.state_dict(), tmp_path / "optimizer.bin")
    torch.save(scheduler.state_dict(), tmp_path / "scheduler.bin")
    safetensors.save_file(model.state_dict(), tmp_path / "model.safetensors")
    with pytest.raises(IsADirectoryError, match="with 'model.safetensors', 'optimizer"):
        from_torch.options(tmp_path)
    with pytest.raises(ValueError, match="no state of an optimizer; got a dict with"):
        from_torch.options(tmp_path / "scheduler.bin")
    weights = from_torch.from_weights(tmp_path / "model.safetensors", zeros(), MAPPING)
    back = from_torch.to_weights(weights, MAPPING)
    chex.assert_trees_all_equal(
        back, {k: full(v) for k, v in model.state_dict().items()}
    )
    source = tmp_path / "optimizer.bin"
    continues(torch, model, optimizer, source, names=list(MAPPING))


def test_groups_in_another_order_with_a_frozen_parameter(torch):
    model = network(torch)
    model[0].bias.requires_grad_(False)
    of_head, of_body = ({"params": model[k].parameters()} for k in (3, 0))
    groups = [of_head | {"lr": 0.01}, of_body | {"momentum": 0.9}]
    optimizer = torch.optim.RMSprop(groups, lr=1e-3)
    train_torch(torch, model, optimizer, 5)
    start = {k: full(v) for k, v in model.state_dict().items()}
    saved, names = optimizer.state_dict(), [[*MAPPING][2:], [*MAPPING][:2]]
    params = from_torch.from_weights(start, zeros(), MAPPING)
    labels = from_torch.group_labels(saved, params, MAPPING, names=names)
    labels["conv"]["bias"] = "frozen"
    each = {str(k): dialects.torch(**from_torch.options(saved, k)) for k in range(2)}
    tx = optax.partition(each | {"frozen": optax.set_to_zero()}, labels)
    template = tx.init(params)
    state = from_torch.from_state_dict(saved, template, MAPPING, names=names)
    back = from_torch.to_state_dict(
        state, saved, MAPPING, names=names, array=torch.from_numpy
    )
    optimizer.load_state_dict(back)
    path = train_torch(torch, model, optimizer, 5)
    params, _ = train_jax(tx, params, state, 5)
    got = from_torch.to_weights(params, MAPPING)
    np.testing.assert_array_equal(got.pop("0.bias"), start["0.bias"])
    compare(got, path, start)


def test_files_with_scalars_and_arrays_of_numpy(torch, tmp_path):
    saved = torch_state_dict("plain", 30)
    mapping = from_torch.flax_mapping(ZEROS, TORCH_MODULES)
    template = dialects.torch(**from_torch.options(saved)).init(ZEROS)
    want = from_torch.from_state_dict(saved, template, mapping, names=TORCH_NAMES)
    whole = {"optimizer": saved, "best": np.float32(3), "seen": np.arange(3)}
    torch.save(whole, tmp_path / "run.pt")
    with open(tmp_path / "run.pt", "rb") as file:  # for two calls
        assert from_torch.options(file) == from_torch.options(saved)
        got = from_torch.from_state_dict(file, template, mapping, names=TORCH_NAMES)
    chex.assert_trees_all_equal(got, want)
