"""Checkpoints of Orbax, restored as they were or refused."""

import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from .._arguments import Call
from .._trees import at
from ._slots import put_like


def restore(folder: str | os.PathLike[str], like: PyTree) -> PyTree:
    """Restore what `StandardCheckpointer` or `CheckpointManager` saved.

        checkpoint <- like        path for path, shape for shape, dtype for dtype

    Orbax casts to the dtype that is asked for: codes of one byte restored into float32
    are numbers without meaning. Here everything that differs is listed, and refused.

    Args:
      folder: the folder of the saved tree, such as `.../100/default`, or a URL.
      like: a tree of arrays, or of `jax.ShapeDtypeStruct` with shardings: what the
        transformation at hand makes. A number of Python in it, such as the `step` of a
        new `TrainState`, is restored as one. It is left untouched.

    Returns:
      A tree of the structure, dtypes and shardings of `like`.

    Raises:
      ValueError: for another structure, shape or dtype, with everything that differs;
        for a checkpoint that cannot be read, or lies in a subfolder.
      ImportError: without `orbax-checkpoint`.

    Example:
      >>> import pathlib, tempfile
      >>> import jax.numpy as jnp, orbax.checkpoint, rmsprop_jax
      >>> state = rmsprop_jax.rmsprop(0.1).init(jnp.ones(2))
      >>> folder = pathlib.Path(tempfile.mkdtemp()) / "step"
      >>> with orbax.checkpoint.StandardCheckpointer() as checkpointer:
      ...     checkpointer.save(folder, state)
      >>> restore(folder, state)[0].s
      Array([0., 0.], dtype=float32)
    """
    call = Call("interop.orbax.restore")
    try:
        import orbax.checkpoint as ocp
        from etils import epath  # Orbax's own way to folders and buckets
    except ImportError as error:
        raise ImportError(
            f"`{call}` needs Orbax: `pip install orbax-checkpoint`."
        ) from error
    folder = os.fspath(folder)
    folder = folder if "://" in folder else os.path.abspath(folder)
    abstract = jax.tree.map(_abstract, like)
    with ocp.StandardCheckpointer() as checkpointer:
        try:
            found = checkpointer.metadata(folder)
        except NotADirectoryError as error:
            why = "it is a file, not a folder of Orbax."
            raise ValueError(_unreadable(call, folder, why)) from error
        found = getattr(found, "item_metadata", found)
        if found is None:
            raise ValueError(_no_tree(call, epath.Path(folder)))
        _refuse_other(call, folder, jax.tree.map(_stored, abstract), found.tree)
        try:
            restored = checkpointer.restore(folder, abstract)
        except Exception as error:
            raise ValueError(_unreadable(call, folder, str(error))) from error
    # Orbax tells only in restoring which kind of random key it has.
    _refuse_other(call, folder, abstract, restored)
    return jax.tree.map(_placed, restored, abstract)


def _abstract(x: Any) -> Any:
    """Return what Orbax asks for; a number of Python is restored as one."""
    if _is_number(x):
        return x
    sharding = getattr(x, "sharding", None)
    x = x if hasattr(x, "dtype") else np.asarray(x)
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)


def _placed(x: Any, like: Any) -> Any:
    """Return what was saved as a number of Python as the array that is asked for."""
    return put_like(x, like) if isinstance(x, np.ndarray) else x


def _stored(x: Any) -> Any:
    """Return the shape and dtype that Orbax keeps: of a random key, its words."""
    if _is_number(x) or not _is_key(x.dtype):
        return x
    key = jax.ShapeDtypeStruct(x.shape, x.dtype)
    return jax.eval_shape(jax.random.key_data, key)


def _is_number(x: Any) -> bool:
    return isinstance(x, int | float | complex) and not hasattr(x, "dtype")


def _is_key(dtype: Any) -> bool:
    return jnp.issubdtype(dtype, jax.dtypes.prng_key)


def _kinds(tree: PyTree) -> dict[str, tuple[list[int], str]]:
    """Return shape and dtype of each leaf by its path; of a number its Python type."""
    # Orbax has dicts for the classes of a state, so `path_name` would not agree.
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): _kind(x)
        for path, x in jax.tree_util.tree_leaves_with_path(tree)
    }


def _kind(x: Any) -> tuple[list[int], str]:
    if _is_number(x):
        return [], type(x).__name__
    if type(x).__name__ == "ScalarMetadata":  # of a number, whatever its dtype
        return [], np.dtype(x.dtype).name.rstrip("0123456789")
    return list(x.shape), str(x.dtype if _is_key(x.dtype) else np.dtype(x.dtype))


def _agree(found: tuple[list[int], str], wanted: tuple[list[int], str]) -> bool:
    """Tell whether two leaves are alike; a number of Python fits each of its dtypes."""
    numbers = {"bool", "int", "float", "complex"} & {found[1], wanted[1]}
    kinds = {kind.rstrip("0123456789").removeprefix("u") for _, kind in (found, wanted)}
    scalars = not found[0] and not wanted[0]
    return found == wanted or bool(numbers and scalars and len(kinds) == 1)


def _refuse_other(call: Call, folder: str, wanted: PyTree, saved: PyTree) -> None:
    expected, found = _kinds(wanted), _kinds(saved)
    lines = [f"  missing: {at(path)}" for path in expected if path not in found]
    lines += [f"  unexpected: {at(path)}" for path in found if path not in expected]
    for path, (shape, dtype) in found.items():
        like = expected.get(path, (shape, dtype))
        if not _agree((shape, dtype), like):
            what = f"{at(path)} is {dtype}{shape} in the checkpoint"
            lines.append(f"  differs: {what}; expected {like[1]}{like[0]}")
    if lines:
        first = (
            f"`{call}`: the checkpoint in {folder} is of another optimizer or model."
        )
        advice = (
            "Build the transformation with the options that it was saved with; for "
            "another storage format see `interop.storage.convert`."
        )
        raise ValueError("\n".join([first, *lines, advice]))


def _no_tree(call: Call, folder: Any) -> str:
    """Write the error for a folder in which no tree was saved."""
    if not folder.exists():
        return _unreadable(call, folder, "the folder does not exist.")
    inside = [x.name for x in folder.iterdir() if (x / "_METADATA").exists()]
    if inside:
        return (
            f"`{call}`: {folder} holds no tree itself, but its subfolders do: "
            f"{', '.join(map(repr, sorted(inside)))}. Pass one of them."
        )
    steps = [x for x in folder.iterdir() if x.is_dir()]
    deeper = [
        f"{step.name}/{x.name}"
        for step in sorted(steps, key=lambda x: (len(x.name), x.name))
        for x in step.iterdir()
        if (x / "_METADATA").exists()
    ]
    if not deeper:
        return _unreadable(call, folder, "no complete tree was saved there.")
    return (
        f"`{call}`: {folder} is the folder of a CheckpointManager, and holds "
        f"{', '.join(map(repr, deeper))}. Pass the folder of one tree, such as "
        f"{str(folder / deeper[-1])!r}."
    )


def _unreadable(call: Call, folder: Any, why: str) -> str:
    first = why.strip().splitlines()[:1] or ["unknown."]
    return (
        f"`{call}`: the checkpoint in {folder} cannot be read: {first[0]} Restore an "
        "earlier one."
    )
