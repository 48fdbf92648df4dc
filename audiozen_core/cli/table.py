"""Prints tables to standard output."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

import click

# Wider than any row, so that rich does not cut or wrap a table that a script reads.
_UNLIMITED = 1_000_000


def echo_table(rows: Iterable[Sequence[str]], *, headings: Sequence[str] = (), right: Iterable[str] = ()) -> None:
    """Prints a plain-text table without rules. In a terminal, long cells are wrapped to fit.

    Rows may have different lengths. `right` lists the headings of the right-aligned columns.
    """
    from rich.console import Console
    from rich.table import Table

    rows = list(rows)
    table = Table(box=None, show_header=bool(headings), pad_edge=False, padding=(0, 2, 0, 0))
    for heading in headings or [""] * max(map(len, rows), default=0):
        table.add_column(heading, justify="right" if heading in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    width = None if sys.stdout.isatty() else _UNLIMITED
    console = Console(width=width, color_system=None, markup=False, emoji=False, highlight=False)
    with console.capture() as capture:
        console.print(table)
    for line in capture.get().splitlines():
        click.echo(line.rstrip())
