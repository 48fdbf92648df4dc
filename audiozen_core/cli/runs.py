"""`audiozen runs`."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from audiozen_core.cli.options import TRACEBACK, GivenPath

if TYPE_CHECKING:
    from audiozen_core.runs.listing import RunList

_STATES = ("running", "finished", "stopped", "interrupted", "failed", "killed", "unknown")
_WATCH_SECONDS = 2.0
# Reading the runs may take at most this share of the time. On a slow file system, the table is therefore updated less
# often.
_MAX_LOAD = 0.2


@click.command(name="runs")
@click.argument("folders", metavar="FOLDER…", type=GivenPath(path_type=Path), nargs=-1, required=True)
@click.option("--watch", is_flag=True, help="Update the table every few seconds, until Ctrl-C.")
@click.option(
    "--sort",
    "order",
    type=click.Choice(("name", "best", "time", "written")),
    default="name",
    show_default=True,
    help="The order: by name, score (best first), training time (longest first) or last change (newest first).",
)
@click.option(
    "--state", "states", type=click.Choice(_STATES), multiple=True, help="Only runs in this state. May be repeated."
)
@click.option(
    "--format",
    "form",
    type=click.Choice(("table", "json", "csv", "markdown")),
    default="table",
    show_default=True,
    help="The output format. JSON has all values, without rounding.",
)
@TRACEBACK
def command(folders: tuple[Path, ...], watch: bool, order: str, states: tuple[str, ...], form: str) -> None:
    """List the runs in folders and their subfolders, with their states and scores.

    \b
    audiozen runs exp                      all runs in exp
    audiozen runs exp --watch              the same, updated continuously
    audiozen runs exp --sort best          the best run first
    audiozen runs exp --state running      only active runs
    audiozen runs recipes --format json    data for programs

    The columns are the current epoch of max_epochs, the best score and its epoch (at), the score of the last
    validation, the first scalar of the newest test, the total training time, the time of the last change, and the
    settings that differ between the listed runs.

    \b
    running      a process is training, on this machine or another machine
    finished     max_epochs or max_steps was reached
    stopped      a hook ended the training, such as patience
    interrupted  a signal ended the training, such as Ctrl-C; --resume continues it
    failed       an error ended the training
    killed       the training ended without a record; --resume continues it
    unknown      an older version wrote the run, or its lock can't be checked

    This command does not change the folders.
    """
    from audiozen_core.runs.listing import ConfigCache, list_runs

    cache = ConfigCache()

    def read() -> RunList:
        return list_runs(folders, order=order, states=states, cache=cache)  # type: ignore[arg-type]

    if not watch:
        runs = read()
        for warning in runs.warnings:
            click.echo(f"warning: can't be read: {warning}", err=True)
        click.echo(_rendered(runs, form))
        return
    if form != "table" or not sys.stdout.isatty():
        raise click.UsageError("--watch needs a terminal and can't be combined with --format or a pipe")
    _watch(read)


def _rendered(runs: RunList, form: str) -> str:
    from audiozen_core.runs import forms

    if form != "table":
        return {"json": forms.as_json, "csv": forms.as_csv, "markdown": forms.as_markdown}[form](runs)
    return _table(runs, shutil.get_terminal_size().columns if sys.stdout.isatty() else None)


def _table(runs: RunList, width: int | None) -> str:
    from audiozen_core.cli.table import table_text
    from audiozen_core.runs.forms import as_table

    table = as_table(runs, width=width)
    text = table_text(table.rows, headings=table.headings, right=table.right) if table.rows else ""
    return "\n".join([*([text, ""] if text else []), *table.notes])


def _watch(read: Callable[[], RunList]) -> None:
    """Updates the table on the terminal's alternate screen until Ctrl-C, then prints it on the normal screen."""
    last = ""
    click.echo("\x1b[?1049h\x1b[?25l", nl=False)
    try:
        while True:
            began = time.monotonic()
            last = _table(read(), shutil.get_terminal_size().columns)
            _draw(last)
            took = time.monotonic() - began
            time.sleep(max(_WATCH_SECONDS, took / _MAX_LOAD))
    except KeyboardInterrupt:
        pass
    finally:
        click.echo("\x1b[?25h\x1b[?1049l", nl=False)
    click.echo(last)


def _draw(text: str) -> None:
    """Overwrites the lines on the screen. If the screen were cleared first, it would flicker."""
    lines, height = text.splitlines(), shutil.get_terminal_size().lines
    if len(lines) > height - 1:
        hidden = len(lines) - (height - 2)
        lines = [*lines[: height - 2], f"... {hidden} more lines; a taller window or --state shows them"]
    click.echo("\x1b[H" + "".join(f"{line}\x1b[K\n" for line in lines) + "\x1b[J", nl=False)
