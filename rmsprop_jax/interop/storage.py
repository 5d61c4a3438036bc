"""A state from one storage format to another."""

from jaxtyping import PyTree

from .._storage import Format
from . import _slots


def convert(
    state: PyTree, *, before: str | Format = "float32", after: str | Format
) -> PyTree:
    """Keep the moments of a state in another storage format.

        s <- encode(decode(s)),   likewise m and momentum

    Rounded once, to nearest. For a checkpoint that was trained with another `storage`;
    everything else in the state stays as it is. Narrow storage has forgotten which
    leaves were of 64 bits: into "float32" they all come back as float32, and with
    `like = tx.init(params)` are cast by
    `jax.tree.map(lambda x, y: x.astype(y.dtype), state, like)`.

    Args:
      state: the state of any transformation with RMSProp of ours in it.
      before: the `storage` that the state was made with.
      after: the `storage` of the transformation that it shall go on with.

    Returns:
      A state of the same structure and shardings.

    Raises:
      ValueError: for an unknown format, or a state that `before` did not store; for
        one without RMSProp of ours, or with that of a table, of `sparse`, in it.

    Example:
      >>> import jax.numpy as jnp, rmsprop_jax
      >>> state = rmsprop_jax.scale_by_rmsprop(initial_scale=1.0).init(jnp.ones(2))
      >>> convert(state, after="uint8").s
      Array([188, 188], dtype=uint8)
    """
    return _slots.convert("interop.storage.convert", state, before, after)
