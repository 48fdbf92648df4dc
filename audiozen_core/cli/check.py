"""`audiozen check`."""

from __future__ import annotations

import atexit
import gc
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout
from pathlib import Path

import click

from audiozen_core.cli.findings import FORMATS, show_findings
from audiozen_core.cli.options import FILE, MODES, OVERRIDES, TRACEBACK, WITHOUT, SeveralModes
from audiozen_core.diagnostics.diagnostic import Diagnostic, as_data


@click.command(cls=SeveralModes, name="check")
@FILE
@MODES
@OVERRIDES
@WITHOUT
@click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    default="text",
    show_default=True,
    help="text for people, json for programs, github for annotations in GitHub Actions.",
)
@click.option(
    "--build",
    is_flag=True,
    help="Also build all components and report the number of weights. In a training mode, also train on one batch and "
    "report shapes, memory and time. Nothing is written. With --format json, the output is an object with the keys "
    "`findings` and `build`.",
)
@TRACEBACK
def command(file: Path, modes: tuple[str, ...], overrides: tuple[str, ...], form: str, build: bool) -> None:
    """Find every mistake in a TOML file: resolve each `path` and check each argument, without building anything.

    The exit code is 2 if the file has mistakes, otherwise 0.
    """
    from audiozen_core import logging
    from audiozen_core.config.check import check_config
    from audiozen_core.config.load import load_config
    from audiozen_core.errors import AudioZenError

    logging.configure()
    findings: tuple[Diagnostic, ...] = ()
    facts: dict[str, str] = {}
    broken = False
    # Programs read the other formats from standard output, so whatever constructors and data sets print goes to
    # standard error.
    with nullcontext() if form == "text" else redirect_stdout(sys.stderr):
        try:
            with nullcontext() if build else _without_collections():
                checked = check_config(load_config(file, overrides, modes))
            findings = checked.warnings
            if form == "text":
                show_findings(findings)
            if build:
                from audiozen_core.experiment.dry_run import dry_run
                from audiozen_core.experiment.experiment import Experiment

                facts = dry_run(Experiment(checked, modes))  # type: ignore[arg-type]
            if form == "text":
                click.echo(f"{file}: no mistakes found{_counted(findings)}")
        except AudioZenError as error:
            if form == "text":
                raise
            findings, broken = (*findings, *error.diagnostics), True
    if form == "json" and build:
        document = {"findings": [as_data(finding) for finding in findings], "build": facts}
        click.echo(json.dumps(document, indent=2, ensure_ascii=False))
    elif form != "text":
        show_findings(findings, form)
    if form != "json":
        for name, fact in facts.items():
            click.echo(f"{name:<12} {fact}", err=form != "text")
    if broken:
        sys.exit(2)


@contextmanager
def _without_collections() -> Iterator[None]:
    """Disables garbage collection in the block and when Python exits.

    Importing torch creates many objects that stay alive. Garbage collection scans these objects several times, and once
    more at the exit, which takes a large part of the time of the whole command.
    """
    enabled = gc.isenabled()
    gc.disable()
    atexit.register(gc.freeze)
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _counted(warnings: Sequence[Diagnostic]) -> str:
    count = len(warnings)
    return f", {count} warning{'s' if count > 1 else ''}" if count else ""
