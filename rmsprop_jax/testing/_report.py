"""The result of checking the laws."""

import textwrap
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ._law import Law
from ._subject import DoesNotApply

LONGEST = 600


class Broken(NamedTuple):
    """A broken law, with a small example.

    Attributes:
      number, name, statement, source: those of the `Law`.
      message: the failure, shortened.
    """

    number: int
    name: str
    statement: str
    source: str
    message: str

    def __str__(self) -> str:
        head = f"{self.number:>2} {self.name}: {self.statement} ({self.source})"
        return f"{head}\n{textwrap.indent(self.message, '     ')}"


class Report(NamedTuple):
    """The result of each law that was selected; each is in one of the fields.

    Attributes:
      passed: names of the laws that hold.
      broken: the laws that do not hold.
      excused: the laws that do not hold but were excused, with the reason.
      needless: names of the laws that were excused but hold.
      skipped: names of the laws that do not apply, with the reason.
    """

    passed: tuple[str, ...] = ()
    broken: tuple[Broken, ...] = ()
    excused: tuple[tuple[Broken, str], ...] = ()
    needless: tuple[str, ...] = ()
    skipped: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        lines = [str(broken) for broken in self.broken]
        lines += [f"{name}: excused, but it holds" for name in self.needless]
        lines += [f"{law.name}: excused, {reason}" for law, reason in self.excused]
        lines += [f"{name}: skipped, {reason}" for name, reason in self.skipped]
        return "\n".join([*lines, f"laws that hold: {len(self.passed)}"])


def describe(law: Law, error: Exception) -> Broken:
    """Describe how a law was broken."""
    return Broken(law.number, law.name, law.statement, law.source, shorten(error))


def shorten(error: Exception) -> str:
    """Return the message of an error in a few lines."""
    text = "\n".join(line.rstrip() for line in str(error).splitlines() if line.strip())
    if len(text) > LONGEST:
        text = text[:LONGEST].rsplit("\n", 1)[0] + "\n..."
    kind = type(error).__name__
    return text if isinstance(error, AssertionError) and text else f"{kind}: {text}"


def check_each(check: Callable[[Any], None], cases: Mapping[str, Any]) -> None:
    """Check every case, and name all that fail."""
    failures = []
    for name, case in cases.items():
        try:
            check(case)
        except DoesNotApply:
            raise
        except Exception as error:
            few = "\n".join(shorten(error).splitlines()[:6])
            failures.append(f"{name}: {few}")
    if failures:
        raise AssertionError("\n".join(failures))
