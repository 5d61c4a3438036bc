"""The settings of JAX under which laws run."""

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

import jax


@contextlib.contextmanager
def as_users_run() -> Iterator[None]:
    """Use JAX's defaults for the promotion of dtypes and ranks, and hide warnings."""
    with (
        jax.numpy_dtype_promotion("standard"),
        jax.numpy_rank_promotion("allow"),
        double_precision(False),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        yield


def double_precision(enabled: bool = True) -> Any:
    """Return a context in which 64-bit types are on or off."""
    if hasattr(jax, "enable_x64"):
        return jax.enable_x64(enabled)
    from jax.experimental import enable_x64  # pyright: ignore

    return enable_x64(enabled)
