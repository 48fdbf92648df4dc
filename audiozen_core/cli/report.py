"""`audiozen report`: writes one HTML page about runs, with their scores, recordings and curves."""

from __future__ import annotations

from pathlib import Path

import click

from audiozen_core.cli.options import TRACEBACK, WITHOUT, GivenPath, split_names
from audiozen_core.cli.scored_options import CONDITIONS, LOWER_IS_BETTER, OF_CHECKPOINT


@click.command(name="report")
@click.argument("systems", metavar="RUN [RUN…]", nargs=-1, required=True)
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    type=GivenPath(path_type=Path, dir_okay=False),
    default=Path("report.html"),
    show_default=True,
    help="The HTML file to write.",
)
@click.option("--title", metavar="TEXT", help="The title of the page. Default: the names of the systems.")
@click.option(
    "--files",
    metavar="N",
    type=click.IntRange(min=0),
    help="How many of the worst, middle and best files to include for each system. Default: about 20 files in all.",
)
@click.option(
    "--seconds",
    metavar="S",
    type=click.FloatRange(min=0.5),
    default=4.0,
    show_default=True,
    help="The maximum length of a clip. Of a longer file, the part in which the systems differ most is used.",
)
@click.option("--metric", metavar="NAME", help="The metric that ranks the files. Default: the first metric.")
@click.option(
    "--by",
    metavar="NAME,…",
    multiple=True,
    callback=split_names,
    help="Also compare within each value of these conditions, as in `audiozen compare`. Default: the conditions in the "
    "scores.",
)
@LOWER_IS_BETTER
@CONDITIONS
@OF_CHECKPOINT
@click.option(
    "--megabytes",
    metavar="MB",
    type=click.FloatRange(min=1),
    default=15.0,
    show_default=True,
    help="The maximum size of the page. If necessary, clips are shortened first and then left out.",
)
@WITHOUT
@TRACEBACK
def command(
    systems: tuple[str, ...],
    output: Path,
    title: str | None,
    files: int | None,
    seconds: float,
    metric: str | None,
    by: list[str],
    lower_is_better: list[str],
    conditions: Path | None,
    checkpoint: str | None,
    megabytes: float,
) -> None:
    """Write an HTML page about runs: which run is better, by how much, is it significant, and how does it sound?

    \b
    audiozen report exp/baseline                        one run, compared with its noisy files
    audiozen report exp/baseline exp/new -o new.html    the second run compared with the first
    audiozen report exp/a b='exp/b_seed_*'              several seeds of a system
    audiozen report ours=scores theirs=theirs.csv       scores of `audiozen evaluate -o`, and a CSV file
    audiozen report exp/a exp/b --metric pesq --by snr  other files to hear, and a table by SNR

    The page is self-contained, so it can be sent by mail and opened offline. It has a summary, scores with intervals
    and significance tests, the worst, middle and best files with players that switch between systems during playback,
    the training curves, the settings that differ, and the environment of the runs.

    A RUN is anything that `audiozen compare` takes. The page says what is missing, such as the test of a run that is
    still being trained.
    """
    from audiozen_core.diagnostics.printable import printable
    from audiozen_core.report.report import write_report

    done = write_report(
        systems,
        output,
        title=title,
        files=files,
        seconds=seconds,
        metric=metric,
        by=by,
        lower_is_better=lower_is_better,
        conditions=conditions,
        checkpoint=checkpoint,
        megabytes=megabytes,
    )
    for text in (*done.verdicts, *done.size_notes):
        click.echo(printable(text))
    for name, why in done.missing.items():
        click.echo(printable(f"note: {name}: {why}"), err=True)
    clips = f"{done.clips} clip{'s' * (done.clips != 1)}"
    click.echo(printable(f"report: {done.path} ({done.size / 1e6:.1f} MB, {clips})"))
