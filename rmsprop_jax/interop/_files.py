"""Checkpoint files: `.safetensors` without torch, everything else through torch."""

import contextlib
import functools
import importlib
import json
import os
import re
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from .._arguments import Call
from ._layout import owned

_PREFIX = "state."
# Those that safetensors and NumPy spell otherwise.
_DTYPES = {"BF16": "bfloat16", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2"}
_DTYPES |= {"BOOL": "bool"}

Writer = Callable[[str], None]


def load(call: Call, source: Any) -> Any:
    """Read a file, given by its path or open; return anything else as it is."""
    if isinstance(source, str | os.PathLike):
        _check_path(call, Path(source))
        with open(source, "rb") as file:
            return _load(call, file)
    return _load(call, source) if hasattr(source, "read") else source


def _check_path(call: Call, path: Path) -> None:
    if path.is_dir():
        inside = ", ".join(sorted(repr(x.name) for x in path.iterdir())) or "nothing"
        raise IsADirectoryError(
            f"`{call}`: {str(path)!r} is a folder, with {inside} in it. Pass the file "
            "of the optimizer or of the model."
        )
    if not path.exists():
        raise FileNotFoundError(f"`{call}`: there is no file {str(path)!r}.")


def _load(call: Call, file: Any) -> Any:
    name = repr(str(getattr(file, "name", "")))
    start, head = file.tell(), file.read(9)
    if isinstance(head, str):
        raise TypeError(f"`{call}`: open the file {name} with mode 'rb', not as text.")
    file.seek(start)
    # In safetensors, a header in JSON follows its length in 8 bytes.
    of_torch = not name.endswith(".safetensors'") and head[8:] != b"{"
    package = _import(call, "torch" if of_torch else "safetensors", name)
    try:
        if of_torch:
            return _torch_load(package, file)
        return _from_safetensors(package, file.read())
    except Exception as error:
        raise ValueError(f"`{call}`: the file {name} {_complaint(error)}") from error
    finally:
        file.seek(start)  # for the next call with the same file


def _torch_load(torch: Any, source: Any) -> Any:
    """Load only data, no code; NumPy's arrays are data that torch does not allow."""
    made = {"scalar": np.float64(0), "_reconstruct": np.zeros(0)}
    allowed: list[Any] = [
        (x.__reduce__()[0], f"numpy.{core}.multiarray.{name}")
        for core in ("core", "_core")
        for name, x in made.items()
    ]
    allowed += [np.ndarray, np.dtype, *(type(np.dtype(x)) for x in "?bhilqBHILQefd")]
    # Only torch 2.5 and later has it.
    allow = getattr(torch.serialization, "safe_globals", contextlib.nullcontext)
    with allow(allowed):
        return torch.load(source, map_location="cpu", weights_only=True)


def _complaint(error: Exception) -> str:
    """Say why a file cannot be read, and what to do."""
    foreign = re.search(r"GLOBAL (\S+) was not an allowed global", str(error))
    if foreign:
        return (
            f"holds more than arrays and numbers: {foreign[1]}. If you trust it, load "
            "it with `torch.load(..., weights_only=False)`, and pass the state of the "
            "optimizer or of the model in it."
        )
    return (
        "cannot be read: it is neither a whole file of `torch.save` nor one in "
        f"safetensors ({type(error).__name__}). Save it again, or pass an earlier one."
    )


def save(call: Call, tree: Mapping[str, Any], path: str | os.PathLike) -> None:
    """Write a file beside its place, then rename it: whole, or not at all."""
    if not isinstance(tree, Mapping):
        raise TypeError(
            f"`{call}`: expected what `to_state_dict` or `to_weights` returns; got a "
            f"{type(tree).__name__}."
        )
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


def _from_safetensors(safetensors: Any, data: bytes) -> dict[str, Any]:
    arrays = {name: _as_array(**entry) for name, entry in safetensors.deserialize(data)}
    size = int.from_bytes(data[:8], "little")
    metadata = json.loads(data[8 : 8 + size]).get("__metadata__", {})
    if "param_groups" not in metadata:
        return arrays
    groups = json.loads(metadata["param_groups"])
    state = {}
    for name, array in arrays.items():
        key, _, slot = name.removeprefix(_PREFIX).rpartition(".")
        state.setdefault(key, {})[slot] = array
    return {"state": state, "param_groups": groups}


def _as_array(data: Any, dtype: str, shape: list[int]) -> np.ndarray:
    kind = {"F": "float", "I": "int", "U": "uint", "C": "complex"}.get(dtype[0], "")
    name = _DTYPES.get(dtype, kind + dtype[1:])
    return np.frombuffer(data, jnp.dtype(name)).reshape(shape)


def _torch_writer(call: Call, tree: Mapping[str, Any], path: Path) -> Writer:
    torch = _import(call, "torch", repr(os.fspath(path)))
    return functools.partial(torch.save, _map_arrays(torch.as_tensor, tree))


def _safetensors_writer(call: Call, tree: Mapping[str, Any], path: Path) -> Writer:
    _import(call, "safetensors", repr(os.fspath(path)))
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


def _import(call: Call, package: str, name: str) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError as error:
        otherwise = " or save it as .safetensors" if package == "torch" else ""
        raise ImportError(
            f"`{call}`: {name} needs {package}; run `pip install {package}`{otherwise}."
        ) from error
