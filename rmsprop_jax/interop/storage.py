"""A state from one storage format to another."""

from typing import Any

from jaxtyping import PyTree

from .._arguments import Call
from .._storage import Format, decoded, find_format, nearest, signed
from ._optax_states import check_ours, slots_of
from ._slots import Slot


def convert(
    state: PyTree, *, before: str | Format = "float32", after: str | Format
) -> PyTree:
    """Convert the moments of a state to another storage format.

        s <- encode(decode(s)),   likewise m and momentum

    Use it for a checkpoint that was trained with another `storage`. Values are rounded
    once, to nearest, and everything else in the state stays as it is. Narrow storage
    does not record which leaves had 64 bits: they all come back as float32, and with
    `like = tx.init(params)` are cast by
    `jax.tree.map(lambda x, y: x.astype(y.dtype), state, like)`.

    Args:
      state: the state of any transformation with an RMSProp of ours in it.
      before: the `storage` that the state was made with.
      after: the `storage` of the transformation that is to use it.

    Returns:
      A state of the same structure and shardings.

    Raises:
      ValueError: for an unknown format, or a state that `before` did not store; for
        a state without RMSProp of ours, or with the state of a table, of `sparse`.

    Example:
      >>> import jax.numpy as jnp, rmsprop_jax
      >>> state = rmsprop_jax.scale_by_rmsprop(initial_scale=1.0).init(jnp.ones(2))
      >>> convert(state, after="uint8").s
      Array([188, 188], dtype=uint8)
    """
    call = Call("interop.storage.convert", (("storage", "before"),))
    slots = slots_of(call, state, before)
    if "rmsprop_jax.TableState" in slots.owners:
        raise ValueError(
            f"`{call}`: a TableState of `sparse.rmsprop` cannot be converted. Take it "
            "out of the state, and continue with the `storage` that it was made with."
        )
    check_ours(slots)
    format_ = find_format(Call(call.name, (("storage", "after"),)), after)

    def converted(slot: Slot) -> Any:
        if slot.format is None:
            return slot.array
        new = format_ if slot.field == "s" else signed(format_)
        return nearest(new, decoded(call, slot.format, slot.array))

    return slots.replaced(converted)
