"""Names, layouts and files: what carries weights and moments alike."""

import functools
import os
import pathlib
import re
import stat
import subprocess
import sys
import types

import chex
import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax

from rmsprop_jax import scale_by_rmsprop
from rmsprop_jax.interop import keras, torch
from rmsprop_jax.interop._layout import parse_layout


def rearrange(x, pattern, **sizes):
    return parse_layout("test", pattern, sizes).apply(x)


@pytest.mark.parametrize(
    ("pattern", "shape", "sizes", "want"),
    [
        ("o i -> i o", (3, 4), {}, (4, 3)),
        ("o i w -> w i o", (2, 3, 4), {}, (4, 3, 2)),
        ("o i h w -> h w i o", (2, 3, 4, 5), {}, (4, 5, 3, 2)),
        ("o (c h w) -> (h w c) o", (7, 30), {"h": 3, "w": 5}, (30, 7)),
        ("(n d) e -> e n d", (6, 5), {"n": 2}, (5, 2, 3)),
        ("o -> o", (3,), {}, (3,)),
    ],
)
def test_a_layout_moves_axes_and_has_an_inverse(pattern, shape, sizes, want):
    layout = parse_layout("test", pattern, sizes)
    x = np.arange(np.prod(shape)).reshape(shape)
    assert layout.apply(x).shape == want
    np.testing.assert_array_equal(layout.inverse().apply(layout.apply(x)), x)


@pytest.mark.parametrize(
    "pattern", ["o i", "o i -> i", "o i -> i o o", "o i -> i k", "o i -> i o -> o i"]
)
def test_a_layout_that_is_none(pattern):
    with pytest.raises(ValueError, match=r"axis once on both sides.*got 'o i"):
        torch.from_weights({}, {}, {"w": ("kernel", pattern)})


def test_a_layout_that_lacks_lengths():
    with pytest.raises(ValueError, match=r"all but one of c, h, w; got \{'h': 3\}"):
        torch.from_weights({}, {}, {"w": ("w", "o (c h w) -> (h w c) o", {"h": 3})})


@pytest.mark.parametrize("entry", [3, ("kernel",), ("a", "b -> b", {}, 1)])
def test_an_entry_that_is_none(entry):
    with pytest.raises(
        TypeError, match=r"must give 'w' a path, \(path, layout\).*; got"
    ):
        torch.from_weights({}, {}, {"w": entry})


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize(("rank", "groups"), [(1, 1), (2, 2), (3, 1)])
def test_convolutions_compute_what_torch_computes(rank, groups):
    """Torch has channels first and kernels (out, in / groups, ...); Flax, last."""
    x, w = normal(2, 4, *[4] * rank), normal(6, 4 // groups, *[3] * rank, seed=1)
    axes = "DHW"[3 - rank :]
    convolve = functools.partial(
        lax.conv_general_dilated,
        window_strides=[1] * rank,
        padding="VALID",
        feature_group_count=groups,
    )
    want = convolve(x, w)
    zeros = {"kernel": jax.ShapeDtypeStruct((*w.shape[2:], *w.shape[1::-1]), w.dtype)}
    params = torch.from_weights({"weight": w}, zeros, torch.flax_mapping(zeros))
    got = convolve(
        np.moveaxis(x, 1, -1),
        params["kernel"],
        dimension_numbers=(f"N{axes}C", f"{axes}IO", f"N{axes}C"),
    )
    np.testing.assert_allclose(np.moveaxis(got, -1, 1), want, atol=1e-5)


def test_a_flattened_image_keeps_its_meaning():
    """Torch flattens (c, h, w), Flax (h, w, c)."""
    x, w = normal(2, 3, 4, 5), normal(7, 60, seed=1)
    kernel = rearrange(w, "o (c h w) -> (h w c) o", h=4, w=5)
    got = np.moveaxis(x, 1, -1).reshape(2, 60) @ kernel
    np.testing.assert_allclose(got, x.reshape(2, 60) @ w.T, atol=1e-5)


class Linen(linen.Module):
    @linen.compact
    def __call__(self, tokens):
        x = linen.Embed(5, 8, name="embed")(tokens)
        x = linen.LayerNorm(name="norm")(x)
        x = linen.BatchNorm(use_running_average=True, name="batch")(x)
        return linen.Dense(3, name="out")(x)


class Nnx(nnx.Module):
    def __init__(self, rngs):
        self.embed = nnx.Embed(5, 8, rngs=rngs)
        self.norm = nnx.LayerNorm(8, rngs=rngs)
        self.batch = nnx.BatchNorm(8, rngs=rngs)
        self.out = nnx.Linear(8, 3, rngs=rngs)


TORCH = {
    "embed.weight": (5, 8),
    "norm.weight": (8,),
    "norm.bias": (8,),
    "batch.weight": (8,),
    "batch.bias": (8,),
    "batch.running_mean": (8,),
    "batch.running_var": (8,),
    "batch.num_batches_tracked": (),
    "out.weight": (3, 8),
    "out.bias": (3,),
}
KERAS = {
    "model/embed/embeddings": (5, 8),
    "model/norm/gamma": (8,),
    "model/norm/beta": (8,),
    "model/batch/gamma": (8,),
    "model/batch/beta": (8,),
    "model/batch/moving_mean": (8,),
    "model/batch/moving_variance": (8,),
    "model/out/kernel": (8, 3),
    "model/out/bias": (3,),
}


def arrays(shapes):
    return {
        name: normal(*shape, seed=i) for i, (name, shape) in enumerate(shapes.items())
    }


def of_linen():
    variables = jax.eval_shape(
        Linen().init, jax.random.key(0), jnp.zeros((1,), jnp.int32)
    )
    return variables


def of_nnx():
    model = nnx.eval_shape(lambda: Nnx(nnx.Rngs(0)))
    return nnx.state(model)


@pytest.mark.parametrize("model", [of_linen, of_nnx])
def test_the_ready_mapping_covers_common_layers(model):
    variables = model()
    for framework, shapes, modules in (
        (torch, TORCH, None),
        (keras, KERAS, {"": "model"}),
    ):
        mapping = framework.flax_mapping(variables, modules)
        assert set(mapping) == set(shapes)
        weights = arrays(shapes)
        filled = framework.from_weights(weights, variables, mapping)
        chex.assert_trees_all_equal_shapes_and_dtypes(filled, variables)
        weights.pop("batch.num_batches_tracked", None)
        chex.assert_trees_all_equal(framework.to_weights(filled, mapping), weights)


def test_one_mapping_for_variables_and_optimizer():
    """Linen keeps running averages apart; the optimizer sees none of them."""
    layer = {"scale": jnp.ones(2), "bias": jnp.ones(2)}
    averages = {"mean": jnp.ones(2), "var": jnp.ones(2)}
    variables = {"params": {"norm": layer}, "batch_stats": {"norm": averages}}
    mapping = torch.flax_mapping(variables)
    assert mapping == torch.flax_mapping(variables, {"params/norm": "norm"})
    by_hand = {"norm.weight": "params/norm/scale", "norm.bias": "norm/bias"}
    template = scale_by_rmsprop().init(variables["params"])
    slots = {"step": 1, "square_avg": np.full(2, 4.0)}
    group = {"params": [0, 1], "param_names": ["norm.weight", "norm.bias"]}
    saved = {"state": {0: slots, 1: slots}, "param_groups": [group]}
    for one in (mapping, by_hand):
        state = torch.from_state_dict(saved, template, one)
        np.testing.assert_array_equal(state.s["norm"]["scale"], [4.0, 4.0])
    clash = {"params": {"w": jnp.ones(1)}, "w": jnp.ones(1)}
    with pytest.raises(ValueError, match="two leaves of the tree have the path 'w'"):
        torch.from_weights({}, clash, {})


def test_the_ready_mapping_follows_the_nearest_module():
    params = {"net": {"a": {"bias": jnp.ones(1)}, "b": {"c": {"bias": jnp.ones(1)}}}}
    got = torch.flax_mapping(params, {"net": "model", "net/b": "other.1"})
    assert got == {"model.a.bias": "net/a/bias", "other.1.c.bias": "net/b/c/bias"}
    with pytest.raises(ValueError, match=r"lies under 'a'; the paths are 'net/a/bias'"):
        torch.flax_mapping(params, {"a": "model"})


def test_one_error_for_weights_lists_everything():
    params = {"a": jnp.ones((2, 3)), "b": jnp.ones(2), "c": jnp.ones(2)}
    params["d"] = jnp.ones(2)
    mapping = {"A": ("a", "o i -> i o"), "B": "b", "X": "x", "D": "d", "E": None}
    weights = {"A": np.ones((2, 3)), "X": np.ones(2), "Y": np.ones(2), "E": np.ones(2)}
    weights["D"] = np.ones(2, np.complex64)
    with pytest.raises(ValueError) as raised:
        torch.from_weights(weights, params, mapping)
    assert str(raised.value).splitlines() == [
        "`interop.torch.from_weights`: does not fit.",
        "  missing: 'b', from 'B'",
        "  missing: 'c', for which the mapping has no name",
        "  unexpected: 'X', for there is no 'x'",
        "  unexpected: 'Y', which the mapping lacks",
        "  wrong shape or dtype: 'A': got (2, 3), expected (3, 2) for 'a'",
        "  wrong shape or dtype: 'D': got complex64, expected a real array for 'd'",
        "Extend the mapping by {name: path}, {name: (path, layout)}, or {name: None} "
        "to leave one out; `flax_mapping` leaves out square kernels of convolutions "
        "until it knows from `transposed` which are transposed. Nothing was changed.",
    ]
    match = r"'a': got \(2,\), expected what the layout names for 'A'"
    with pytest.raises(ValueError, match=match):
        torch.to_weights({"a": jnp.ones(2)}, {"A": ("a", "o i -> i o")})
    with pytest.raises(ValueError, match="unexpected: 'c', which the mapping lacks"):
        keras.to_weights(params, mapping)


def test_one_error_for_moments_lists_everything():
    template = scale_by_rmsprop(centered=True).init(
        {"a": jnp.ones(2), "b": jnp.ones(2)}
    )
    slots = {"step": 1, "square_avg": np.ones(3), "exp_avg": np.ones(3)}
    group = {"params": [0, 1], "momentum": 0.9, "param_names": ["A", "B"]}
    saved = {"state": {0: slots, 1: {}}, "param_groups": [group]}
    saved["state"][0]["momentum_buffer"] = np.ones(3)
    with pytest.raises(ValueError) as raised:
        torch.from_state_dict(saved, template, {"A": "a", "B": "b"})
    assert str(raised.value).splitlines()[:-1] == [
        "`interop.torch.from_state_dict`: does not fit.",
        "  missing: grad_avg, which the target keeps",
        "  unexpected: exp_avg of 'A'",
        "  unexpected: momentum_buffer, which the target does not keep",
        "  wrong shape or dtype: square_avg of 'A': got (3,), expected (2,) for 'a'",
    ]


def test_two_names_for_one_path():
    with pytest.raises(ValueError, match="both 'A' and 'B' the path 'a'.*None"):
        torch.to_weights({"a": jnp.ones(2)}, {"A": "a", "B": "a"})


def test_weights_of_low_precision():
    params = {"w": jnp.asarray([1.0, 1 / 3], jnp.bfloat16)}
    weights = torch.to_weights(params, {"w": "w"})
    assert weights["w"].dtype == np.float32
    back = torch.from_weights(weights, params, {"w": "w"})
    chex.assert_trees_all_equal(back, params)


SAVED = {
    "state": {0: {"step": np.float32(7), "square_avg": normal(2, 3) ** 2}},
    "param_groups": [{"params": [0], "lr": 0.1, "momentum": 0, "centered": False}],
}


def test_safetensors_need_no_torch(tmp_path, monkeypatch):
    pytest.importorskip("safetensors")
    monkeypatch.setitem(sys.modules, "torch", None)
    template = scale_by_rmsprop().init({"w": jnp.ones((3, 2))})
    mapping, names = {"w": ("w", "o i -> i o")}, ["w"]
    torch.save(SAVED, tmp_path / "optimizer.safetensors")
    state = torch.from_state_dict(
        tmp_path / "optimizer.safetensors", template, mapping, names=names
    )
    back = torch.to_state_dict(state, SAVED, mapping, names=names)
    chex.assert_trees_all_equal(back, SAVED)
    weights = {"w": np.ones((2, 3), np.float32).T.copy().T}  # not contiguous
    torch.save(weights, str(tmp_path / "model.safetensors"))
    params = torch.from_weights(
        str(tmp_path / "model.safetensors"), {"w": jnp.zeros((3, 2))}, mapping
    )
    chex.assert_trees_all_equal(torch.to_weights(params, mapping), weights)


@pytest.mark.parametrize("package", ["torch", "safetensors"])
def test_a_package_that_is_missing_is_named(package, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    suffix = ".pt" if package == "torch" else ".safetensors"
    path = tmp_path / f"optimizer{suffix}"
    path.write_bytes(b"before")
    match = rf"optimizer{suffix}' needs {package}; run `pip install {package}`"
    with pytest.raises(ImportError, match=f"torch.options`: .*{match}"):
        torch.options(path)
    with pytest.raises(ImportError, match=f"torch.save`: .*{match}"):
        torch.save(SAVED, path)
    assert path.read_bytes() == b"before"
    assert [x.name for x in tmp_path.iterdir()] == [path.name]


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    def save(tree, path):
        pathlib.Path(path).write_bytes(b"half")
        raise OSError("disk full")

    fake = types.SimpleNamespace(save=save, as_tensor=lambda x: x)
    monkeypatch.setitem(sys.modules, "torch", fake)
    path = tmp_path / "optimizer.pt"
    path.write_bytes(b"before")
    with pytest.raises(OSError, match="disk full"):
        torch.save(SAVED, path)
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o007, 0o660)])
def test_a_file_is_open_to_whom_the_umask_says(umask, mode, tmp_path):
    pytest.importorskip("safetensors")
    path, before = tmp_path / "optimizer.safetensors", os.umask(umask)
    try:
        torch.save(SAVED, path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert list(tmp_path.iterdir()) == [path]


def test_switches_of_timm_that_nothing_here_has():
    group = SAVED["param_groups"][0] | {"caution": True}
    with pytest.raises(
        ValueError, match="no dialect of RMSProp has caution, which group 0 has"
    ):
        torch.options({"state": {}, "param_groups": [group]})


def test_options():
    assert torch.options(SAVED) == {"lr": 0.1, "momentum": 0.0, "centered": False}
    config = {"learning_rate": {"class_name": "CosineDecay"}, "rho": 0.9, "name": "x"}
    assert keras.options(config) == {"rho": 0.9}


def test_switches_of_keras_that_nothing_here_has():
    off = dict(use_ema=False, ema_momentum=0.99, ema_overwrite_frequency=None)
    off |= dict(gradient_accumulation_steps=None, loss_scale_factor=None)
    config = {"learning_rate": 0.1, "rho": 0.9} | off
    assert keras.options(config) == {"learning_rate": 0.1, "rho": 0.9}
    config |= dict(use_ema=True, gradient_accumulation_steps=4, loss_scale_factor=2.0)
    match = (
        "no dialect has use_ema or loss_scale_factor or "
        "gradient_accumulation_steps, which this config uses.*MultiSteps"
    )
    with pytest.raises(ValueError, match=f"^`interop.keras.options`: {match}"):
        keras.options(config)


def test_import_loads_no_other_framework():
    code = (
        "import sys, rmsprop_jax.interop\n"
        "from jax._src import xla_bridge\n"
        "assert not xla_bridge._backends\n"
        "loaded = {'torch', 'keras', 'safetensors', 'flax'} & set(sys.modules)\n"
        "assert not loaded, loaded\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


DOCUMENT = pathlib.Path(__file__).parents[1] / "docs" / "moving-over.md"


def blocks():
    """Give the code of the page on moving over, in order."""
    if not DOCUMENT.exists():
        pytest.skip("installed without its source tree")
    return re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)


@pytest.mark.peers
def test_the_page_runs_with_torch(tmp_path, monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    names, promotion = {}, jax.numpy_dtype_promotion("standard")
    with promotion, jax.numpy_rank_promotion("allow"):
        for block in blocks():
            if not block.startswith(("# in Keras", ">>>")):
                exec(block, names)
    assert names["interop"].torch.options("optimizer.pt")["momentum"] == 0.9
