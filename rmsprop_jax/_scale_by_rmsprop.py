"""RMSProp as an optax transformation: trees x rule x storage."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, Inexact, Int32, PyTree

from ._arguments import (
    NONFINITE,
    Call,
    cached,
    check_arrays,
    check_choice,
    check_flags,
    check_numbers,
    check_start,
    check_state,
)
from ._boundary import bounded
from ._dither import Dither
from ._placement import resharded
from ._precision import arithmetic_dtype, lift, lower, real_dtype
from ._rule import Rule, advance, coefficients
from ._storage import Format, decoded, encoded, find_format, signed
from ._trees import check_gradients, map_inexact, map_leaves


class RMSPropState(NamedTuple):
    """The state of RMSProp between steps, whatever its options.

    Attributes:
      step: number of updates so far; an int32 scalar that stops at its maximum.
      s: second moment of each parameter, of which the root is taken: the mean square of
        the gradient, or centered its variance.
      m: mean gradient of each parameter; None unless centered.
    """

    step: Int32[Array, ""]
    s: PyTree
    m: PyTree

    @property
    def nu(self) -> PyTree:
        """The mean square of the gradient, as optax keeps it; for float32 storage.

        It is `s`, or `s + |m|**2` centered. With centered and `bias_correction` optax
        keeps `s + W*|m|**2`; a state does not know `W`.
        """
        for x in jax.tree.leaves((self.s, self.m)):
            if not jnp.issubdtype(x.dtype, jnp.inexact):
                raise AttributeError(
                    f"`RMSPropState.nu`: s is stored as {x.dtype}. Convert the state "
                    "to float32 with `interop.storage.convert`."
                )
        if self.m is None:
            return self.s
        return jax.tree.map(lambda s, m: s + (m * m.conj()).real, self.s, self.m)

    @property
    def mu(self) -> PyTree:
        """The mean gradient, `m`."""
        return self.m

    @property
    def count(self) -> PyTree:
        """The number of updates, `step`."""
        return self.step


@cached
def scale_by_rmsprop(
    decay: ArrayLike = 0.9,
    eps: ArrayLike = 1e-8,
    initial_scale: ArrayLike = 0.0,
    eps_in_sqrt: bool = True,
    centered: bool = False,
    bias_correction: bool = False,
    *,
    storage: str | Format = "float32",
    nonfinite: str = "propagate",
    seed: ArrayLike = 0,
) -> optax.GradientTransformationExtraArgs:
    """Divide gradients by the root of the moving average of their squares.

        W  = 1 - decay**t  with bias_correction, else 1
        d  = g                                                uncentered
        m <- m + (1-decay)/W * (g - m);   d = g - m           centered, with the new m
        s <- decay*s + (1-decay)/L * |d|**2,  L = 1 - (1-decay)/W centered, 1 otherwise
        u  = g / sqrt(s/W + eps)   eps_in_sqrt;   g / (sqrt(s/W) + eps)   otherwise

    The updates `u` have the sign of the gradient: chain `optax.scale(-learning_rate)`
    after it. Arithmetic is float32 for all parameters and gradients, and float64 for
    float64 ones unless `storage` is narrow. A zero gradient gives a zero update, also
    where eps is 0. Gradients above 2**62 in size (2**510 in float64) count as that
    size. An update that would overflow is the largest finite number.

    Args:
      decay: weight of the past in the moving averages, in [0, 1); memory of about
        `1/(1-decay)` steps. May be scheduled with `optax.inject_hyperparams`.
      eps: added to the denominator, >= 0, in the unit of |g|**2 inside the root and
        of |g| outside it. May be scheduled with `optax.inject_hyperparams`.
      initial_scale: `s` before the first step, >= 0: 0 in PyTorch and Keras, 1 in
        TensorFlow 1. Not together with `bias_correction`.
      eps_in_sqrt: whether eps is added under the root (TensorFlow, JAX) or to the
        root (PyTorch).
      centered: whether to divide by the standard deviation of the gradient instead
        of its root mean square.
      bias_correction: whether to undo the start of the averages at zero.
      storage: how `s` and `m` are kept between steps: "float32" (4 bytes per
        parameter), "bfloat16" (2 bytes), "uint8" (1 byte for s, 2 for m, which is kept
        in bfloat16), or a `Format`. The arithmetic is float32 in each of them, and an
        update uses `s` before it is rounded.
      nonfinite: what a NaN or inf in the gradient does to its own coordinate:
        "propagate" makes update and state NaN at once; "hold" gives a zero update
        and leaves `s` and `m` as they are.
      seed: an integer; seed of the stochastic rounding of narrow storage.

    Returns:
      An `optax.GradientTransformationExtraArgs` with an `RMSPropState`.

    Raises:
      ValueError: at construction for a number outside its range, an unknown string,
        or `initial_scale` with `bias_correction`; at `update` for gradients whose
        tree or shapes do not fit the state.
      TypeError: for an argument of the wrong kind; at `init` and `update` for leaves
        that are not floating point or complex arrays.

    Example:
      >>> import jax.numpy as jnp, optax, rmsprop_jax
      >>> tx = optax.chain(rmsprop_jax.scale_by_rmsprop(), optax.scale(-0.1))
      >>> params = {"w": jnp.array([1.0, -2.0])}
      >>> updates, state = tx.update(params, tx.init(params))  # gradient of |w|**2/2
      >>> updates["w"].round(4)
      Array([-0.3162,  0.3162], dtype=float32)

    Source: Tieleman and Hinton, Lecture 6.5, COURSERA: Neural Networks for Machine
      Learning, 2012. Centered: Graves, Generating Sequences With Recurrent Neural
      Networks, 2013, eq. 38-45.
    """
    call = Call("scale_by_rmsprop", injectable=True)
    rule = Rule(decay, eps, eps_in_sqrt, centered, bias_correction)
    return bounded(call, divide(call, rule, initial_scale, storage, nonfinite, seed))


def divide(
    call: Call,
    rule: Rule,
    initial_scale: ArrayLike,
    storage: str | Format,
    nonfinite: str,
    seed: ArrayLike,
) -> optax.GradientTransformation:
    """Make the link of a chain that divides by the root of the second moment."""
    numbers = dict(decay=rule.decay, eps=rule.eps, initial_scale=initial_scale)
    check_numbers(call, **numbers, seed=seed)
    flags = ("eps_in_sqrt", "centered", "bias_correction")
    check_flags(call, **{name: getattr(rule, name) for name in flags})
    check_choice(call, "nonfinite", nonfinite, NONFINITE)
    if not isinstance(initial_scale, jax.Array):
        check_start(call, initial_scale, rule.bias_correction)
    s_format = find_format(call, storage)
    m_format = signed(s_format)

    def init(params: PyTree) -> RMSPropState:
        check_arrays(call, **numbers)
        check_start(call, initial_scale, rule.bias_correction)

        def second_moment(p):
            dtype = real_dtype(arithmetic_dtype(jnp.result_type(p)))
            return s_format.init(p, initial_scale, dtype)

        def mean(p):
            return m_format.init(p, 0.0, arithmetic_dtype(jnp.result_type(p)))

        return RMSPropState(
            step=jnp.zeros((), jnp.int32),
            s=map_inexact(second_moment, params),
            m=map_inexact(mean, params) if rule.centered else None,
        )

    def update(
        updates: PyTree, state: Any, params: PyTree = None
    ) -> tuple[PyTree, RMSPropState]:
        check_state(call, state, RMSPropState)
        _check_centered(call, state, rule.centered)
        if params is None:
            check_gradients(call, updates, state.m)
        step = jnp.asarray(optax.safe_increment(state.step))
        at = functools.cache(lambda dtype: coefficients(rule, step, dtype))

        def advance_leaf(
            leaf: int, g: Inexact[Array, "*shape"], s: Array, m: Array | None
        ):
            s = decoded(call, s_format, s)
            m = None if m is None else decoded(call, m_format, m)
            g = resharded(g, s)
            u, s, m = advance(at(s.dtype), lift(g, s.dtype), s, m, nonfinite=nonfinite)
            s = encoded(s_format, s, Dither(seed, state.step, "s", leaf))
            if m is not None:
                m = encoded(m_format, m, Dither(seed, state.step, "m", leaf))
            return lower(u, g.dtype), s, m

        updates, s, m = map_leaves(call, advance_leaf, updates, state.s, state.m)
        return updates, RMSPropState(step, s, m)

    return optax.GradientTransformation(init, update)  # pyright: ignore


def _check_centered(call: Call, state: RMSPropState, centered: bool) -> None:
    if jax.tree.leaves(state.s) and bool(jax.tree.leaves(state.m)) != centered:
        raise ValueError(
            f"{call.given('.update', centered=centered)}: the state is that of "
            f"centered={not centered}. Use the options that it was made with."
        )
