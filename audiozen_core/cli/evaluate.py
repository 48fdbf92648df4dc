"""`audiozen evaluate`: scores the files of a folder."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import click

from audiozen_core.cli.options import TRACEBACK, WITHOUT, GivenPath, split_names
from audiozen_core.errors import Interrupted

# Each worker should use one thread. Libraries read these variables when they are imported, so `command` sets them
# earlier.
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

_FOLDER = GivenPath(path_type=Path)


@click.command(name="evaluate")
@click.argument("enhanced", metavar="ENHANCED", type=_FOLDER)
@click.option(
    "--clean", metavar="FOLDER", type=_FOLDER, help="The clean files. Without them, only reference-free metrics apply."
)
@click.option(
    "--noisy", metavar="FOLDER", type=_FOLDER, help="The noisy files, to compute improvements, for example in SI-SDR."
)
@click.option("--far-end", metavar="FOLDER", type=_FOLDER, help="The loudspeaker signals, for echo metrics.")
@click.option(
    "--text",
    metavar="FILE",
    type=_FOLDER,
    help="The transcripts: a CSV file with `id` and `text`, or lines `ID words`.",
)
@click.option(
    "--metrics",
    metavar="NAME,…",
    multiple=True,
    callback=split_names,
    help="The metrics. Default: all installed metrics that these inputs allow. `audiozen plugins metric` lists the "
    "installed metrics.",
)
@click.option(
    "--by",
    metavar="NAME,…",
    multiple=True,
    callback=split_names,
    help="Add a row for each value of these conditions. A condition is a column of --conditions, `folder1` for the "
    "outermost folder, or `snr` for names like `a_snr_5.wav`.",
)
@click.option(
    "--conditions", metavar="FILE", type=_FOLDER, help="A CSV, TSV or JSONL file with `id` and a column per condition."
)
@click.option(
    "-o", "--output", metavar="FOLDER", type=_FOLDER, help="Write scores.csv, scores.json and the table to this folder."
)
@click.option(
    "--format",
    "form",
    type=click.Choice(("text", "latex", "markdown")),
    default="text",
    show_default=True,
    help="The format of the table.",
)
@click.option(
    "--num-workers",
    metavar="N",
    type=click.IntRange(min=0),
    help="The number of processes. 0 uses only the main process. Default: one per CPU.",
)
@click.option("--align", is_flag=True, help="Shift files by the estimated delay. By default, delays are only reported.")
@click.option("--resample", is_flag=True, help="Allow different sample rates, and resample for PESQ, DNSMOS, ….")
@click.option("--allow-missing", is_flag=True, help="Skip files without a counterpart, instead of stopping.")
@click.option(
    "--cache",
    metavar="FOLDER",
    type=_FOLDER,
    help="The cache of computed scores. Default: $XDG_CACHE_HOME/audiozen, or ~/.cache/audiozen. It is safe to delete.",
)
@click.option("--no-cache", is_flag=True, help="Don't read or write the cache.")
@WITHOUT
@TRACEBACK
def command(
    enhanced: Path,
    clean: Path | None,
    noisy: Path | None,
    far_end: Path | None,
    text: Path | None,
    metrics: list[str],
    by: list[str],
    conditions: Path | None,
    output: Path | None,
    form: str,
    num_workers: int | None,
    align: bool,
    resample: bool,
    allow_missing: bool,
    cache: Path | None,
    no_cache: bool,
) -> int:
    """Score the files of a folder, and print means with 95 % intervals.

    \b
    audiozen evaluate enhanced --clean clean
    audiozen evaluate enhanced --clean clean --metrics si_sdr,pesq -o scores
    audiozen evaluate enhanced --clean clean --by snr --format latex
    audiozen evaluate enhanced                     without clean files
    audiozen evaluate exp/baseline --by snr        the latest test of a run

    ENHANCED is a folder of audio files, a run folder, or the result folder of a test. A run and a test also provide the
    clean and the noisy files. To score the noisy files, pass their folder as ENHANCED.

    Files are paired by their relative paths without the ending: enhanced/a/b.wav with clean/a/b.flac. Differences
    within a pair are reported, one line for each kind: lengths, rates, channels, a delay, inverted polarity. Silent
    files and files that a metric refuses get no score. They are counted and listed, and do not enter the mean.

    Scores are cached by the samples and the metric. After an interruption, the same command continues, and a second
    call is fast.

    The exit code is 1 if a file could not be read or a metric failed. The other files are scored.
    """
    for name in _ONE_THREAD:
        os.environ.setdefault(name, "1")
    from audiozen_core import logging
    from audiozen_core.diagnostics.printable import printable
    from audiozen_core.results.tables import TableForm
    from audiozen_core.scoring.evaluate import evaluate

    logging.configure(level="warning")
    if output is not None and output.exists() and not output.is_dir():
        raise click.UsageError(f"the output `{output}` is not a folder")
    try:
        scores = evaluate(
            enhanced,
            clean,
            noisy,
            far_end=far_end,
            text=text,
            metrics=metrics or None,
            by=by,
            conditions=conditions,
            num_workers=num_workers,
            align=align,
            resample=resample,
            allow_missing=allow_missing,
            cache=False if no_cache else cache,
            progress=True,
        )
    except KeyboardInterrupt:
        kept = "nothing was saved" if no_cache else "the scores so far are in the cache, and the same command continues"
        raise Interrupted(signal.SIGINT, kept) from None
    by_reason: dict[str, list[str]] = {}
    for name, reason in scores.left_out.items():
        by_reason.setdefault(reason, []).append(name)
    for reason, names in by_reason.items():
        click.echo(printable(f"left out: {', '.join(names)}: {reason}"), err=True)
    for line in scores.findings:
        click.echo(f"note: {line}", err=True)
    chosen: TableForm = form  # type: ignore[assignment]
    click.echo(scores.table(chosen))
    if output is not None:
        for path in scores.write(output, chosen):
            click.echo(printable(f"written: {path}"), err=True)
    return 1 if scores.failed else 0
