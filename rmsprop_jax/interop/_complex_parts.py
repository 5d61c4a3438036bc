"""Complex parameters of torch: each part has its moments, as in `dialects.torch`.

Torch keeps them as the parts of a complex array, we as two arrays of the parameter's
shape, at `<path>/real` and `<path>/imag`.
"""

from collections.abc import Iterable

import numpy as np

from ._layout import to_numpy
from ._mapping import Place, Places
from ._moments import Arrays, Moments

_PARTS = {"real": np.real, "imag": np.imag}


def split_places(places: Places, paths: Iterable[str]) -> Places:
    """Replace the place of a parameter that is kept in parts by those of its parts."""
    paths, split = set(paths), {}
    for name, place in places.items():
        if place is None or f"{place.to}/real" not in paths:
            split[name] = place
            continue
        for part in _PARTS:
            split[f"{name}.{part}"] = Place(f"{place.to}/{part}", place.layout)
    return split


def split(moments: Moments, places: Places) -> Moments:
    """Cut arrays, or names that are wanted, to fit the places that were split."""
    return Moments(*(_split(arrays, places) for arrays in moments))


def join(moments: Moments, names: Iterable[str]) -> Moments:
    """Put parts together again, under the names that are wanted."""
    names = list(names)
    return Moments(*(_join(arrays, names) for arrays in moments))


def _split(arrays: Arrays, places: Places) -> Arrays:
    cut: Arrays = {}
    for name, array in arrays.items():
        if f"{name}.real" not in places:
            cut[name] = array
            continue
        for part, take in _PARTS.items():
            cut[f"{name}.{part}"] = None if array is None else take(to_numpy(array))
    return cut


def _join(arrays: Arrays, names: Iterable[str]) -> Arrays:
    joined: Arrays = {}
    for name in names:
        if name in arrays:
            joined[name] = arrays[name]
        elif f"{name}.real" in arrays:
            real, imag = (arrays[f"{name}.{part}"] for part in _PARTS)
            joined[name] = (
                real + np.array(1j, np.result_type(real, np.complex64)) * imag
            )
    return joined
