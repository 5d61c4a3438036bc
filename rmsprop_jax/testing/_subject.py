"""The transformation under test, and the trees that it is tested on."""

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import DTypeLike
from jaxtyping import PyTree

Factory = Callable[..., optax.GradientTransformation]

# The names that optimizers give to the argument that a law varies.
LEARNING_RATES = ("learning_rate", "lr", "step_size")
DECAYS = ("b2", "decay", "alpha", "rho", "gamma")
EPSILONS = ("eps", "epsilon")
RATE = 0.1  # for a factory whose learning rate has no default


class DoesNotApply(Exception):
    """Raised, with the reason, by a law that does not concern a transformation."""


class Subject:
    """A factory of the transformation under test, and what several laws need from it.

    Attributes:
      arguments: the default of each argument of the factory.
      learning_rate: its name for the learning rate; None where it takes none.
      oracle: as in `examine`.
      extra_args: keyword arguments for every `update`.
    """

    def __init__(
        self,
        factory: Factory,
        *,
        oracle: Callable[..., Any] | None = None,
        extra_args: Mapping[str, Any] | None = None,
    ) -> None:
        self._factory = factory
        self.arguments = {
            name: parameter.default
            for name, parameter in inspect.signature(factory).parameters.items()
            if parameter.kind
            in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        }
        self.learning_rate = self.find(LEARNING_RATES)
        self.oracle = oracle
        self.extra_args = dict(extra_args or {})

    def find(self, names: Iterable[str]) -> str | None:
        """Return the first of the names that is an argument of the factory."""
        return next((name for name in names if name in self.arguments), None)

    def need(self, names: Iterable[str]) -> str:
        """Return the first of the names that is an argument, or skip the law."""
        found = self.find(names)
        if found is None:
            raise DoesNotApply(f"the factory takes no {' or '.join(names)}")
        return found

    def make(self, **arguments: Any) -> Any:
        """Make the transformation, with the arguments that are given."""
        rate = self.learning_rate
        if rate and self.arguments[rate] is inspect.Parameter.empty:
            arguments = {rate: RATE, **arguments}
        return self._factory(**arguments)

    def inject(self, **arguments: Any) -> Any:
        """Make the transformation by `optax.inject_hyperparams`."""
        rate = self.learning_rate
        if rate and self.arguments[rate] is inspect.Parameter.empty:
            arguments = {rate: RATE, **arguments}
        static = [name for name, default in self.arguments.items() if callable(default)]
        static = [x for x in static if self.arguments[x] is not inspect.Parameter.empty]
        make = optax.inject_hyperparams(self._factory, static)
        return make(**arguments)

    def numbers(self) -> dict[str, Any]:
        """Return the numbers that the factory takes and their defaults, or skip."""
        numbers = {
            name: default
            for name, default in self.arguments.items()
            if isinstance(default, int | float) and not isinstance(default, bool)
        }
        if self.learning_rate is not None:
            numbers.setdefault(self.learning_rate, RATE)
        if not numbers:
            raise DoesNotApply("the factory takes no numbers")
        return numbers

    def update(
        self,
        tx: Any,
        gradients: PyTree,
        state: Any,
        params: PyTree,
    ) -> tuple[PyTree, Any]:
        """Update once, with the extra arguments."""
        if not self.extra_args:
            return tx.update(gradients, state, params)
        tx = optax.with_extra_args_support(tx)
        return tx.update(gradients, state, params, **self.extra_args)

    def follow(
        self, tx: Any, params: PyTree, gradients: Iterable[Any]
    ) -> tuple[list[PyTree], Any]:
        """Return the updates for gradients at fixed parameters, and the last state."""
        state, updates = tx.init(params), []
        for g in gradients:
            u, state = self.update(tx, g, state, params)
            updates.append(u)
        return updates, state

    def compiled(self, tx: Any) -> optax.GradientTransformation:
        """Return the transformation with an `update` that is compiled once."""
        update = jax.jit(lambda g, state, params: self.update(tx, g, state, params))
        return optax.GradientTransformation(tx.init, update)

    @functools.cached_property
    def step(self) -> "Step":
        """The update of the tree of `example`, compiled once for several laws."""
        return Step(self)


class Step:
    """A compiled update that counts how often it is traced."""

    def __init__(self, subject: Subject) -> None:
        self.traces = 0
        self.tx = subject.make()

        def update(gradients: PyTree, state: Any, params: PyTree) -> Any:
            self.traces += 1
            return subject.update(self.tx, gradients, state, params)

        self.update = jax.jit(update)


def example(dtype: DTypeLike = np.float32) -> PyTree:
    """Return parameters of two leaves, exact in every dtype."""
    a, b = np.asarray([0.5, -1.0, 1.5, 2.0]), np.arange(-2.5, 3.5).reshape(2, 3)
    return jax.tree.map(lambda x: jnp.asarray(x, dtype), {"a": a, "b": b})


def gradients(steps: int, dtype: DTypeLike = np.float32) -> list[PyTree]:
    """Return gradients for `example`, of both signs, without zeros, below 1."""
    rng = np.random.default_rng(0)

    def leaf(p: Any) -> Any:
        g = rng.uniform(0.25, 1.0, p.shape) * rng.choice([-1.0, 1.0], p.shape)
        if jnp.issubdtype(dtype, np.complexfloating):
            g = g + 1j * rng.uniform(-1.0, 1.0, p.shape)
        return jnp.asarray(np.round(64 * g) / 64, dtype)

    return [jax.tree.map(leaf, example()) for _ in range(steps)]
