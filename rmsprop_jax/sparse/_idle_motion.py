"""How a row moves in idle steps, which are steps with a zero gradient.

In `k` of them `u` is 0, and only momentum and decoupled weight decay act:

    p <- keep*p + reach*b;   b <- momentum**k * b
    keep  = prod_i (1 - lr_i*weight_decay)
    reach = sum_i momentum**i * prod_{j>i} (1 - lr_j*weight_decay)     lr_in_momentum
    reach = -sum_i lr_i * momentum**i * prod_{j>i} (1 - lr_j*weight_decay)  otherwise

With nesterov `reach` has another factor `momentum`. As in `optax.chain`, a buffer that
contains the learning rate holds updates, which are added to `p`. At a constant rate
both are geometric series; under a schedule see `_idle_schedule`.
"""

import dataclasses
import math
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int32, UInt32

from ._idle_moments import logarithm, powers


@dataclasses.dataclass(frozen=True)
class Motion:
    """The options that turn `u` into updates, as `sparse.rmsprop` documents them."""

    learning_rate: Any  # a number, an array or a schedule
    momentum: float | None
    nesterov: bool
    lr_in_momentum: bool
    weight_decay: float | None

    @property
    def moves_idle_rows(self) -> bool:
        """Whether a row moves in steps that do not use it."""
        return self.momentum is not None or self.weight_decay is not None

    @property
    def rate_after_momentum(self) -> bool:
        """Whether the learning rate multiplies what comes out of the buffer."""
        return self.momentum is not None and not self.lr_in_momentum

    @property
    def depends_on_rate(self) -> bool:
        """Whether the motion of an idle row depends on the learning rate."""
        return self.rate_after_momentum or self.weight_decay is not None

    @property
    def follows_schedule(self) -> bool:
        """Whether the motion of an idle row depends on a schedule."""
        return callable(self.learning_rate) and self.depends_on_rate

    def rate(self, step: Int32[Array, ""], dtype: DTypeLike) -> Float[Array, ""]:
        """Return the learning rate of the update that follows `step` updates."""
        if callable(self.learning_rate):
            return jnp.asarray(self.learning_rate(step)).astype(dtype)
        return jnp.asarray(self.learning_rate, dtype)


class IdleSteps(NamedTuple):
    """The effect of idle steps, as one number per row."""

    keep: Float[Array, " rows"]
    reach: Float[Array, " rows"]
    fade: Float[Array, " rows"]


def idle_steps(
    motion: Motion, k: UInt32[Array, " rows"], dtype: DTypeLike
) -> IdleSteps:
    """Compute the effect of `k` idle steps at a constant rate, or without one."""
    mu = motion.momentum or 0.0
    fade, _ = powers(logarithm(mu, dtype), k, dtype)
    keep, reach = _at_constant_rate(motion, k, dtype)
    return IdleSteps(keep, mu * reach if motion.nesterov else reach, fade)


def saturating_add(
    count: Int32[Array, "*n"], more: Int32[Array, "*m"]
) -> Int32[Array, "..."]:
    """Add to a count, which stops at its maximum."""
    return count + jnp.minimum(more, jnp.int32(jnp.iinfo(jnp.int32).max) - count)


def _at_constant_rate(
    motion: Motion, k: UInt32[Array, " rows"], dtype: DTypeLike
) -> tuple[Array, Array]:
    """Compute keep = c**k and reach = sum_i mu**i * c**(k-i), times -lr if after it."""
    mu = float(np.dtype(dtype).type(motion.momentum or 0.0))
    shrink = 0.0
    if motion.weight_decay is not None:
        shrink = float(motion.learning_rate) * motion.weight_decay
    # 1 - mu is exact, and 1 - shrink is not.
    log_keep, gap = math.log1p(-shrink), abs((1 - mu) - shrink)
    small, big = sorted((mu, 1 - shrink))
    keep, _ = powers(log_keep, k, dtype)
    power, _ = powers(log_keep if big > mu else math.log(big), k, dtype)
    if gap == 0:
        ratio = k.astype(dtype) / jnp.asarray(big, dtype)
    else:
        log_ratio = math.log1p(-gap / big) if small > 0 else -math.inf
        ratio = powers(log_ratio, k, dtype)[1] / jnp.asarray(gap, dtype)
    reach = mu * power * ratio
    if not motion.lr_in_momentum:
        reach = -jnp.asarray(motion.learning_rate, dtype) * reach
    return keep, reach
