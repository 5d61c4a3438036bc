"""A law, read from the function that checks it."""

import inspect
import re
from collections.abc import Callable
from typing import NamedTuple

from ._subject import Subject


class Law(NamedTuple):
    """A law: its number and name, what it says, where it comes from, its check.

    Attributes:
      number: from 1 to 39, as in docs/conformance.md.
      name: by which it is selected and excused.
      statement: the first line of the docstring of `check`.
      source: the issue, defect or test that it comes from.
      check: raises an exception for a transformation that breaks it, `DoesNotApply`
        for one of which it says nothing.
    """

    number: int
    name: str
    statement: str
    source: str
    check: Callable[[Subject], None]


def read_law(check: Callable[[Subject], None]) -> Law:
    """Read a law from `law_<number>_<name>` and its docstring."""
    parts = re.fullmatch(r"law_(\d\d)_(\w+)", check.__name__)
    text = inspect.getdoc(check) or ""
    source = re.search(r"^Source: (.+?)\.?\Z", text, re.MULTILINE | re.DOTALL)
    if parts is None or source is None:
        raise ValueError(
            f"`{check.__name__}` must be named law_<two digits>_<name>, with a "
            "docstring of which the first line states it and the last is `Source: ...`."
        )
    return Law(
        number=int(parts[1]),
        name=parts[2],
        statement=text.splitlines()[0],
        source=" ".join(source[1].split()),
        check=check,
    )
