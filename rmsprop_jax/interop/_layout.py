"""Arrays of another framework: as NumPy arrays, and with their axes rearranged."""

import dataclasses
import itertools
import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

Side = tuple[tuple[str, ...], ...]
Shape = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Layout:
    """Reshape, permute, reshape: `"o (c h w) -> (h w c) o"` takes `before` to `after`.

    Parentheses group the axes that one framework keeps flat; `sizes` holds the lengths
    of all but one axis of each group. `"i o w -> -w i o"` reverses the axis `w`.
    """

    before: Side
    after: Side
    sizes: Mapping[str, int]
    reversed: frozenset[str] = frozenset()

    def apply(self, x: np.ndarray) -> np.ndarray:
        """Rearrange `x`, in whatever dtype; ValueError if it has another shape."""
        lengths = self._lengths(x.shape)
        axes, wanted = _flat(self.before), _flat(self.after)
        x = x.reshape([lengths[axis] for axis in axes])
        x = np.flip(x, tuple(axes.index(axis) for axis in self.reversed))
        x = x.transpose([axes.index(axis) for axis in wanted])
        return x.reshape([math.prod(lengths[a] for a in group) for group in self.after])

    def inverse(self) -> "Layout":
        """Return the layout that undoes this one."""
        return Layout(self.after, self.before, self.sizes, self.reversed)

    def _lengths(self, shape: Shape) -> dict[str, int]:
        if len(shape) != len(self.before):
            raise ValueError(f"{len(self.before)} axes expected, got {len(shape)}")
        lengths = dict(self.sizes)
        for size, group in zip(shape, self.before, strict=True):
            known = math.prod(lengths.get(axis, 1) for axis in group)
            unknown = [axis for axis in group if axis not in lengths]
            rest, left = divmod(size, known)
            if left or (rest != 1 and not unknown):
                raise ValueError(f"{size} is no multiple of {known}")
            lengths |= dict.fromkeys(unknown, rest)
        return lengths


def parse_layout(where: str, pattern: str, sizes: Mapping[str, int]) -> Layout:
    """Parse a pattern such as `"o i -> i o"`; `where` is where errors say it stands."""
    reversed_axes = frozenset(re.findall(r"-(\w+)", pattern))
    sides = [_parse_side(side) for side in pattern.split("->")]
    axes = [sorted(_flat(side)) for side in sides]
    if len(axes) != 2 or axes[0] != axes[1] or len({*axes[0]}) < len(axes[0]):
        raise ValueError(
            f"{where}: a layout must name each axis once on both sides of one '->', "
            f"like 'o i h w -> h w i o'; got {pattern!r}."
        )
    for group in itertools.chain(*sides):
        unknown = [axis for axis in group if axis not in sizes]
        if len(unknown) > 1:
            raise ValueError(
                f"{where}: the layout {pattern!r} needs the lengths of all but one of "
                f"{', '.join(group)}; got {dict(sizes)}. Write ('path', {pattern!r}, "
                f"{{{unknown[0]!r}: ...}})."
            )
    return Layout(sides[0], sides[1], sizes, reversed_axes)


def to_numpy(x: Any) -> np.ndarray:
    """Return numbers of any framework as an array of NumPy, or raise a TypeError.

    Its message says what came instead of numbers, for an error that names the leaf.
    """
    if hasattr(x, "local_shards"):
        raise TypeError(
            "got a ShardedTensor, of which this process has a part (save with "
            "`StateDictOptions(full_state_dict=True)` of "
            "`torch.distributed.checkpoint.state_dict`)"
        )
    try:
        array = _to_numpy(x)
        if array.dtype.kind in "biufcV":  # V: bfloat16 and float8
            return array
    except (TypeError, ValueError, NotImplementedError):  # on "meta", sparse, ragged
        pass
    raise TypeError(f"got a {type(x).__name__} that is no array of numbers")


def shown(x: Any) -> str:
    """Write what came in place of a number; an array by its shape."""
    shape = getattr(x, "shape", ())
    return f"shape {tuple(shape)}" if shape else repr(x)


def whole(x: Any) -> int | None:
    """Return the number of steps in an array of one element; None if it is none."""
    try:
        number = to_numpy(x)
    except TypeError:
        return None
    if number.size != 1 or not np.isreal(number).all() or not number >= 0:
        return None
    number = number.item()
    return int(number) if number < np.inf and number == int(number) else None


def _to_numpy(x: Any) -> np.ndarray:
    if hasattr(x, "full_tensor"):  # a DTensor of torch
        x = x.full_tensor()
    if hasattr(x, "detach"):  # a torch tensor
        x = x.detach().cpu()
        # NumPy knows neither bfloat16 nor float8, and torch will not convert them.
        x = x.float() if re.search("bfloat16|float8", str(x.dtype)) else x
        return x.resolve_conj().numpy()
    return np.asarray(x.numpy() if hasattr(x, "numpy") else x)


def owned(x: Any) -> np.ndarray:
    """Return a contiguous copy, which the other framework may write to."""
    return np.array(x, order="C")


def _parse_side(side: str) -> Side:
    tokens = re.findall(r"\(([^()]*)\)|([^\s()]+)", side.replace("-", ""))
    return tuple(tuple((group or axis).split()) for group, axis in tokens)


def _flat(side: Side) -> list[str]:
    return [axis for group in side for axis in group]
