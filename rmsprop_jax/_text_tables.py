"""Tables of text: aligned columns for a terminal, Markdown for a page."""

from collections.abc import Collection, Sequence

Rows = Sequence[dict[str, str]]


def plain_table(rows: Rows) -> str:
    """Align rows that have the same keys in columns, with the keys as headings."""
    cells = [list(rows[0]), *(list(row.values()) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        for line in cells
    ]
    return "\n".join(line.rstrip() for line in lines)


def markdown_table(rows: Rows, right: Collection[str] = ()) -> str:
    """Write rows that have the same keys as a Markdown table.

    The columns in `right` are aligned to the right.
    """
    rule = ["--:" if key in right else "---" for key in rows[0]]
    lines = [rows[0].keys(), rule, *(row.values() for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
