"""Tables as text: aligned columns for a terminal, Markdown for a file, and numbers for both."""

import math
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from deep_clustering.redaction import markdown_cell, one_line


def number(value: Any, digits: int = 3, *, missing: str = "", thousands: str = ",") -> str:  # noqa: ANN401
    """A number with so many digits behind the point.

    Args:
        value: A number; None and NaN are unknown.
        digits: Digits behind the point.
        missing: What stands for an unknown value.
        thousands: What separates the thousands: "," or nothing.

    Returns:
        The text.
    """
    return missing if value is None or math.isnan(value) else f"{value:{thousands}.{digits}f}"


def markdown(rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table.

    Args:
        rows: The head and the lines under it, of as many cells.

    Returns:
        The table, a line for each row and the rule under the head; see `markdown_cell`.
    """
    head, *lines = rows
    escaped = [[markdown_cell(cell) for cell in row] for row in (head, *lines)]
    escaped.insert(1, ["---"] * len(head))
    return "".join(f"| {' | '.join(row)} |\n" for row in escaped)


def aligned(
    rows: Sequence[Sequence[str]],
    *,
    widths: Sequence[int] | None = None,
    right: Collection[int] = (),
    gap: str = "  ",
) -> list[str]:
    """Rows with their columns one below the other.

    Args:
        rows: The head and the lines under it, of as many cells.
        widths: Characters of each column, to which longer cells are cut with a "~"; None takes the longest cell.
        right: Columns that are aligned at their right.
        gap: What separates two columns.

    Returns:
        A line for each row, without blanks at its end; what would break it is spelled out.
    """
    rows = [[one_line(cell) for cell in row] for row in rows]
    if widths is None:
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [
            cell if len(cell) <= width else cell[: width - 1] + "~" for cell, width in zip(row, widths, strict=True)
        ]
        columns = enumerate(zip(cells, widths, strict=True))
        lines.append(gap.join(cell.rjust(w) if i in right else cell.ljust(w) for i, (cell, w) in columns).rstrip())
    return lines
