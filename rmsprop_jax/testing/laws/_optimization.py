"""Law 39: it optimizes."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, PyTree

from .._subject import DoesNotApply, Subject, example

STEPS = 10_000
# Learning rates and whether they fall to 0; those that mostly converge come first.
RATES = (
    (0.01, True),
    (0.001, False),
    (0.1, True),
    (1.0, True),
    (0.01, False),
    (0.1, False),
    (1.0, False),
)
CLOSE = 3e-2

# The minimum of each of the losses that `loss` adds up.
MINIMUM = {
    "parabola": np.asarray([1.0, -1.0, 1.0]),
    "rosenbrock": np.asarray([1.0, 1.0]),
    "matrix": np.asarray([[1.0, -0.5], [0.5, 1.0]]),
    "scalar": np.asarray(0.5),
}


def law_39_converges(subject: Subject) -> None:
    """It finds the minima of a parabola, of Rosenbrock's function and of a matrix.

    To within 3e-2, all together with a scalar, in 10,000 steps at one of the learning
    rates 0.001, 0.01, 0.1 and 1, constant or falling to 0, where the factory takes one.

    Source: optax contrib/_common_test.py.
    """
    _need_descent(subject)
    name, ends = subject.learning_rate, []
    if name is None:
        far = _distances(_descend(subject, subject.make()))
        assert max(far.values()) < CLOSE, f"after {STEPS} steps: {_worst(far)}"
        return
    for rate, falls in RATES:
        schedule = optax.cosine_decay_schedule(rate, STEPS) if falls else rate
        far = _distances(_descend(subject, subject.make(**{name: schedule})))
        if max(far.values()) < CLOSE:
            return
        ends.append(f"learning rate {rate}{' falling' * falls}: {_worst(far)}")
    raise AssertionError(
        f"after {STEPS} steps the farthest of the losses is\n" + "\n".join(ends)
    )


def loss(params: PyTree) -> Array:
    """Add up the losses, each least at its entry of `MINIMUM`."""
    x, y = params["rosenbrock"]
    return sum(
        (
            jnp.sum((params["parabola"] - jnp.asarray([1.0, -1.0, 1.0])) ** 2),
            100.0 * (y - x**2) ** 2 + (1.0 - x) ** 2,
            jnp.sum((params["matrix"] - jnp.asarray(MINIMUM["matrix"])) ** 2),
            (params["scalar"] - 0.5) ** 2,
        ),
        jnp.zeros(()),
    )


def _descend(subject: Subject, tx: optax.GradientTransformation) -> PyTree:
    start = jax.tree.map(lambda x: jnp.zeros(x.shape), MINIMUM)

    def step(carry: Any, _: Any) -> Any:
        params, state = carry
        u, state = subject.update(tx, jax.grad(loss)(params), state, params)
        return (optax.apply_updates(params, u), state), None

    def run(params: PyTree) -> PyTree:
        carry = (params, tx.init(params))
        return jax.lax.scan(step, carry, length=STEPS)[0][0]

    return jax.jit(run)(start)


def _distances(params: PyTree) -> dict[str, float]:
    def far(x: Array, minimum: np.ndarray) -> float:
        distance = float(np.max(np.abs(np.asarray(x) - minimum)))
        return distance if np.isfinite(distance) else float("inf")

    return {name: far(params[name], minimum) for name, minimum in MINIMUM.items()}


def _worst(far: dict[str, float]) -> str:
    name = max(far, key=far.__getitem__)
    return f"{name}, {far[name]:.2g} from its minimum"


def _need_descent(subject: Subject) -> None:
    """Skip a `scale_by_...`, whose updates are directions and not steps."""
    tx, params = subject.make(), example()
    ones = jax.tree.map(jnp.ones_like, params)
    u, _ = subject.update(tx, ones, tx.init(params), params)
    if np.sum(optax.tree.sum(u)) > 0:
        raise DoesNotApply(
            "its updates point along the gradient; chain it with "
            "`optax.scale(-learning_rate)` to have this law checked"
        )
