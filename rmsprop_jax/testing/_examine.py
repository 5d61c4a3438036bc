"""Run the laws over a transformation."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

from ._context import as_users_run
from ._law import Law, read_law
from ._report import Report, describe
from ._subject import DoesNotApply, Factory, Subject
from .laws import (
    _compiled,
    _derivatives,
    _dtypes,
    _hyperparameters,
    _interface,
    _numerics,
    _optimization,
)
from .laws import _containers as _trees
from .laws import _meshes as _devices
from .laws import _states as _state

_FILES = (
    _interface,
    _hyperparameters,
    _trees,
    _state,
    _dtypes,
    _numerics,
    _derivatives,
    _devices,
    _compiled,
    _optimization,
)

LAWS: tuple[Law, ...] = tuple(
    sorted(
        read_law(check)
        for file in _FILES
        for name, check in vars(file).items()
        if name.startswith("law_")
    )
)


def examine(
    factory: Factory,
    *,
    only: Collection[str] | None = None,
    excuse: Mapping[str, str] | None = None,
    oracle: Callable[..., Any] | None = None,
    extra_args: Mapping[str, Any] | None = None,
) -> Report:
    """Try the laws on a transformation; say of each what became of it.

    Args:
      factory: gives the transformation. It is called without arguments, but for a
        learning rate that has no default; laws about numbers, momentum, booleans or
        dtypes find the arguments that they vary by name in its signature, and are
        skipped where there are none.
      only: names of the laws to try; None for all.
      excuse: names of laws that may be broken, each with the reason.
      oracle: what law 32 compares with: `oracle(start, gradients, learning_rate)`
        gives the parameters after each gradient, in float64 NumPy.
      extra_args: keyword arguments of every `update`, such as `value`.

    Returns:
      A `Report`.

    Raises:
      ValueError: for a name that no law has, or an excuse without a reason.
    """
    excuse = dict(excuse or {})
    _check_names("only", only or ())
    _check_names("excuse", excuse)
    if silent := [name for name, reason in excuse.items() if not reason.strip()]:
        raise ValueError(f"`excuse` must give a reason for {', '.join(silent)}.")
    subject = Subject(factory, oracle=oracle, extra_args=extra_args)
    found: dict[str, list[Any]] = {field: [] for field in Report._fields}
    for law in LAWS:
        if only is not None and law.name not in only:
            continue
        field, what = _try(law, subject, excuse.get(law.name))
        found[field].append(what)
    return Report(**{field: tuple(what) for field, what in found.items()})


def assert_conformant(
    factory: Factory,
    *,
    only: Collection[str] | None = None,
    excuse: Mapping[str, str] | None = None,
    oracle: Callable[..., Any] | None = None,
    extra_args: Mapping[str, Any] | None = None,
) -> Report:
    """Check that a transformation keeps the laws; name every one that it breaks.

    Args:
      factory, only, excuse, oracle, extra_args: as in `examine`.

    Returns:
      The `Report`, for what was skipped or excused.

    Raises:
      AssertionError: for laws that are broken, each with its source and an example, and
        for laws that are excused but hold.
      ValueError: as `examine`.

    Example:
      >>> import optax
      >>> from rmsprop_jax.testing import assert_conformant
      >>> report = assert_conformant(optax.sgd, only=["is_pure", "composes"])
      >>> report.passed
      ('is_pure', 'composes')
    """
    report = examine(
        factory, only=only, excuse=excuse, oracle=oracle, extra_args=extra_args
    )
    if report.broken or report.needless:
        raise AssertionError(f"laws are broken:\n{report}")
    return report


def _try(law: Law, subject: Subject, reason: str | None) -> tuple[str, Any]:
    """Try one law; give the field of the `Report` and what belongs there."""
    try:
        with as_users_run():
            law.check(subject)
    except DoesNotApply as error:
        return "skipped", (law.name, str(error))
    except Exception as error:
        broken = describe(law, error)
        return ("broken", broken) if reason is None else ("excused", (broken, reason))
    return "passed" if reason is None else "needless", law.name


def _check_names(argument: str, names: Collection[str]) -> None:
    known = {law.name for law in LAWS}
    if unknown := [name for name in names if name not in known]:
        raise ValueError(
            f"`{argument}` must have names of laws, such as 'is_pure'; got "
            f"{', '.join(map(repr, unknown))}. `LAWS` lists them."
        )
