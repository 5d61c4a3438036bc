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

_PREFIX = "state."

Writer = Callable[[str], None]


def load(call: Call, source: Any) -> Any:
    """Read a file where a path is given; give anything else back as it is."""
    if not isinstance(source, str | os.PathLike):
        return source
    if Path(source).suffix == ".safetensors":
        return _load_safetensors(call, source)
    torch = _import(call, "torch", source, " or save it as .safetensors")
    return torch.load(source, map_location="cpu", weights_only=True)


def save(call: Call, tree: Mapping[str, Any], path: str | os.PathLike) -> None:
    """Write a file beside its place, then rename it: whole, or not at all."""
    path = Path(path)
    of_torch = path.suffix != ".safetensors"
    make = _writer_of_torch if of_torch else _writer_of_safetensors
    write = make(call, tree, path)
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


def _writer_of_torch(call: Call, tree: Mapping[str, Any], path: Path) -> Writer:
    torch = _import(call, "torch", path, " or save it as .safetensors")
    return functools.partial(torch.save, _map_arrays(torch.as_tensor, tree))


def _writer_of_safetensors(call: Call, tree: Mapping[str, Any], path: Path) -> Writer:
    _import(call, "safetensors", path)
    save_file = importlib.import_module("safetensors.numpy").save_file
    if "param_groups" not in tree:
        return functools.partial(save_file, _contiguous(tree))
    flat = {
        f"{_PREFIX}{key}.{slot}": array
        for key, kept in tree["state"].items()
        for slot, array in kept.items()
    }
    groups = json.dumps(tree["param_groups"], default=float)
    metadata = {"param_groups": groups}
    return functools.partial(save_file, _contiguous(flat), metadata=metadata)


def _contiguous(arrays: Mapping[str, Any]) -> dict[str, np.ndarray]:
    return {name: np.array(array, order="C") for name, array in arrays.items()}


def _map_arrays(f: Any, tree: Any) -> Any:
    if isinstance(tree, Mapping):
        return {key: _map_arrays(f, value) for key, value in tree.items()}
    return f(tree) if isinstance(tree, np.ndarray) else tree


def _import(call: Call, package: str, path: Any, otherwise: str = "") -> Any:
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ImportError(
            f"`{call}`: {os.fspath(path)!r} needs {package}; run `pip install "
            f"{package}`{otherwise}."
        ) from error
