"""The options of the commands that read the scores of several systems."""

from __future__ import annotations

from pathlib import Path

import click

from audiozen_core.cli.options import GivenPath, split_names

LOWER_IS_BETTER = click.option(
    "--lower-is-better",
    metavar="NAME,…",
    multiple=True,
    callback=split_names,
    help="The metrics in a CSV file of another program for which a lower value is better.",
)
CONDITIONS = click.option(
    "--conditions",
    metavar="FILE",
    type=GivenPath(path_type=Path),
    help="A CSV, TSV or JSONL file with `id` and a column per condition.",
)
OF_CHECKPOINT = click.option(
    "--checkpoint",
    metavar="NAME",
    help="For runs, use the test of this checkpoint: `best`, `latest`, `epoch_0012`. Default: the latest test.",
)
