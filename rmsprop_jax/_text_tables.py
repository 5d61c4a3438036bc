"""Rows as a table: for a terminal, and for a page."""

from collections.abc import Sequence

Rows = Sequence[dict[str, str]]


def plain_table(rows: Rows) -> str:
    """Lay rows of the same keys out in columns, under their keys."""
    cells = [list(rows[0]), *(list(row.values()) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        for line in cells
    ]
    return "\n".join(line.rstrip() for line in lines)


def markdown_table(rows: Rows) -> str:
    """Write rows of the same keys as a Markdown table."""
    lines = [list(rows[0]), ["---"] * len(rows[0]), *(row.values() for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
