"""Draw what a page draws, so that its picture is that of the code beside it."""

import re
from pathlib import Path

BLOCK = re.compile(r"^(% skip: next.*\n+)?```python\n((?:.*\n)*?)```", re.MULTILINE)


def until(page: str, last: str) -> None:
    """Run the blocks of a page down to the one with `last` in it, but no doctests."""
    namespace = {}
    for skipped, code in BLOCK.findall(Path(__file__).with_name(page).read_text()):
        if not skipped and not code.startswith(">>>"):
            exec(code, namespace)
            if last in code:
                return
    raise ValueError(f"{page} has no block with {last!r} in it")
