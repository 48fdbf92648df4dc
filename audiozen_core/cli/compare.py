"""`audiozen compare`: compares the scores of runs, folders and CSV files."""

from __future__ import annotations

from pathlib import Path

import click

from audiozen_core.cli.options import TRACEBACK, WITHOUT, GivenPath, split_names
from audiozen_core.cli.scored_options import CONDITIONS, LOWER_IS_BETTER, OF_CHECKPOINT


@click.command(name="compare")
@click.argument("systems", metavar="SYSTEM SYSTEM…", nargs=-1, required=True)
@click.option(
    "--ratings",
    "rated",
    is_flag=True,
    help="Compare the ratings of a listening test. Each SYSTEM is a file of ratings, or a folder of such files.",
)
@click.option(
    "--key",
    metavar="PAGE.key.json",
    type=GivenPath(path_type=Path),
    help="With --ratings, the key of the page. Default: the key in the folder of the ratings or in the working "
    "directory.",
)
@click.option(
    "--keep-all",
    is_flag=True,
    help="With --ratings, also count listeners who rate the hidden reference of MUSHRA below 90 in more than 15 % of "
    "the trials.",
)
@click.option(
    "--baseline", metavar="NAME", help="The system that the others are compared with. Default: the first SYSTEM."
)
@click.option(
    "--metrics",
    metavar="NAME,…",
    multiple=True,
    callback=split_names,
    help="The metrics. Default: all metrics that the systems share.",
)
@LOWER_IS_BETTER
@click.option(
    "--by",
    metavar="NAME,…",
    multiple=True,
    callback=split_names,
    help="Also compare within each value of these conditions. A condition is a column of the scores or of "
    "--conditions, `folder1` for the outermost folder, or `snr` for names like `a_snr_5`.",
)
@CONDITIONS
@OF_CHECKPOINT
@click.option(
    "--files",
    metavar="N",
    type=click.IntRange(min=0),
    default=3,
    show_default=True,
    help="How many of the worst and of the best files to list.",
)
@click.option(
    "-o",
    "--output",
    metavar="FOLDER",
    type=GivenPath(path_type=Path),
    help="Write comparison.json, differences.csv, files.csv and the table to this folder.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(("text", "latex", "markdown")),
    default="text",
    show_default=True,
    help="The format of the table. `latex` and `markdown` are tables of the means for a paper.",
)
@click.option("--intervals", is_flag=True, help="In a table for a paper, add the 95 % interval of each mean.")
@WITHOUT
@TRACEBACK
def command(
    systems: tuple[str, ...],
    rated: bool,
    key: Path | None,
    keep_all: bool,
    baseline: str | None,
    metrics: list[str],
    lower_is_better: list[str],
    by: list[str],
    conditions: Path | None,
    checkpoint: str | None,
    files: int,
    output: Path | None,
    form: str,
    intervals: bool,
) -> None:
    """Compare systems file by file: which system is better, by how much, and is the difference significant?

    \b
    audiozen compare exp/baseline exp/new              the latest tests of two runs
    audiozen compare exp/baseline:noisy exp/baseline   before and after enhancement
    audiozen compare ours=scores theirs=theirs.csv     scores of `audiozen evaluate -o`, and a CSV file
    audiozen compare exp/a exp/b --by snr -o results   within each SNR, too; with files
    audiozen compare exp/a exp/b --format latex        a table for a paper
    audiozen compare a='exp/a_seed_*' b=exp/b1,exp/b2  several seeds of each
    audiozen compare --ratings ratings_*.json          what listeners say (see `audiozen listen`)

    A SYSTEM is a run folder (its latest finished test is used), the result folder of a test, a folder with a
    scores.csv, or a CSV file with one row for each file. NAME=SYSTEM gives a system a name. For a system with several
    seeds, separate the paths by commas, write a pattern in quotes, or give the experiment of `audiozen run --seeds`.

    Files are matched by their IDs. Only files that all systems have are compared, and for each metric only files with
    a value in all systems. The other files are counted and listed.

    For each metric, the table shows the mean difference from the baseline with its 95 % bootstrap interval, the p-value
    of a paired permutation test, and how many files are better and worse. The p-values are corrected by Holm's method
    for all metrics and systems. With several seeds, the interval accounts for the variation between files and seeds.
    """
    from audiozen_core.comparison.compare import compare
    from audiozen_core.diagnostics.printable import printable
    from audiozen_core.listening.compare_ratings import compare_ratings
    from audiozen_core.results.comparison import Comparison
    from audiozen_core.results.tables import TableForm

    if output is not None and output.exists() and not output.is_dir():
        raise click.UsageError(f"the output `{output}` is not a folder")
    if rated and (lower_is_better or checkpoint):
        raise click.UsageError("--lower-is-better and --checkpoint are for scores, not for --ratings")
    if not rated and (key or keep_all):
        raise click.UsageError("--key and --keep-all are for the ratings of a listening test: add --ratings")
    comparison: Comparison
    if rated:
        comparison = compare_ratings(
            systems,
            key=key,
            baseline=baseline,
            metrics=metrics or None,
            by=by,
            conditions=conditions,
            keep_all=keep_all,
        )
    else:
        comparison = compare(
            systems,
            baseline=baseline,
            metrics=metrics or None,
            lower_is_better=lower_is_better,
            by=by,
            conditions=conditions,
            checkpoint=checkpoint,
        )
    chosen: TableForm = form  # type: ignore[assignment]
    for system in comparison.systems:
        click.echo(printable(f"{system.name}: {', '.join(system.sources)}"), err=True)
    for note in comparison.notes:
        click.echo(printable(note if note.startswith("warning: ") else f"note: {note}"), err=True)
    click.echo(comparison.table(chosen, intervals=intervals, files=files))
    if output is not None:
        for path in comparison.write(output, chosen, intervals=intervals):
            click.echo(printable(f"written: {path}"), err=True)
