"""`audiozen tune`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from audiozen_core.cli.options import FILE, OVERRIDES, TRACEBACK, WITHOUT, GivenPath
from audiozen_core.cli.table import echo_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from audiozen_core.diagnostics.key_path import KeyPath
    from audiozen_core.tuning.batch_sizes import BatchSizeResult
    from audiozen_core.tuning.lr_sweep import RangeTest

# The maximum number of rows in the table of learning rates, and the maximum length of its bars in characters.
_ROWS, _BAR = 20, 40


@click.group(name="tune")
def command() -> None:
    """Find a learning rate or a batch size for an experiment by training for a few steps.

    \b
    audiozen tune batch_size exp.toml
    audiozen tune lr exp.toml

    These commands do not change the TOML file or the run folder. They print the line to paste into the file.
    """


@command.command(name="lr")
@FILE
@click.option("--min", "least", metavar="RATE", type=float, default=1e-6, show_default=True, help="The first rate.")
@click.option("--max", "most", metavar="RATE", type=float, default=1.0, show_default=True, help="The last rate.")
@click.option("--steps", metavar="N", type=int, default=100, show_default=True, help="The number of optimiser steps.")
@click.option(
    "-o",
    "--output",
    metavar="PICTURE",
    type=GivenPath(path_type=Path),
    help="The picture to write (.svg, .png or .pdf). The points are written to the same folder, as .csv. Default: "
    "<meta.save_dir>/<id>_tune_lr.svg.",
)
@OVERRIDES
@WITHOUT
@TRACEBACK
def tune_lr(file: Path, least: float, most: float, steps: int, output: Path | None, overrides: tuple[str, ...]) -> None:
    """Suggest a learning rate with a range test.

    \b
    audiozen tune lr exp.toml
    audiozen tune lr exp.toml --min 1e-5 --max 0.1 --steps 200 -o curve.png

    The experiment is trained for some steps, with its data, losses, hooks and seed, but without its scheduler. Each
    step multiplies the learning rate by the same factor, from --min to --max. At first, the rate is too small to change
    the loss. Then the loss falls, and finally it rises again, because the rate is too large. The test ends early if the
    loss diverges: it has risen as far above its initial value as it had fallen below it.

    The suggestion is a tenth of the rate with the lowest smoothed loss. At a higher rate the loss begins to rise, so a
    long training needs a safety margin. The rate at the steepest fall, which other tools suggest, depends on how much
    noise between batches remains in the curve. The ratio between the rates of parameter groups is kept. If no rate can
    be suggested, the command says why, and ends with exit code 2.

    The picture needs matplotlib: pip install 'audiozen[plot]'.
    """
    from audiozen_core import logging
    from audiozen_core.errors import RunError
    from audiozen_core.experiment.experiment import Experiment
    from audiozen_core.tuning.lr_picture import can_draw, check_picture, draw_curve, write_points
    from audiozen_core.tuning.lr_sweep import run_range_test

    logging.configure(level="warning")
    experiment = Experiment.load(file, overrides=overrides)
    picture = output or experiment.folder.with_name(f"{experiment.config.id}_tune_lr.svg")
    draws = output is not None or can_draw()
    if draws:
        check_picture(picture)
    hidden = not sys.stderr.isatty()
    with click.progressbar(length=steps, label="range test", file=sys.stderr, hidden=hidden) as bar:
        test = run_range_test(experiment, least=least, most=most, steps=steps, on_step=lambda *_: bar.update(1))
    _show_curve(test)  # printed first, because writing the files may fail
    points = picture.with_suffix(".csv")
    write_points(test.curve, points)
    if draws:
        draw_curve(test.curve, test.suggestion, picture, f"{experiment.config.id}: learning rate range test")
    click.echo(f"\npoints:  {points}")
    click.echo(f"picture: {picture}" if draws else "picture: none, because it needs pip install 'audiozen[plot]'")
    suggestion = test.suggestion
    if suggestion.rate is None:
        raise RunError(f"no learning rate can be suggested: {suggestion.problem}", remedy=suggestion.remedy)
    _show_suggestion(test, suggestion.rate)
    if experiment.config.components["lr_scheduler"]:
        click.echo(
            "\n[lr_scheduler] was off in the test. Set it up so that its highest rate is the suggested rate: with "
            "OneCycleLR, set `max_lr`; with noam, multiply `lr` by (d_model * warmup_steps) ** 0.5."
        )


def _show_curve(test: RangeTest) -> None:
    """Prints some points of the curve, each with a bar for its smoothed loss."""
    curve = test.curve
    count = len(curve.losses)
    if not count:
        return
    smoothed = curve.smoothed
    low, high = min(smoothed), max(smoothed)
    shown = sorted({round(row * (count - 1) / (_ROWS - 1)) for row in range(_ROWS)} | {test.suggestion.lowest or 0})
    rows = []
    for index in shown:
        bar = "#" * (1 + round((_BAR - 1) * (smoothed[index] - low) / ((high - low) or 1.0)))
        mark = " < lowest" if index == test.suggestion.lowest else ""
        rows.append((f"{curve.rates[index]:.1e}", f"{smoothed[index]:.4g}", f"{bar}{mark}"))
    echo_table(rows, headings=("lr", "loss", "smoothed loss"), right=("lr", "loss"))
    if test.ended_early:
        click.echo(f"\nthe test ended after {count} of {len(curve.rates)} steps: {test.ended_early}")


def _show_suggestion(test: RangeTest, rate: float) -> None:
    from audiozen_core.tuning.lr_curve import as_toml

    assert test.suggestion.lowest is not None
    lowest = as_toml(test.curve.rates[test.suggestion.lowest])
    click.echo(
        f"\nthe loss is lowest at {lowest}; a tenth of this rate is\n\n[{test.section}.args]\nlr = {as_toml(rate)}"
    )
    if test.groups:
        click.echo(f"\nand, for groups with their own rate, in [[{test.section}.groups]]\n")
        for name, ratio in test.groups.items():
            click.echo(f"lr = {as_toml(rate * ratio)}  # {name}")


@command.command(name="batch_size", short_help="Find the batch size that fits and trains fastest.")
@FILE
@click.option("--min", "first", metavar="N", type=int, default=1, show_default=True, help="The first size.")
@click.option("--max", "most", metavar="N", type=int, help="The last size. Default: the size of the training data.")
@click.option(
    "--steps", metavar="N", type=click.IntRange(min=1), default=5, show_default=True, help="The steps to time."
)
@click.option(
    "--memory",
    metavar="SHARE",
    type=float,
    default=0.8,
    show_default=True,
    help="The share of the computer's free memory that may be used.",
)
@OVERRIDES
@WITHOUT
@TRACEBACK
def tune_batch_size(
    file: Path, first: int, most: int | None, steps: int, memory: float, overrides: tuple[str, ...]
) -> None:
    """Find the largest batch size that fits into memory, and the size that trains fastest.

    \b
    audiozen tune batch_size exp.toml
    audiozen tune batch_size exp.toml --min 8 --max 256

    The size is doubled until the memory of the GPU or of the computer is full, or a batch contains all of the data.
    Then sizes in between are tried. On a CPU, the search ends earlier if two larger sizes in a row are not faster. Each
    size is trained for some steps in a separate process. --memory sets the share of the free memory that this process
    may use. If it needs more, it is stopped, and the size counts as too large. In a container or a Slurm job, memory is
    free only up to the memory limit of the container or the job.

    The suggestion is the smallest size whose speed in samples per second is within 5 % of the fastest size. A new batch
    size needs a new learning rate: run `audiozen tune lr` afterwards.
    """
    from audiozen_core import logging
    from audiozen_core.experiment.experiment import Experiment
    from audiozen_core.tuning.batch_sizes import search_sizes
    from audiozen_core.tuning.child import MemoryLimit, measure_in_child
    from audiozen_core.tuning.short_training import check_batch_size_is_used, check_single_process

    logging.configure(level="warning")
    check_single_process()
    experiment = Experiment.load(file, overrides=overrides)
    check_batch_size_is_used(experiment)
    limit = MemoryLimit(memory)

    def measure(size: int) -> BatchSizeResult:
        click.echo(f"batch_size = {size} …", err=True)
        return measure_in_child(file, overrides, size, steps=steps, limit=limit)

    _show_sizes(search_sizes(measure, first=first, most=most), experiment.config.datasets["train"][0].key)


def _show_sizes(measured: Sequence[BatchSizeResult], dataset: KeyPath) -> None:
    """Prints the sizes, and the line to paste into the section of the (first) training set."""
    from audiozen_core.tuning.batch_sizes import largest, recommended

    rows = []
    for result in sorted(measured, key=lambda result: result.batch_size):
        speed = f"{result.samples_per_second:.1f}" if result.fits else ""
        memory = f"{result.peak_memory / 2**20:.0f} MiB" if result.peak_memory else ""
        rows.append((str(result.batch_size), speed, memory, "yes" if result.fits else f"no: {result.reason}"))
    echo_table(rows, headings=("batch_size", "samples/s", "peak memory", "fits"), right=("batch_size", "samples/s"))
    best = recommended(measured)
    click.echo(f"\nlargest that fits: {largest(measured).batch_size}")
    where, line = "", f"[{dataset[0]}.dataloader]\nbatch_size = {best.batch_size}"
    if len(dataset) > 1:
        # No header is printed here: pasted at the end of the file, it would belong to the last data set, but only the
        # first data set's `dataloader` is used.
        where, line = f", for the `dataloader` of the first [[{dataset[0]}]]", f"batch_size = {best.batch_size}"
    click.echo(f"smallest that is nearly as fast as the fastest{where}:\n\n{line}")
    click.echo("\nA new batch size needs a new learning rate: `audiozen tune lr` finds it.")
