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
# On a slow file system the table is drawn less often, so that the runs have it for themselves.
_MOST_LOAD = 0.2


@click.command(name="runs")
@click.argument("folders", metavar="FOLDER…", type=GivenPath(path_type=Path), nargs=-1, required=True)
@click.option("--watch", is_flag=True, help="Draw the table again every few seconds, until Ctrl-C.")
@click.option(
    "--sort",
    "order",
    type=click.Choice(("name", "best", "time", "written")),
    default="name",
    show_default=True,
    help="The order: by name, the best score first, the longest training first, or the one written last first.",
)
@click.option("--state", "states", type=click.Choice(_STATES), multiple=True, help="Only such runs. May be repeated.")
@click.option(
    "--format",
    "form",
    type=click.Choice(("table", "json", "csv", "markdown")),
    default="table",
    show_default=True,
    help="A table for people, or data: in JSON nothing is left out or rounded.",
)
@TRACEBACK
def command(folders: tuple[Path, ...], watch: bool, order: str, states: tuple[str, ...], form: str) -> None:
    """List the runs in folders and in all folders below: what each is doing, and what it has reached.

    \b
    audiozen runs exp                      all runs in exp
    audiozen runs exp --watch              the same, always up to date
    audiozen runs exp --sort best          the best first
    audiozen runs exp --state running      only those that train now
    audiozen runs recipes --format json    for a program

    The columns: the epoch that is reached of max_epochs; the best score, and its epoch (at); the score of the last
    validation; the first score of the last test; the time of all trainings together; when something was last written;
    and the settings that differ between the runs shown.

    \b
    running      a process trains there, on this machine or another one
    finished     max_epochs or max_steps is reached
    stopped      a hook has ended the training, such as patience
    interrupted  by a signal, such as Ctrl-C; --resume continues it
    failed       with an error
    killed       nothing trains there, and no ending was recorded; --resume continues it
    unknown      an older version has written it, or its lock can't be checked

    Nothing in the folders is changed.
    """
    from audiozen_core.runs.listing import ConfigCache, list_runs

    cache = ConfigCache()

    def read() -> RunList:
        return list_runs(folders, order=order, states=states, cache=cache)  # type: ignore[arg-type]

    if not watch:
        runs = read()
        for warning in runs.warnings:
            click.echo(f"warning: it can't be read: {warning}", err=True)
        click.echo(_rendered(runs, form))
        return
    if form != "table" or not sys.stdout.isatty():
        raise click.UsageError("--watch draws a table on a terminal: use it without --format, and without a pipe")
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
    """Draws the table over the last one, on a screen of its own, and leaves the last one behind."""
    last = ""
    click.echo("\x1b[?1049h\x1b[?25l", nl=False)
    try:
        while True:
            began = time.monotonic()
            last = _table(read(), shutil.get_terminal_size().columns)
            _draw(last)
            took = time.monotonic() - began
            time.sleep(max(_WATCH_SECONDS, took / _MOST_LOAD))
    except KeyboardInterrupt:
        pass
    finally:
        click.echo("\x1b[?25h\x1b[?1049l", nl=False)
    click.echo(last)


def _draw(text: str) -> None:
    """Writes over the lines of the screen, which would flicker if it were cleared first."""
    lines, height = text.splitlines(), shutil.get_terminal_size().lines
    if len(lines) > height - 1:
        hidden = len(lines) - (height - 2)
        lines = [*lines[: height - 2], f"... {hidden} more lines; a taller window or --state shows them"]
    click.echo("\x1b[H" + "".join(f"{line}\x1b[K\n" for line in lines) + "\x1b[J", nl=False)
