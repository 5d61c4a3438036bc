"""Low-precision parameters that lose nothing, around any optax transformation."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, Int, Int32, PyTree

from ._cached import cached
from ._checks import check_number, undifferentiable
from ._dither import Dither
from ._leaves import check_parameters, map_leaves, path_name
from ._split import RESIDUALS, join, move, split
from ._storage import Shaped, constant_like, lift


class MasterWeightsState(NamedTuple):
    """What `master_weights` keeps between steps.

    Attributes:
      step: number of updates so far; an int32 scalar.
      residual: what each 16-bit parameter lacks: int8 with 24 bits, int16 with 32; of
        other parameters a zero.
      inner_state: state of the inner transformation, which sees float32 parameters.
    """

    step: Int32[Array, ""]
    residual: PyTree
    inner_state: PyTree


@cached
def master_weights(
    inner: optax.GradientTransformation, *, bits: int = 24, seed: ArrayLike = 0
) -> optax.GradientTransformationExtraArgs:
    """Train bfloat16 and float16 parameters as if they were float32.

        w  <- w + inner(g, w)                   in float32, rounded to `bits`
        p  <- w                                 rounded to nearest
        residual = w - p                        in 2**-8 or 2**-16 of the last place

    So `w` is kept in 3 bytes (24 bits, rounded stochastically: unbiased however small
    the steps) or in 4 (32 bits: the float32 run itself). Parameters of other dtypes
    pass through untouched. It must be the last of a chain, with conditions such as
    `optax.apply_if_finite` inside: the updates are float32, and `optax.apply_updates`
    lands on `p`.

    Args:
      inner: any optax transformation whose updates are to be added to the parameters.
      bits: of a master weight, those of the parameter included: 24 or 32.
      seed: an integer; seed of the stochastic rounding of 24 bits.

    Returns:
      An `optax.GradientTransformationExtraArgs` with a `MasterWeightsState`. Its
      `update` needs the parameters.

    Raises:
      ValueError: for other bits; at `update` without parameters.
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
    call = "master_weights"
    if not isinstance(inner, optax.GradientTransformation):
        raise TypeError(
            f"`{call}(inner)` must be an optax transformation, such as "
            f"`rmsprop_jax.rmsprop(1e-3)`; got {inner!r}."
        )
    if bits not in RESIDUALS:
        raise ValueError(f"`{call}(bits=...)` must be 24 or 32; got {bits!r}.")
    check_number(call, "seed", seed, at_least=-float("inf"))
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
        wide, _ = map_leaves(call, _lift_gradient, updates, params)
        masters = jax.tree.map(_join, params, state.residual)
        wide, inner_state = inner.update(wide, state.inner_state, masters, **extra_args)

        def leaf_step(leaf: int, u: Array, p: Array, w: Array, residual: Array):
            if not _is_narrow(p):
                return u, p, w, residual
            random = Dither(seed, state.step, "w", leaf).bits(p.shape)
            land = undifferentiable(
                f"`{call}` cannot be differentiated through: a parameter of 16 bits is "
                "a step function of the gradients. Differentiate with float32 "
                "parameters.",
                lambda w: move(p, w, bits, random),
            )
            u, residual = land(w + u.astype(w.dtype))
            return u, p, w, residual

        updates, _, _, residual = map_leaves(
            call, leaf_step, wide, params, masters, state.residual
        )
        step = jnp.asarray(optax.safe_increment(state.step))
        return updates, MasterWeightsState(step, residual, inner_state)

    return optax.GradientTransformationExtraArgs(init, update)  # pyright: ignore


def restore_master_weights(params: PyTree, state: PyTree) -> PyTree:
    """Give the float32 weights behind 16-bit parameters, for evaluation and export.

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
    residuals = _residuals("restore_master_weights", params, state)
    return jax.tree_util.tree_map_with_path(
        lambda path, p: _join(p, residuals.get(path_name(path))), params
    )


def split_master_weights(
    weights: PyTree, params: PyTree, state: PyTree
) -> tuple[PyTree, PyTree]:
    """Put float32 weights behind 16-bit parameters: the way back of restoring.

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
    kept = _residuals("split_master_weights", params, state)

    def halves(name: str, p: Array, w: Array) -> tuple[Array, Array | None]:
        residual = kept.get(name)
        if residual is None or not _is_narrow(p):
            return jnp.asarray(w, p.dtype), residual
        return split(jnp.asarray(w), p.dtype, 16 + 8 * residual.dtype.itemsize)

    named = jax.tree_util.tree_leaves_with_path(params)
    names = [path_name(path) for path, _ in named]
    leaves = jax.tree.structure(params).flatten_up_to(weights)
    pairs = [
        halves(name, p, w) for name, (_, p), w in zip(names, named, leaves, strict=True)
    ]
    after = {name: residual for name, (_, residual) in zip(names, pairs, strict=True)}

    def with_residuals(node: Any) -> Any:
        if not _is_state(node):
            return node
        residual = jax.tree_util.tree_map_with_path(
            lambda path, _: after[path_name(path)], node.residual
        )
        return node._replace(residual=residual)

    params = jax.tree.unflatten(jax.tree.structure(params), [p for p, _ in pairs])
    return params, jax.tree.map(with_residuals, state, is_leaf=_is_state)


def _residuals(call: str, params: PyTree, state: PyTree) -> dict[str, Array]:
    """Find the residuals in a state by the paths of their parameters."""
    states = [x for x in jax.tree.leaves(state, is_leaf=_is_state) if _is_state(x)]
    if not states:
        raise ValueError(
            f"`{call}`: there is no MasterWeightsState in this state; got "
            f"{type(state).__name__}. Pass what `init` of a transformation with "
            "`master_weights` in it gives."
        )
    named = [
        (path_name(path), residual)
        for found in states
        for path, residual in jax.tree_util.tree_leaves_with_path(found.residual)
    ]
    shapes = {
        path_name(path): jnp.shape(p) if _is_narrow(p) else ()
        for path, p in jax.tree_util.tree_leaves_with_path(params)
    }
    for name, residual in named:
        if residual.shape != shapes.get(name):
            raise ValueError(
                f"`{call}`: the state has master weights of shape {residual.shape} for "
                f"the parameter at {name!r}; `params` has {shapes.get(name)}. Pass the "
                "parameters that the state belongs to."
            )
    return dict(named)


def _is_state(node: Any) -> bool:
    return isinstance(node, MasterWeightsState)


def _is_narrow(p: Shaped) -> bool:
    return jnp.result_type(p) in (jnp.bfloat16, jnp.float16)


def _no_residual(p: Shaped, bits: int) -> Int[Array, "..."]:
    if _is_narrow(p):
        return constant_like(p, jnp.zeros((), RESIDUALS[bits]))
    return jnp.zeros((), jnp.int8)  # the state has a leaf for each parameter


def _wide(p: Shaped) -> Shaped:
    if not _is_narrow(p):
        return p
    if isinstance(p, jax.ShapeDtypeStruct):
        return jax.ShapeDtypeStruct(p.shape, jnp.float32, sharding=p.sharding)
    return lift(jnp.asarray(p), jnp.float32)


def _lift_gradient(leaf: int, g: Array, p: Array) -> tuple[Array, Array]:
    del leaf
    return lift(g, jnp.float32) if _is_narrow(p) else g, p


def _join(p: Array, residual: Int[Array, "..."] | None = None) -> Shaped:
    if residual is None or not _is_narrow(p):
        return _wide(p)
    return join(p, residual)
