"""The moments of a state, decoded from their storage, and numbers about them."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int32, PyTree

from .._arguments import Call, check_learning_rate, check_numbers
from .._rmsprop import ScalarOrSchedule
from .._rule import Coefficients, Rule, advance, coefficients
from .._scale_by_rmsprop import RMSPropState
from .._storage import Format, decoded, find_format, nearest, signed
from .._trees import states_in
from ._quantiles import quantiles, share


class Shares(NamedTuple):
    """Shares in [0, 1] of the second moment whose values hint at a problem.

    Attributes:
      at_floor: 0 or below the smallest normal number: there was no gradient, or one so
        small that its square underflows.
      at_eps: smaller than the eps that is added to it; where eps is outside of the
        root, the root of it is compared.
      saturated: the largest value of the storage format, or NaN or infinite.
    """

    at_floor: PyTree
    at_eps: PyTree
    saturated: PyTree


class Moments(NamedTuple):
    """The decoded moments of one state; `call` is the function that asked for them."""

    call: Call
    rule: Rule
    format: Format
    step: Int32[Array, ""]
    s: PyTree
    m: PyTree

    def rates(self, learning_rate: ScalarOrSchedule) -> PyTree:
        if callable(learning_rate):
            learning_rate = learning_rate(jnp.maximum(self.step - 1, 0))
        check_learning_rate(self.call, learning_rate)

        def leaf(s: Array) -> Array:
            rate = jnp.abs(jnp.asarray(learning_rate, s.dtype)).reshape(())
            return quantiles(rate * _unit_update(self._at(s), s))

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
            return quantiles(jnp.abs(m) * _unit_update(c, s))

        return jax.tree.map(leaf, self.s, self.m)

    def agreement(self, exact: "Moments") -> PyTree:
        if _shapes(self.s) != _shapes(exact.s):
            raise ValueError(
                f"`{self.call}(exact)` must be a state of the same parameters. Give "
                "both transformations the same parameters and gradients."
            )

        def leaf(narrow: Array, full: Array) -> Array:
            u = _unit_update(self._at(narrow), narrow)
            other = _unit_update(exact._at(full), full)
            return quantiles(u / other.astype(u.dtype))

        return jax.tree.map(leaf, self.s, exact.s)

    def _at(self, s: Array) -> Coefficients:
        return coefficients(self.rule, jnp.maximum(self.step, 1), s.dtype)


def decode_moments(
    call: Call, state: PyTree, rule: Rule, storage: str | Format = "float32"
) -> Moments:
    """Find the one `RMSPropState` in a state and decode it."""
    check_numbers(call, decay=rule.decay, eps=rule.eps)
    format_ = find_format(call, storage)
    found = states_in(state, RMSPropState)
    if len(found) != 1:
        raise ValueError(
            f"`{call}(state)` must hold one RMSPropState; got {len(found)} in a "
            f"{type(state).__name__}. Pass the state of a chain with one `rmsprop` in "
            "it; of `optax.partition` pass the state of one part."
        )
    step, s, m = found[0]

    def decode(format_: Format, stored: PyTree) -> PyTree:
        return jax.tree.map(lambda x: decoded(call, format_, x), stored)

    s, m = decode(format_, s), decode(signed(format_), m)
    return Moments(call, rule, format_, step, s, m)


def _unit_update(c: Coefficients, s: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Return the update of a gradient of 1 that would leave `s` as it is."""
    lowest = float(jnp.finfo(s.dtype).tiny) ** 0.5
    still = c._replace(decay=1.0, fresh=0.0, floor=lowest)
    return advance(still, jnp.ones_like(s), s, None, nonfinite="propagate").u


def _shapes(tree: PyTree) -> tuple[Any, list[tuple[int, ...]]]:
    leaves, treedef = jax.tree.flatten(tree)
    return treedef, [x.shape for x in leaves]
