"""The second moment and the mean of a state, decoded, and what they say."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int32, PyTree

from .._arguments import Call, check_learning_rate, check_numbers
from .._rmsprop import ScalarOrSchedule
from .._rule import Coefficients, Rule, advance, coefficients
from .._scale_by_rmsprop import RMSPropState
from .._storage import Format, decoded, find_format, nearest, signed
from ._quantiles import quantiles, share


class Shares(NamedTuple):
    """Shares in [0, 1] of the second moment that something is wrong with.

    Attributes:
      at_floor: below the smallest normal number, or 0: no gradient, or one so small
        that its square underflows.
      at_eps: smaller than the eps it is added to, its root where eps is outside of it.
      saturated: the largest that its format can keep, or NaN or infinite.
    """

    at_floor: PyTree
    at_eps: PyTree
    saturated: PyTree


class Moments(NamedTuple):
    """The moments of a state, decoded, and what they say."""

    rule: Rule
    format: Format
    count: Int32[Array, ""]
    s: PyTree
    m: PyTree

    def rates(self, call: Call, learning_rate: ScalarOrSchedule) -> PyTree:
        if callable(learning_rate):
            learning_rate = learning_rate(jnp.maximum(self.count - 1, 0))
        check_learning_rate(call, learning_rate)

        def leaf(s: Array) -> Array:
            rate = jnp.abs(jnp.asarray(learning_rate, s.dtype))
            return quantiles(rate * _per_gradient(self._at(s), s))

        return jax.tree.map(leaf, self.s)

    def shares(self) -> Shares:
        def at_eps(s: Array) -> Array:
            c = self._at(s)
            v = s / c.weight
            inside = self.rule.eps_in_sqrt
            return share(v < c.eps_inside if inside else jnp.sqrt(v) < c.eps_outside)

        def saturated(s: Array) -> Array:
            infinity = nearest(self.format, jnp.asarray(jnp.inf, s.dtype))
            return share(~(s < self.format.decode(infinity)))

        return Shares(
            jax.tree.map(lambda s: share(s < jnp.finfo(s.dtype).tiny), self.s),
            jax.tree.map(at_eps, self.s),
            jax.tree.map(saturated, self.s),
        )

    def signal_to_noise(self) -> PyTree:
        def leaf(s: Array, m: Array) -> Array:
            c = self._at(s)._replace(eps_inside=0.0, eps_outside=0.0)
            return quantiles(jnp.abs(m) * _per_gradient(c, s))

        return jax.tree.map(leaf, self.s, self.m)

    def over(self, call: Call, exact: "Moments") -> PyTree:
        if _shapes(self.s) != _shapes(exact.s):
            raise ValueError(
                f"`{call}(exact)` must be a state of the same parameters. Give both "
                "transformations the same parameters and gradients."
            )

        def leaf(narrow: Array, full: Array) -> Array:
            u = _per_gradient(self._at(narrow), narrow)
            other = _per_gradient(exact._at(full), full)
            return quantiles(u / other.astype(u.dtype))

        return jax.tree.map(leaf, self.s, exact.s)

    def _at(self, s: Array) -> Coefficients:
        return coefficients(self.rule, jnp.maximum(self.count, 1), s.dtype)


def _per_gradient(c: Coefficients, s: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Ask the rule for the update of a gradient of 1 that leaves `s` as it is."""
    lowest = float(jnp.finfo(s.dtype).tiny) ** 0.5
    still = c._replace(decay=1.0, fresh=0.0, floor=lowest)
    return advance(still, jnp.ones_like(s), s, None, nonfinite="propagate").u


def read(
    call: Call, state: PyTree, rule: Rule, storage: str | Format = "float32"
) -> Moments:
    """Find the one `RMSPropState` and decode it, after checking the arguments."""
    check_numbers(call, decay=rule.decay, eps=rule.eps)
    format_ = find_format(call, storage)
    leaves = jax.tree.leaves(state, is_leaf=_is_state)
    found = [x for x in leaves if _is_state(x)]
    if len(found) != 1:
        raise ValueError(
            f"`{call}(state)` must hold one RMSPropState; got {len(found)} in a "
            f"{type(state).__name__}. Pass the state of a chain with `rmsprop` in it, "
            "and of `optax.partition` the part that you mean."
        )
    count, s, m = found[0]

    def decode(format_: Format, stored: PyTree) -> PyTree:
        return jax.tree.map(lambda x: decoded(call, format_, x), stored)

    return Moments(rule, format_, count, decode(format_, s), decode(signed(format_), m))


def _shapes(tree: PyTree) -> list[Any]:
    named = jax.tree_util.tree_leaves_with_path(tree)
    return [(path, x.shape) for path, x in named]


def _is_state(x: Any) -> bool:
    return isinstance(x, RMSPropState)
