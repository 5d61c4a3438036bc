"""The arrays of an optimizer state, each with what it is and where it stands."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from .._arguments import Call
from .._storage import Format, decoded, decoded_dtype, nearest
from .._trees import at, named_leaves, nodes
from ._mapping import Arrays, within

MOMENTS = ("s", "m", "trace", "nu", "mu")  # of RMSProp, of ours and of optax

Place = tuple[str, ...]


class Slot(NamedTuple):
    """One array in a state.

    Attributes:
      owner: the class that has it as a field, such as "optax.TraceState".
      place: the classes, fields and keys that lead to it. They are equal in optax's
        RMSProp and in ours, and do not depend on how links are nested in chains.
      node: the part of `place` that leads to its owner.
      field: "s", "m" of our RMSProp, "nu", "mu" of optax's, "trace" of both; "step" for
        a count of steps; "mini_step", "acc_grads" of `optax.MultiSteps`; otherwise "".
      path: path of the parameter that it belongs to.
      array: the array, as it is stored.
      format: its storage format; None for what does not go through storage.
      rate_inside: whether a momentum buffer accumulates steps; None where not known.
    """

    owner: str
    place: Place
    node: Place
    field: str
    path: str
    array: Any
    format: Format | None = None
    rate_inside: bool | None = None


@dataclasses.dataclass(frozen=True)
class Slots:
    """An optimizer state, parsed.

    Attributes:
      call: the call that errors speak for.
      tree: the state itself.
      found: its arrays, in the order of its leaves.
    """

    call: Call
    tree: PyTree
    found: tuple[Slot, ...]

    @property
    def owners(self) -> set[str]:
        """The classes that have the arrays as their fields."""
        return {slot.owner for slot in self.found}

    @property
    def step(self) -> int | None:
        """The largest count of RMSProp, or of anything else; None without a count."""
        counts = [slot for slot in self.found if slot.field == "step"]
        own = [slot for slot in counts if slot.node[-1].startswith("RMSProp")]
        return max((integer(slot.array) for slot in own or counts), default=None)

    @property
    def steps(self) -> dict[str, int]:
        """The counts of RMSProp itself by the paths of its parameters."""
        counts = [slot for slot in self.found if slot.field == "step"]
        of = {slot.node: integer(slot.array) for slot in counts}
        seconds = (slot for slot in self.found if slot.field in ("s", "nu"))
        return {slot.path: of[slot.node] for slot in seconds if slot.node in of}

    @property
    def rate_inside(self) -> dict[str, bool]:
        """Whether the momentum buffer accumulates steps, by path, where it is known."""
        known = (slot for slot in self.found if slot.rate_inside is not None)
        return {slot.path: bool(slot.rate_inside) for slot in known}

    @property
    def absent(self) -> set[str]:
        """The paths of what is no floating point array, and has no state in ours."""
        every = [
            named_leaves(node.s, is_leaf=lambda x: x is None)
            for node in nodes(self.tree)
            if type(node).__name__ == "RMSPropState"
        ]
        return {within(path) for own in every for path, leaf in own if leaf is None}

    def moments(self, field: str) -> Arrays:
        """Return the arrays of one field by path; each path must have only one."""
        arrays: Arrays = {}
        for slot in (slot for slot in self.found if slot.field == field):
            if slot.path in arrays:
                raise ValueError(
                    f"`{self.call}`: the state keeps two arrays {field} for the "
                    f"parameter at {at(slot.path)}; it must have one RMSProp for each "
                    "parameter."
                )
            arrays[slot.path] = slot.array
        return arrays

    def decoded(self) -> "Slots":
        """Return the slots with their moments in the dtype of the arithmetic."""

        def array(slot: Slot) -> Any:
            if slot.format is None:
                return slot.array
            return np.asarray(decoded(self.call, slot.format, slot.array))

        found = tuple(slot._replace(array=array(slot)) for slot in self.found)
        return dataclasses.replace(self, found=found)

    def replaced(self, new: Callable[[Slot], Any]) -> PyTree:
        """Return the state with `new(slot)` in place of the array of each slot."""
        treedef = jax.tree.structure(self.tree)
        return jax.tree.unflatten(treedef, map(new, self.found))

    def filled(
        self,
        values: Mapping[str, Arrays],
        counts: Mapping[str, int | None],
        around: Mapping[Place, Any],
    ) -> PyTree:
        """Return the state with new values in its slots.

        `values` are by field and path, `counts` by field, and `around` by place, which
        goes first. A slot for which there is no value stays as it is. Dtypes and
        shardings are those of the state.
        """

        def new(slot: Slot) -> Any:
            like = slot.array
            value = values.get(slot.field, {}).get(slot.path, counts.get(slot.field))
            value = around.get(slot.place, value)
            if value is None:
                return like
            if slot.field in counts and slot.place not in around:
                value = min(value, int(np.iinfo(like.dtype).max))
            if slot.format is None:
                return put_like(value, like)
            dtype = decoded_dtype(self.call, slot.format, like)
            return nearest(slot.format, put_like(value, like, dtype))

        return self.replaced(new)


def put_like(value: Any, like: Any, dtype: Any = None) -> Any:
    """Cast to the dtype of `like`, or to `dtype`, and put where `like` is."""
    if not hasattr(like, "dtype"):  # a number of Python
        return type(like)(value)
    if not jnp.issubdtype(like.dtype, jax.dtypes.prng_key):
        value = np.asarray(value).astype(like.dtype if dtype is None else dtype)
    sharding = getattr(like, "sharding", None)
    # An array that was never placed may still meet parameters on any device.
    if sharding is None or not getattr(like, "committed", True):
        return jnp.asarray(value)
    return jax.device_put(value, sharding)


def integer(x: Any) -> int:
    """Return the integer in an array with one element."""
    return int(np.asarray(x).reshape(()))
