"""Arrays of other frameworks as NumPy arrays, and NumPy arrays as ours."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def to_numpy(x: Any) -> np.ndarray:
    """Return an array of any framework as NumPy's, without importing the framework."""
    if hasattr(x, "detach"):  # a torch tensor
        x = x.detach().cpu()
        # NumPy knows neither bfloat16 nor float8, and torch will not convert them.
        x = x.float() if re.search("bfloat16|float8", str(x.dtype)) else x
        return x.resolve_conj().numpy()
    return np.asarray(x)


def owned(x: Any) -> np.ndarray:
    """Return a contiguous copy, which the other framework may write to."""
    return np.array(x, order="C")


def put_like(value: Any, like: Any, dtype: Any = None) -> jax.Array:
    """Cast to the dtype of `like`, or to `dtype`, and put where `like` is."""
    value = np.asarray(value).astype(like.dtype if dtype is None else dtype)
    sharding = getattr(like, "sharding", None)
    # An array that was never placed may still meet parameters on any device.
    if sharding is None or not getattr(like, "committed", True):
        return jnp.asarray(value)
    return jax.device_put(value, sharding)
