"""The laws, one file per subject.

A function named `law_<number>_<name>` in one of these files is a law, and nothing else
needs to be edited to add one. Its docstring is its documentation: the first line states
the law, the last gives its source.
"""

from .._law import Law, law_of
from . import (
    _compiled,
    _containers,
    _derivatives,
    _dtypes,
    _hyperparameters,
    _interface,
    _meshes,
    _numerics,
    _optimization,
    _states,
)

_FILES = (
    _interface,
    _hyperparameters,
    _containers,
    _states,
    _dtypes,
    _numerics,
    _derivatives,
    _meshes,
    _compiled,
    _optimization,
)

LAWS: tuple[Law, ...] = tuple(
    sorted(
        law_of(check)
        for file in _FILES
        for name, check in vars(file).items()
        if name.startswith("law_")
    )
)
