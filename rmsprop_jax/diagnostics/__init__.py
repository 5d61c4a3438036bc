"""Numbers that show why a run goes wrong, from the state of RMSProp.

Every function is pure and works under `jax.jit` and `jax.vmap`; on a mesh devices
exchange only counts. The training step does not change. The state may be that of any
chain with one `rmsprop` in it.

The state does not keep the numbers of the rule, so pass those that were given to the
optimizer:

    options = dict(decay=0.99, eps=1e-3, storage="uint8")
    tx = rmsprop_jax.rmsprop(1e-3, **options)
    print(diagnostics.summary(state, 1e-3, **options))

Quantiles are the minimum, 5%, 50%, 95% and the maximum, of the values rounded to
bfloat16 (0.4%). `benchmarks/diagnostics.py` measures the time that each function takes.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import PyTree

from .._arguments import Call
from .._rmsprop import ScalarOrSchedule
from .._rule import Rule
from .._storage import Format
from ._decoded import Shares as Shares
from ._decoded import decode_moments
from ._quantiles import quantiles, share
from ._summary import Summary as Summary


def effective_learning_rate(
    state: PyTree,
    learning_rate: ScalarOrSchedule,
    *,
    decay: ArrayLike = 0.9,
    eps: ArrayLike = 1e-8,
    eps_in_sqrt: bool = True,
    bias_correction: bool = False,
    storage: str | Format = "float32",
) -> PyTree:
    """Return quantiles of the factor that each gradient is multiplied by.

        |lr| / sqrt(s/W + eps)      eps_in_sqrt, else  |lr| / (sqrt(s/W) + eps)

    An `s` below the smallest normal number counts as that number, so the rate is
    finite also where eps is 0.

    Args:
      state: an optax state with one `RMSPropState` in it.
      learning_rate: as given to the optimizer; a schedule is evaluated at the last
        step.
      decay, eps, eps_in_sqrt, bias_correction, storage: as given to the optimizer. The
        decay matters only with bias correction.

    Returns:
      A tree like the parameters, of arrays of five quantiles; `plots.bands` draws them.

    Raises:
      ValueError: for a number outside its range, for a state with no `RMSPropState` or
        with several, and for a state of another storage.
      TypeError: for an argument of the wrong kind.

    Example:
      >>> import jax.numpy as jnp, rmsprop_jax
      >>> tx = rmsprop_jax.rmsprop(0.1, decay=0.0)
      >>> g = {"w": jnp.array([0.5, 1.0, 2.0])}
      >>> _, state = tx.update(g, tx.init(g))
      >>> effective_learning_rate(state, 0.1)["w"].round(3)
      Array([0.05, 0.05, 0.1 , 0.1 , 0.2 ], dtype=float32)
    """
    call = Call("diagnostics.effective_learning_rate")
    rule = Rule(decay, eps, eps_in_sqrt, False, bias_correction)
    return decode_moments(call, state, rule, storage).rates(learning_rate)


def step_length(updates: PyTree) -> PyTree:
    """Return quantiles of the absolute values of the updates.

    Args:
      updates: the updates that `update` returned, or any other tree of arrays.

    Returns:
      A tree like it, of arrays of five quantiles.

    Example:
      >>> import jax.numpy as jnp
      >>> step_length({"w": jnp.array([-0.5, 1.0, 2.0])})["w"]
      Array([0.5, 0.5, 1. , 1. , 2. ], dtype=float32)
    """
    return jax.tree.map(lambda u: quantiles(jnp.abs(u)), updates)


def shares(
    state: PyTree,
    *,
    decay: ArrayLike = 0.9,
    eps: ArrayLike = 1e-8,
    eps_in_sqrt: bool = True,
    bias_correction: bool = False,
    storage: str | Format = "float32",
) -> Shares:
    """Return which shares of the second moment are at the floor, at eps, or saturated.

    Args:
      state, decay, eps, eps_in_sqrt, bias_correction, storage: as in
        `effective_learning_rate`.

    Returns:
      A `Shares`; each field is a tree like the parameters, of scalars.

    Raises:
      ValueError, TypeError: as `effective_learning_rate`.

    Example:
      >>> import jax.numpy as jnp, rmsprop_jax
      >>> tx = rmsprop_jax.scale_by_rmsprop(decay=0.0)
      >>> g = jnp.array([0.0, 1e-5, 1.0, 2.0])
      >>> print(*shares(tx.update(g, tx.init(g))[1]))
      0.25 0.5 0.0
    """
    call = Call("diagnostics.shares")
    rule = Rule(decay, eps, eps_in_sqrt, False, bias_correction)
    return decode_moments(call, state, rule, storage).shares()


def held(gradients: PyTree) -> PyTree:
    """Return the share of gradients that are NaN or infinite.

    These are the coordinates that `rmsprop(nonfinite="hold")` does not update.

    Args:
      gradients: a tree of arrays.

    Returns:
      A tree like it, of scalars.

    Example:
      >>> import jax.numpy as jnp
      >>> print(held(jnp.array([1.0, jnp.nan])))
      0.5
    """
    return jax.tree.map(lambda g: share(~jnp.isfinite(g)), gradients)


def signal_to_noise(
    state: PyTree,
    *,
    decay: ArrayLike = 0.9,
    bias_correction: bool = False,
    storage: str | Format = "float32",
) -> PyTree:
    """Return quantiles of the gradient's mean over its standard deviation.

        |m| / sqrt(s/W)      of a centered RMSProp

    Args:
      state, decay, bias_correction, storage: as in `effective_learning_rate`.

    Returns:
      A tree like the parameters, of arrays of five quantiles.

    Raises:
      ValueError: for a state that is not centered, and as `effective_learning_rate`.
      TypeError: as `effective_learning_rate`.

    Example:
      >>> import jax.numpy as jnp, rmsprop_jax
      >>> tx = rmsprop_jax.scale_by_rmsprop(0.5, centered=True, bias_correction=True)
      >>> state = tx.init(jnp.ones(1))
      >>> for g in (1.0, 4.0):  # with weights of 1/3 and 2/3
      ...     _, state = tx.update(jnp.array([g]), state)
      >>> signal_to_noise(state, decay=0.5, bias_correction=True)[2].round(2)
      Array(2.12, dtype=float32)
    """
    call = Call("diagnostics.signal_to_noise")
    rule = Rule(decay, 0.0, True, True, bias_correction)
    moments = decode_moments(call, state, rule, storage)
    if moments.m is None:
        raise ValueError(
            f"`{call}(state)` needs the mean of the gradients, which this state does "
            "not keep. Use `rmsprop(..., centered=True)`."
        )
    return moments.signal_to_noise()


def agreement(
    state: PyTree,
    exact: PyTree,
    *,
    decay: ArrayLike = 0.9,
    eps: ArrayLike = 1e-8,
    eps_in_sqrt: bool = True,
    bias_correction: bool = False,
    storage: str | Format = "float32",
) -> PyTree:
    """Return quantiles of the effective learning rate over that of full precision.

        |u_narrow| / |u_exact|      for the same gradient

    A ratio of 1 means that the two agree. Give the same gradients to both
    transformations, so that the two states belong to one run.

    Args:
      state: a state in narrow `storage`.
      exact: the state of the same run in storage "float32".
      decay, eps, eps_in_sqrt, bias_correction, storage: as in
        `effective_learning_rate`.

    Returns:
      A tree like the parameters, of arrays of five quantiles.

    Raises:
      ValueError: for states of different parameters, and as `effective_learning_rate`.
      TypeError: as `effective_learning_rate`.

    Example:
      >>> import jax.numpy as jnp, rmsprop_jax
      >>> p, rmsprop = jnp.ones(1000), rmsprop_jax.rmsprop
      >>> narrow, exact = rmsprop(1e-3, storage="uint8"), rmsprop(1e-3)
      >>> _, state = narrow.update(p, narrow.init(p))
      >>> _, full = exact.update(p, exact.init(p))
      >>> agreement(state, full, storage="uint8").round(2)
      Array([0.96, 0.96, 1.03, 1.03, 1.03], dtype=float32)
    """
    call = Call("diagnostics.agreement")
    rule = Rule(decay, eps, eps_in_sqrt, False, bias_correction)
    full = decode_moments(call, exact, rule)
    return decode_moments(call, state, rule, storage).agreement(full)


def summary(
    state: PyTree,
    learning_rate: ScalarOrSchedule,
    *,
    gradients: PyTree = None,
    updates: PyTree = None,
    exact: PyTree = None,
    decay: ArrayLike = 0.9,
    eps: ArrayLike = 1e-8,
    eps_in_sqrt: bool = True,
    bias_correction: bool = False,
    storage: str | Format = "float32",
) -> Summary:
    """Return all numbers about a state and about the step that produced it.

    `print` shows it as a table, `rich.print` as one that fits the terminal, and
    `.scalars()` returns the numbers for a log.

    Args:
      state, learning_rate: as in `effective_learning_rate`.
      gradients: those of the step, for `held`; None to leave it out.
      updates: those of the step, for `step_length`; None to leave it out.
      exact: the state of the same run in storage "float32", for `agreement`; None to
        leave it out.
      decay, eps, eps_in_sqrt, bias_correction, storage: as in
        `effective_learning_rate`.

    Returns:
      A `Summary`; with `signal_to_noise` where the state is centered.

    Raises:
      ValueError, TypeError: as `effective_learning_rate` and `agreement`.

    Example:
      >>> import jax.numpy as jnp, rmsprop_jax
      >>> tx = rmsprop_jax.rmsprop(0.1, decay=0.0)
      >>> g = {"w": jnp.array([0.0, 0.5, 2.0])}
      >>> updates, state = tx.update(g, tx.init(g))
      >>> print(summary(state, 0.1))
      leaf  effective learning rate  at floor  at eps  saturated
      w     0.05  0.2  0.2           33.3%     33.3%   0%
      Three numbers are the quantiles 5%, 50% and 95%.
    """
    call = Call("diagnostics.summary")
    rule = Rule(decay, eps, eps_in_sqrt, False, bias_correction)
    moments = decode_moments(call, state, rule, storage)
    full = None if exact is None else decode_moments(call, exact, rule)
    return Summary(
        effective_learning_rate=moments.rates(learning_rate),
        step_length=None if updates is None else step_length(updates),
        **moments.shares()._asdict(),
        held=None if gradients is None else held(gradients),
        signal_to_noise=None if moments.m is None else moments.signal_to_noise(),
        agreement=None if full is None else moments.agreement(full),
    )
