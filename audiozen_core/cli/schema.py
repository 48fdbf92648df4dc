"""`audiozen schema`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from audiozen_core.cli.options import TRACEBACK, WITHOUT, GivenPath


@click.command(name="schema")
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    type=GivenPath(path_type=Path),
    help="The file to write. Default: standard output.",
)
@WITHOUT
@TRACEBACK
def command(output: Path | None) -> None:
    """Write a JSON Schema of the installed components, which editors use to complete and check TOML files.

    \b
    audiozen schema -o audiozen.schema.json

    Then put this line first in an experiment's TOML file:

    \b
    #:schema audiozen.schema.json
    """
    from audiozen_core import logging
    from audiozen_core.config.json_schema import experiment_schema
    from audiozen_core.storage.atomic import write_whole

    logging.configure()
    text = json.dumps(experiment_schema(), indent=1, ensure_ascii=False) + "\n"
    if output is None:
        click.echo(text, nl=False)
    else:
        write_whole(output, text.encode())
