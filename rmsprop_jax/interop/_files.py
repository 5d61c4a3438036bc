"""Checkpoint files: `.safetensors` without torch, everything else through torch."""

import contextlib
import functools
import importlib
import json
import os
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .._arguments import Call
from ._layout import owned

_PREFIX = "state."

Writer = Callable[[str], None]


def load(call: Call, source: Any) -> Any:
    """Read a file where a path is given; return anything else as it is."""
    if not isinstance(source, str | os.PathLike):
        return source
    if Path(source).suffix == ".safetensors":
        return _load_safetensors(call, source)
    torch = _import(call, "torch", source)
    return torch.load(source, map_location="cpu", weights_only=True)


def save(call: Call, tree: Mapping[str, Any], path: str | os.PathLike) -> None:
    """Write a file beside its place, then rename it: whole, or not at all."""
    path = Path(path)
    of_torch = path.suffix != ".safetensors"
    write = (_torch_writer if of_torch else _safetensors_writer)(call, tree, path)
    temporary = str(path.with_stem(f"{path.stem}.{secrets.token_hex(8)}"))
    open(temporary, "xb").close()
    mode = os.stat(temporary).st_mode  # as the umask says
    try:
        write(temporary)
        os.chmod(temporary, mode)  # safetensors leaves a file for this user alone
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)


def _load_safetensors(call: Call, path: str | os.PathLike) -> dict[str, Any]:
    safetensors = _import(call, "safetensors", path)
    with safetensors.safe_open(path, framework="np") as file:
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = file.metadata() or {}
    if "param_groups" not in metadata:
        return arrays
    groups = json.loads(metadata["param_groups"])
    keys = {str(key): key for group in groups for key in group["params"]}
    state = {}
    for name, array in arrays.items():
        key, _, slot = name.removeprefix(_PREFIX).rpartition(".")
        state.setdefault(keys.get(key, key), {})[slot] = array
    return {"state": state, "param_groups": groups}


def _torch_writer(call: Call, tree: Mapping[str, Any], path: Path) -> Writer:
    torch = _import(call, "torch", path)
    return functools.partial(torch.save, _map_arrays(torch.as_tensor, tree))


def _safetensors_writer(call: Call, tree: Mapping[str, Any], path: Path) -> Writer:
    _import(call, "safetensors", path)
    metadata = None
    if "param_groups" in tree:
        groups = json.dumps(tree["param_groups"], default=float)
        metadata, tree = (
            {"param_groups": groups},
            {
                f"{_PREFIX}{key}.{slot}": array
                for key, kept in tree["state"].items()
                for slot, array in kept.items()
            },
        )
    arrays = {name: owned(array) for name, array in tree.items()}
    save_file = importlib.import_module("safetensors.numpy").save_file
    return functools.partial(save_file, arrays, metadata=metadata)


def _map_arrays(f: Any, tree: Any) -> Any:
    if isinstance(tree, Mapping):
        return {key: _map_arrays(f, value) for key, value in tree.items()}
    return f(tree) if isinstance(tree, np.ndarray) else tree


def _import(call: Call, package: str, path: Any) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError as error:
        otherwise = " or save it as .safetensors" if package == "torch" else ""
        raise ImportError(
            f"`{call}`: {os.fspath(path)!r} needs {package}; run `pip install "
            f"{package}`{otherwise}."
        ) from error
