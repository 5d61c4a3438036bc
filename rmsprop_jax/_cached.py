"""Equal arguments, one transformation: so that `jax.jit` compiles for it once."""

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def cached(make: Callable[P, R]) -> Callable[P, R]:
    """Give the same transformation for the same arguments, where these can be hashed.

    A transformation of optax is a pair of closures, equal only to itself.
    """
    remembered = functools.lru_cache(typed=True)(make)

    @functools.wraps(make)
    def made(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            hash((args, tuple(kwargs.items())))
        except TypeError:  # an array, or a mask
            return make(*args, **kwargs)
        return remembered(*args, **kwargs)

    return made
