"""`audiozen check`."""

from __future__ import annotations

from pathlib import Path

import click

from audiozen_core.cli.findings import show_warnings
from audiozen_core.cli.run import MODES, SeveralModes


@click.command(cls=SeveralModes, name="check")
@click.argument("file", metavar="EXP.toml", type=click.Path(path_type=Path))
@click.option(
    "-M",
    "--mode",
    "modes",
    metavar="MODE…",
    type=click.Choice(MODES),
    multiple=True,
    default=("train",),
    help="What the file is to be used for; by default: train.",
)
@click.option("--set", "overrides", metavar="KEY=VALUE", multiple=True, help="Change a value, as for `audiozen run`.")
@click.option("--traceback", is_flag=True, help="Show the whole traceback of an error.")
def command(file: Path, modes: tuple[str, ...], overrides: tuple[str, ...], traceback: bool) -> None:
    """Find every mistake in a TOML file: resolve each path, bind each argument, build nothing."""
    from audiozen_core import logging
    from audiozen_core.experiment import Experiment

    logging.configure()

    experiment = Experiment.load(file, overrides=overrides, modes=modes)  # type: ignore[arg-type]
    show_warnings(experiment.warnings)
    click.echo(f"{file}: no mistakes found")
