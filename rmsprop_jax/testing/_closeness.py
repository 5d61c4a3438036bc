"""Comparisons by chex, with shorter messages."""

import contextlib
from collections.abc import Iterator
from typing import Any

import chex

# Lines of a message that repeat others.
NOISE = ("Not equal to", "Error in value", "Max ", "Mismatch", "ACTUAL", "DESIRED")


def assert_close(
    got: Any, want: Any, what: str = "updates", *, rtol: float, atol: float = 0.0
) -> None:
    """Assert that two trees are equal to within a tolerance."""
    with about(what):
        chex.assert_trees_all_close(got, want, rtol=rtol, atol=atol)


def assert_equal(got: Any, want: Any, what: str = "updates") -> None:
    """Assert that two trees are equal."""
    with about(what):
        chex.assert_trees_all_equal(got, want)


def assert_finite(tree: Any, what: str = "updates") -> None:
    """Assert that a tree has no NaN and no infinity."""
    with about(what):
        chex.assert_tree_all_finite(tree)


@contextlib.contextmanager
def about(what: str) -> Iterator[None]:
    """Begin the message of a failed assertion with `what`, and shorten it."""
    try:
        yield
    except AssertionError as error:
        lines = str(error).replace("[Chex] Assertion ", "").splitlines()
        kept = [x for x in lines if x.strip() and not x.strip().startswith(NOISE)]
        raise AssertionError("\n".join([f"{what}: {kept[0]}", *kept[1:6]])) from None
