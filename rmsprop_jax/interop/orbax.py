"""Checkpoints of Orbax, restored as they were or refused."""

import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from .._arguments import Call

Leaf = tuple[tuple[int, ...], str]


def restore(folder: str | os.PathLike[str], like: PyTree) -> PyTree:
    """Restore what `StandardCheckpointer` or `CheckpointManager` saved.

        checkpoint <- like        path for path, shape for shape, dtype for dtype

    Orbax casts to the dtype that is asked for: codes of one byte restored into float32
    are numbers without meaning. Here everything that differs is listed, and refused.

    Args:
      folder: the folder of the saved tree, such as `.../100/default`, or a URL.
      like: a tree of arrays, or of `jax.ShapeDtypeStruct` with shardings: what the
        transformation at hand makes. It is left untouched.

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
    folder, abstract = _absolute(folder), jax.tree.map(_abstract, like)
    with ocp.StandardCheckpointer() as checkpointer:
        found = checkpointer.metadata(folder)
        found = getattr(found, "item_metadata", found)
        if found is None:
            raise ValueError(_no_tree(call, epath.Path(folder)))
        stored = jax.tree.map(_stored, abstract)
        _refuse_other(call, folder, stored, found.tree)
        try:
            restored = checkpointer.restore(folder, abstract)
        except Exception as error:
            raise ValueError(_unreadable(call, folder, str(error))) from error
    # What kind of key it is Orbax tells now, by restoring that one.
    _refuse_other(call, folder, abstract, restored)
    return restored


def _absolute(folder: str | os.PathLike[str]) -> str:
    """Give the path that Orbax wants; a URL is one."""
    folder = os.fspath(folder)
    return folder if "://" in folder else os.path.abspath(folder)


def _abstract(x: Any) -> jax.ShapeDtypeStruct:
    sharding = getattr(x, "sharding", None)
    x = x if hasattr(x, "dtype") else np.asarray(x)
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)


def _stored(x: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    """Give what Orbax keeps: of a random key, its words."""
    if not _is_key(x.dtype):
        return x
    key = jax.ShapeDtypeStruct(x.shape, x.dtype)
    return jax.eval_shape(jax.random.key_data, key)


def _is_key(dtype: Any) -> bool:
    return jnp.issubdtype(dtype, jax.dtypes.prng_key)


def _leaves(tree: PyTree) -> dict[str, Leaf]:
    """Give shape and dtype by path, in which Orbax has keys for fields."""
    named = jax.tree_util.tree_leaves_with_path(tree)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): (
            tuple(x.shape),
            str(x.dtype if _is_key(x.dtype) else np.dtype(x.dtype)),
        )
        for path, x in named
    }


def _refuse_other(call: Call, folder: str, wanted: PyTree, saved: PyTree) -> None:
    problems = _compare(_leaves(wanted), _leaves(saved))
    if problems:
        raise ValueError(
            f"`{call}`: the checkpoint in {folder} is of another optimizer or "
            "model.\n" + "\n".join(f"  {problem}" for problem in problems) + "\n"
            "Build the transformation with the options that it was saved with; "
            "for another storage format see `interop.storage.convert`."
        )


def _compare(wanted: dict[str, Leaf], saved: dict[str, Leaf]) -> list[str]:
    absent = [f"missing: {path}" for path in wanted if path not in saved]
    strange = [f"unexpected: {path}" for path in saved if path not in wanted]
    differing = [
        f"differs: {path} is {dtype}{list(shape)} in the checkpoint; expected "
        f"{wanted[path][1]}{list(wanted[path][0])}"
        for path, (shape, dtype) in saved.items()
        if path in wanted and wanted[path] != (shape, dtype)
    ]
    return absent + strange + differing


def _no_tree(call: Call, folder: Any) -> str:
    """Say what there is in place of a tree."""
    if not folder.exists():
        return _unreadable(call, folder, "the folder does not exist.")
    inside = sorted(x.name for x in folder.iterdir() if (x / "_METADATA").exists())
    if not inside:
        return _unreadable(call, folder, "no tree was saved there whole.")
    return (
        f"`{call}`: {folder} holds no tree itself, but its subfolders do: "
        f"{', '.join(map(repr, inside))}. Pass one of them."
    )


def _unreadable(call: Call, folder: Any, why: str) -> str:
    first = why.strip().splitlines()[:1] or ["unknown."]
    return (
        f"`{call}`: the checkpoint in {folder} cannot be read: {first[0]} Restore an "
        "earlier one."
    )
