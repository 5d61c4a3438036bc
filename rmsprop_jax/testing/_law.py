"""A law: a function that checks it, and what its docstring says."""

import inspect
import re
from collections.abc import Callable
from typing import NamedTuple

from ._subject import Subject


class Law(NamedTuple):
    """A law that a transformation should keep.

    Attributes:
      number: from 1 to 39, as in docs/conformance.md.
      name: the name by which it is selected and excused.
      statement: the first line of the docstring of `check`.
      source: the issue, defect or test from which it comes.
      check: raises an exception for a transformation that breaks the law, and
        `DoesNotApply` for one that it does not concern.
    """

    number: int
    name: str
    statement: str
    source: str
    check: Callable[[Subject], None]


def law_of(check: Callable[[Subject], None]) -> Law:
    """Make a law of a function `law_<number>_<name>` and its docstring."""
    parts = re.fullmatch(r"law_(\d\d)_(\w+)", check.__name__)
    text = inspect.getdoc(check) or ""
    source = re.search(r"^Source: (.+?)\.?\Z", text, re.MULTILINE | re.DOTALL)
    if parts is None or source is None:
        raise ValueError(
            f"`{check.__name__}` must be named law_<two digits>_<name>, and the first "
            "line of its docstring must state the law, the last be `Source: ...`."
        )
    return Law(
        number=int(parts[1]),
        name=parts[2],
        statement=text.splitlines()[0],
        source=" ".join(source[1].split()),
        check=check,
    )
