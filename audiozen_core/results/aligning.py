"""Aligns the cells of tables by their widths on a terminal, where Chinese characters and emoji are two columns wide."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from itertools import zip_longest


def width(text: str) -> int:
    """Returns the width of a text in terminal columns.

    Example:
        >>> width("clip"), width("语音")
        (4, 4)
    """
    if text.isascii():
        return len(text)
    from rich.cells import cell_len  # slow to import, and rarely needed

    return cell_len(text)


def column_widths(rows: Iterable[Sequence[str]]) -> list[int]:
    """Returns the width of the widest cell of each column. Rows may have different lengths."""
    return [max(map(width, column)) for column in zip_longest(*rows, fillvalue="")]


def aligned(row: Sequence[str], widths: Sequence[int], right: Collection[int] = ()) -> list[str]:
    """Fills the cells of a row with spaces.

    Args:
        row: the cells, at most as many as `widths`.
        widths: the widths of the columns.
        right: the indices of the columns that are aligned to the right.

    Example:
        >>> aligned(["语音", "8"], [6, 3], right=[1])
        ['语音  ', '  8']
    """
    cells = []
    for index, (cell, room) in enumerate(zip(row, widths, strict=False)):
        gap = " " * (room - width(cell))
        cells.append(gap + cell if index in right else cell + gap)
    return cells


def markdown_table(headings: Sequence[str], rows: Sequence[Sequence[str]], left: int) -> list[str]:
    """Returns the lines of a Markdown table.

    Args:
        headings: the headings of the columns.
        rows: the cells of each row. A bar in a cell must be escaped.
        left: the number of columns, from the first, that are aligned to the left. The others are aligned to the right.

    Example:
        >>> print(*markdown_table(["file", "dB"], [["a", "5.1"]], left=1), sep="\\n")
        | file |  dB |
        | :--- | --: |
        | a    | 5.1 |
    """
    # Markdown requires at least three characters in each column of the rule.
    widths = [max(3, room) for room in column_widths([headings, *rows])]
    right = range(left, len(widths))
    rule = ["-" * (room - 1) + ":" if index in right else ":" + "-" * (room - 1) for index, room in enumerate(widths)]
    return [f"| {' | '.join(aligned(row, widths, right))} |" for row in (headings, rule, *rows)]
