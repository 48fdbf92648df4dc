"""`audiozen check`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from audiozen_core.cli.findings import FORMATS, show_findings
from audiozen_core.cli.options import FILE, MODES, OVERRIDES, TRACEBACK, WITHOUT, SeveralModes


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
    help="Also build everything, and report weights; in a training, run one batch forward and backward and the "
    "optimiser, and report shapes, memory and time. Nothing is written.",
)
@TRACEBACK
def command(file: Path, modes: tuple[str, ...], overrides: tuple[str, ...], form: str, build: bool) -> None:
    """Find every mistake in a TOML file: resolve each `path` and check each argument, without building anything.

    The exit code is 2 if there are mistakes, else 0.
    """
    from audiozen_core import logging
    from audiozen_core.errors import ConfigError
    from audiozen_core.experiment.experiment import Experiment

    logging.configure()
    try:
        experiment = Experiment.load(file, overrides=overrides, modes=modes)  # type: ignore[arg-type]
    except ConfigError as error:
        if form == "text":
            raise
        show_findings(error.diagnostics, form)
        sys.exit(2)
    show_findings(experiment.warnings, form)
    if form == "text":
        count = len(experiment.warnings)
        warnings = f", {count} warning{'s' if count > 1 else ''}" if count else ""
        click.echo(f"{file}: no mistakes found{warnings}")
    if build:
        from audiozen_core.experiment.dry_run import dry_run

        for name, fact in dry_run(experiment).items():
            click.echo(f"{name:<12} {fact}")
