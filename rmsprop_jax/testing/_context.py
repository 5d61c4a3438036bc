"""The settings of JAX that laws run under."""

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

import jax


@contextlib.contextmanager
def as_users_run() -> Iterator[None]:
    """Promote dtypes and ranks as JAX does by default; show no warnings."""
    with (
        jax.numpy_dtype_promotion("standard"),
        jax.numpy_rank_promotion("allow"),
        double_precision(False),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        yield


def double_precision(enabled: bool = True) -> Any:
    """Turn 64-bit types on or off, as a context."""
    if hasattr(jax, "enable_x64"):
        return jax.enable_x64(enabled)
    from jax.experimental import enable_x64  # pyright: ignore

    return enable_x64(enabled)
