"""The command `audiozen sqlite`, which prints a table of the runs."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import datetime
from pathlib import Path

import click
from audiozen import AudioZenError
from audiozen.cli import echo_table

from audiozen_plugin_sqlite.database import connect

_RUNS = """
    SELECT id, folder, status, epoch, step, monitor, best_score, best_epoch, updated FROM runs
    ORDER BY monitor, best_score IS NULL, CASE WHEN higher_is_better THEN -best_score ELSE best_score END, folder
"""
_NEWEST = """
    SELECT value FROM scalars JOIN records ON record = records.id WHERE run = ? AND name = ?
    ORDER BY records.id DESC LIMIT 1
"""


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("-s", "--scalar", "names", multiple=True, help="Add a column with the newest value of this scalar.")
def command(path: Path, names: tuple[str, ...]) -> None:
    """Print a table of the runs in an SQLite file, the best ones first.

    PATH is the file, or the folder with the runs, which contains `runs.sqlite`.

    \b
    audiozen sqlite exp
    audiozen sqlite exp -s test/si_sdr -s test/pesq
    """
    file = path / "runs.sqlite" if path.is_dir() else path
    if not file.exists():
        raise AudioZenError(f"`{file}` does not exist", remedy="give the file, or the folder that contains the runs")
    with closing(connect(file)) as database:
        rows = list(_rows(database, names))
    headings = ("run", "status", "epoch", "step", "score", "best", "at epoch", "updated", *names)
    echo_table(rows, headings=headings, right=("epoch", "step", "best", "at epoch", *names))


def _rows(database: sqlite3.Connection, names: Sequence[str]) -> Iterator[list[str]]:
    """Yields one row of text for each run."""
    for number, folder, status, epoch, step, monitor, best, at, updated in database.execute(_RUNS).fetchall():
        newest = [database.execute(_NEWEST, (number, name)).fetchone() for name in names]
        when = f"{datetime.fromisoformat(updated).astimezone():%Y-%m-%d %H:%M}"
        scalars = [_number(found[0]) if found else "" for found in newest]
        yield [folder, status or "", str(epoch), str(step), monitor, _number(best), str(at or ""), when, *scalars]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
