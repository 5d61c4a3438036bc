"""Run the laws over a transformation."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

from ._context import as_users_run
from ._law import Law
from ._report import Report, describe
from ._subject import DoesNotApply, Factory, Subject
from .laws import LAWS


def examine(
    factory: Factory,
    *,
    only: Collection[str] | None = None,
    excuse: Mapping[str, str] | None = None,
    oracle: Callable[..., Any] | None = None,
    extra_args: Mapping[str, Any] | None = None,
) -> Report:
    """Check a transformation against the laws, and report the result of each.

    Args:
      factory: returns the transformation. It is called without arguments, except for a
        learning rate that has no default. Laws about numbers, momentum, booleans or
        dtypes find the arguments that they vary by their names in the signature, and
        are skipped where there are none.
      only: names of the laws to check; None for all.
      excuse: the names of laws that may be broken, each with the reason.
      oracle: the reference for law 32: `oracle(start, gradients, learning_rate)`
        returns the parameters after each gradient, in float64 NumPy.
      extra_args: keyword arguments for every `update`, such as `value`.

    Returns:
      A `Report`.

    Raises:
      ValueError: for a name that is not that of a law, or an excuse without a reason.
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
        field, entry = _check(law, subject, excuse.get(law.name))
        found[field].append(entry)
    return Report(**{field: tuple(entries) for field, entries in found.items()})


def assert_conformant(
    factory: Factory,
    *,
    only: Collection[str] | None = None,
    excuse: Mapping[str, str] | None = None,
    oracle: Callable[..., Any] | None = None,
    extra_args: Mapping[str, Any] | None = None,
) -> Report:
    """Assert that a transformation keeps the laws.

    Args:
      factory, only, excuse, oracle, extra_args: as in `examine`.

    Returns:
      The `Report`, which lists what was skipped or excused.

    Raises:
      AssertionError: names every broken law with its source and an example, and every
        law that is excused but holds.
      ValueError: as in `examine`.

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


def _check(law: Law, subject: Subject, reason: str | None) -> tuple[str, Any]:
    """Check one law; return a field of the `Report` and the entry for it."""
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
            f"`{argument}` must contain names of laws, such as 'is_pure'; got "
            f"{', '.join(map(repr, unknown))}. `LAWS` lists them."
        )
