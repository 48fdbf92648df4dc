"""Prints tables to standard output."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

import click

from audiozen_core.results.aligning import aligned, column_widths

# A width greater than the width of any row. Scripts may read tables that are not printed to a terminal, so rich must
# not cut or wrap the rows.
_UNLIMITED = 1_000_000


def echo_table(rows: Iterable[Sequence[str]], *, headings: Sequence[str] = (), right: Iterable[str] = ()) -> None:
    """Prints a plain-text table without lines between cells. Long cells are wrapped only in a terminal.

    Args:
        rows: the cells of each row. Rows may have different lengths.
        headings: the headings of the columns.
        right: the headings of the columns to align to the right, such as columns of numbers.

    Example:
        >>> echo_table([("meeting", "61.5"), ("call", "8.0")], headings=("file", "seconds"), right=["seconds"])
        file     seconds
        meeting     61.5
        call         8.0
    """
    click.echo(table_text(rows, headings=headings, right=right))


def table_text(rows: Iterable[Sequence[str]], *, headings: Sequence[str] = (), right: Iterable[str] = ()) -> str:
    """Returns the table that `echo_table` prints."""
    rows = [*([tuple(headings)] if headings else []), *map(tuple, rows)]
    widths = column_widths(rows)
    limit = _UNLIMITED
    if sys.stdout.isatty():
        import shutil

        limit = shutil.get_terminal_size().columns
    if sum(widths) + 2 * len(widths) > limit or not all(cell.isprintable() for row in rows for cell in row):
        return _wrapped(rows, headings, right)
    to_right = [place for place, heading in enumerate(headings) if heading in right]
    return "\n".join("  ".join(aligned(row, widths, to_right)).rstrip() for row in rows)


def _wrapped(rows: Sequence[Sequence[str]], headings: Sequence[str], right: Iterable[str]) -> str:
    """Lays out a table with rich, which is slow to import and needed only for long rows and unprintable characters."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, show_header=bool(headings), pad_edge=False, padding=(0, 2, 0, 0))
    for heading in headings or [""] * max(map(len, rows), default=0):
        table.add_column(heading, justify="right" if heading in right else "left", overflow="fold")
    for row in rows[1:] if headings else rows:
        table.add_row(*row)
    width = None if sys.stdout.isatty() else _UNLIMITED
    console = Console(width=width, color_system=None, markup=False, emoji=False, highlight=False)
    with console.capture() as capture:
        console.print(table)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())
