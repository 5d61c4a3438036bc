"""Master weights: 16-bit parameters trained with the accuracy of float32."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Int32, PyTree

from ._arguments import Call, cached, check_numbers
from ._dither import Dither
from ._number_lines import RESIDUALS, join, move, split
from ._placement import Shaped, constant_like, resharded
from ._precision import lift
from ._storage import undifferentiable
from ._trees import (
    at,
    check_gradients,
    check_parameters,
    is_inexact,
    map_leaves,
    named_leaves,
    path_name,
    states_in,
)


class MasterWeightsState(NamedTuple):
    """The state of `master_weights` between steps.

    Attributes:
      step: number of updates so far; an int32 scalar.
      residual: the bits that each 16-bit parameter lacks: int8 with 24 bits, int16 with
        32; False for parameters of other dtypes.
      inner_state: state of the inner transformation, which sees float32 parameters.
    """

    step: Int32[Array, ""]
    residual: PyTree
    inner_state: PyTree


@cached
def master_weights(
    inner: optax.GradientTransformation, *, bits: int = 24, seed: ArrayLike = 0
) -> optax.GradientTransformationExtraArgs:
    """Train bfloat16 and float16 parameters with the accuracy of float32 parameters.

        w  <- w + inner(g, w)                   in float32, rounded to `bits`
        p  <- w                                 rounded to nearest
        residual = w - p                        in 2**-8 or 2**-16 of the last place

    So the master weight `w` takes 3 bytes (24 bits, rounded stochastically, which is
    unbiased for steps of any size) or 4 (32 bits, which gives the float32 run itself).
    Parameters of other dtypes are passed to `inner` as they are. Its updates are
    float32, and `optax.apply_updates` adds them so that the sum is `p`.

    It must be the last link of a chain, with wrappers such as `optax.apply_if_finite`
    and `optax.flatten` inside it. What changes an update after it, such as
    `optax.scale` in a later link or `optax.lookahead` around it, moves the parameters
    away from the master weights; this cannot be noticed.

    Args:
      inner: any optax transformation whose updates are to be added to the parameters.
      bits: of a master weight, those of the parameter included: 24 or 32.
      seed: an integer; seed of the stochastic rounding of 24 bits.

    Returns:
      An `optax.GradientTransformationExtraArgs` with a `MasterWeightsState`. Its
      `update` needs the parameters.

    Raises:
      ValueError: for other bits; at `update` without parameters, or for parameters
        whose dtype is not that at `init`.
      TypeError: for an `inner` that is no transformation; for derivatives through it.

    Example:
      >>> import jax.numpy as jnp, optax, rmsprop_jax
      >>> tx = rmsprop_jax.master_weights(rmsprop_jax.rmsprop(1e-4, storage="uint8"))
      >>> params = jnp.ones((), jnp.bfloat16)
      >>> state = tx.init(params)
      >>> for _ in range(3):
      ...     updates, state = tx.update(params, state, params)
      ...     params = optax.apply_updates(params, updates)
      >>> weight = rmsprop_jax.restore_master_weights(params, state)
      >>> print(f"{params:.4f} {weight:.4f}")
      1.0000 0.9993

    Source: Micikevicius et al., Mixed Precision Training, 2018, section 3.1; the
      residual: FlashOptim, arXiv:2602.23349, 2026.
    """
    call = Call("master_weights")
    if not isinstance(inner, optax.GradientTransformation):
        raise TypeError(
            f"`{call}(inner)` must be an optax transformation, such as "
            f"`rmsprop_jax.rmsprop(1e-3)`; got {inner!r}."
        )
    if bits not in RESIDUALS:
        raise ValueError(f"`{call}(bits=...)` must be 24 or 32; got {bits!r}.")
    check_numbers(call, seed=seed)
    inner = optax.with_extra_args_support(inner)

    def init(params: PyTree) -> MasterWeightsState:
        check_parameters(call, params)
        return MasterWeightsState(
            step=jnp.zeros((), jnp.int32),
            residual=jax.tree.map(lambda p: _no_residual(p, bits), params),
            inner_state=inner.init(jax.tree.map(_wide, params)),
        )

    def update(
        updates: PyTree,
        state: MasterWeightsState,
        params: PyTree = None,
        **extra_args: Any,
    ) -> tuple[PyTree, MasterWeightsState]:
        if params is None:
            raise ValueError(
                f"`{call}.update` needs the parameters: call `update(updates, state, "
                "params)`."
            )
        check_gradients(call, updates, params)
        jax.tree_util.tree_map_with_path(
            lambda path, p, r: _check_residual(call, path, p, r, bits),
            params,
            state.residual,
        )
        wide, *_ = map_leaves(call, _lift_gradient, updates, params, state.residual)
        masters = jax.tree.map(_join, params, state.residual)
        wide, inner_state = inner.update(wide, state.inner_state, masters, **extra_args)

        def land_leaf(leaf: int, u: Array, p: Array, w: Array, residual: Array):
            if not _is_narrow(p):
                return u, p, w, residual
            random = Dither(seed, state.step, "w", leaf).random(p.shape)
            land = undifferentiable(
                f"`{call}` cannot be differentiated through: a parameter of 16 bits is "
                "a step function of the gradients. Differentiate with float32 "
                "parameters.",
                lambda w: move(resharded(p, w), w, bits, random),
            )
            u, residual = land(w + u.astype(w.dtype))
            return u, p, w, residual

        landed, _, _, residual = map_leaves(
            call, land_leaf, wide, params, masters, state.residual
        )
        step = jnp.asarray(optax.safe_increment(state.step))
        updates = jax.tree.map(_resharded, landed, updates)
        return updates, MasterWeightsState(step, residual, inner_state)

    return optax.GradientTransformationExtraArgs(init, update)  # pyright: ignore


def restore_master_weights(params: PyTree, state: PyTree) -> PyTree:
    """Return the float32 weights of 16-bit parameters, for evaluation and export.

        w <- p + residual

    Args:
      params: the parameters.
      state: the state of a transformation with `master_weights` in it, at any depth:
        chained, masked, injected, partitioned.

    Returns:
      A tree like `params`, with float32 in place of bfloat16 and float16.

    Raises:
      ValueError: for a state without master weights, or of other parameters.

    Example:
      >>> import jax.numpy as jnp, rmsprop_jax
      >>> params = {"w": jnp.ones(2, jnp.bfloat16)}
      >>> state = rmsprop_jax.master_weights(rmsprop_jax.rmsprop(1e-4)).init(params)
      >>> restore_master_weights(params, state)
      {'w': Array([1., 1.], dtype=float32)}

    Source: as `master_weights`.
    """
    residuals = _residuals(Call("restore_master_weights"), params, state)
    return jax.tree_util.tree_map_with_path(
        lambda path, p: _join(p, residuals.get(path_name(path))), params
    )


def split_master_weights(
    weights: PyTree, params: PyTree, state: PyTree
) -> tuple[PyTree, PyTree]:
    """Split float32 weights into 16-bit parameters and residuals.

    It is the inverse of `restore_master_weights`.

        p <- w, rounded to nearest;   residual <- w - p

    Args:
      weights: a tree like `params`, in float32 where these are of 16 bits.
      params: parameters with the dtypes to train in; their values are not used.
      state: a state of theirs with `master_weights` in it; the rest of it is kept.

    Returns:
      The parameters, and the state with the residuals that belong to them.

    Raises:
      ValueError: for a state without master weights, or of other parameters.

    Example:
      >>> import jax, jax.numpy as jnp, rmsprop_jax
      >>> params = jnp.zeros((), jnp.bfloat16)
      >>> state = rmsprop_jax.master_weights(rmsprop_jax.rmsprop(1e-4)).init(params)
      >>> params, state = split_master_weights(jnp.asarray(0.3), params, state)
      >>> print(f"{params:.4f} {restore_master_weights(params, state):.4f}")
      0.3008 0.3000

    Source: as `master_weights`.
    """
    kept = _residuals(Call("split_master_weights"), params, state)

    def halves(name: str, p: Array, w: Array) -> tuple[Array, Array | None]:
        residual = kept.get(name)
        if residual is None or not _is_narrow(p):
            return jnp.asarray(w, p.dtype), residual
        return split(jnp.asarray(w), p.dtype, 16 + 8 * residual.dtype.itemsize)

    named = named_leaves(params)
    leaves = jax.tree.structure(params).flatten_up_to(weights)
    pairs = [halves(*leaf, w) for leaf, w in zip(named, leaves, strict=True)]
    after = {name: r for (name, _), (_, r) in zip(named, pairs, strict=True)}

    def with_residuals(node: Any) -> Any:
        if not _is_state(node):
            return node
        residual = jax.tree_util.tree_map_with_path(
            lambda path, _: after[path_name(path)], node.residual
        )
        return node._replace(residual=residual)

    params = jax.tree.unflatten(jax.tree.structure(params), [p for p, _ in pairs])
    return params, jax.tree.map(with_residuals, state, is_leaf=_is_state)


def _residuals(call: Call, params: PyTree, state: PyTree) -> dict[str, Array]:
    """Find the residuals in a state by the paths of their parameters."""
    states = states_in(state, MasterWeightsState)
    if not states:
        raise ValueError(
            f"`{call}`: there is no MasterWeightsState in this state; got "
            f"{type(state).__name__}. Pass the state of a transformation with "
            "`master_weights` in it."
        )
    named = [leaf for found in states for leaf in named_leaves(found.residual)]
    shapes = {name: jnp.shape(p) for name, p in named_leaves(params)}
    for name, residual in named:
        if residual.shape != shapes.get(name):
            raise ValueError(
                f"`{call}`: the state has master weights of shape {residual.shape} for "
                f"the parameter at {at(name)}; `params` has {shapes.get(name)}. Pass "
                "the parameters that the state belongs to."
            )
    return dict(named)


def _is_state(node: Any) -> bool:
    return isinstance(node, MasterWeightsState)


def _is_narrow(p: Shaped) -> bool:
    return jnp.result_type(p) in (jnp.bfloat16, jnp.float16)


def _no_residual(p: Shaped, bits: int) -> Array | None:
    if not is_inexact(p):
        return None
    # Sharding metadata needs a leaf of the shape of each parameter.
    return constant_like(p, jnp.zeros((), _residual_dtype(p, bits)))


def _residual_dtype(p: Shaped, bits: int) -> DTypeLike:
    return RESIDUALS[bits] if _is_narrow(p) else jnp.bool_


def _check_residual(call: Call, path: Any, p: Array, residual: Any, bits: int) -> None:
    """Refuse a parameter of another dtype than at `init`."""
    if not is_inexact(p) or residual.dtype == _residual_dtype(p, bits):
        return
    where = f"`{call}.update`: the parameter at {at(path)}"
    was_narrow = residual.dtype in RESIDUALS.values()
    if not was_narrow and not _is_narrow(p):
        return  # `optax.contrib.sam` makes other integers of booleans
    if was_narrow and _is_narrow(p):
        kept = 16 + 8 * residual.dtype.itemsize
        raise ValueError(
            f"{where} has a master weight of {kept} bits in the state; got "
            f"{call.given(bits=bits)}. Use the bits that the state was made with."
        )
    if _is_narrow(p):
        raise ValueError(
            f"{where} is {p.dtype}, and was of 32 or 64 bits at `init`. Call `init` "
            "again on these parameters."
        )
    raise ValueError(
        f"{where} is {p.dtype}, and was bfloat16 or float16 at `init`. Updates are "
        "float32, so `p + u` and `equinox.apply_updates` make a parameter float32. Add "
        "them with `optax.apply_updates(params, updates)`, which keeps its dtype."
    )


def _wide(p: Shaped) -> Shaped:
    if not _is_narrow(p):
        return p
    if isinstance(p, jax.ShapeDtypeStruct):
        return jax.ShapeDtypeStruct(p.shape, jnp.float32, sharding=p.sharding)
    return lift(jnp.asarray(p), jnp.float32)


def _lift_gradient(leaf: int, g: Array, p: Array, residual: Array) -> Any:
    del leaf
    wide = lift(resharded(g, residual), jnp.float32) if _is_narrow(p) else g
    return wide, p, residual


def _resharded(u: Any, g: Any) -> Any:
    return resharded(u, g) if is_inexact(g) else u


def _join(p: Array, residual: Array | None = None) -> Shaped:
    if residual is None or not _is_narrow(p):
        return _wide(p)
    return join(resharded(p, residual), residual)
