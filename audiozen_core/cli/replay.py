"""`audiozen replay`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from audiozen_core.cli.options import TRACEBACK, WITHOUT, GivenPath
from audiozen_core.cli.table import echo_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from audiozen_core.experiment.experiment import Experiment
    from audiozen_core.replay.module_watch import TensorStatistics
    from audiozen_core.replay.replay import ProgressReporter, ReplayResult
    from audiozen_core.replay.samples import BatchSample
    from audiozen_core.replay.step import ReplayedStep

_MAX_SAMPLES = 20


@click.command(name="replay")
@click.argument("run", metavar="RUN", type=GivenPath(path_type=Path))
@click.option("--epoch", metavar="E", type=click.IntRange(min=1), help="The epoch, from 1.")
@click.option(
    "--batch", metavar="B", type=click.IntRange(min=0), help="The batch of the epoch, from 0, as in error messages."
)
@click.option(
    "--at-step", metavar="N", type=click.IntRange(min=1),
    help="Instead of --epoch and --batch: an optimiser step, as in metrics.jsonl. If the step has several batches, the "
    "last batch is used.",
)  # fmt: skip
@click.option(
    "--step", is_flag=True,
    help="Also run the forward and the backward pass with the weights that the training had at this batch, and show "
    "losses, activations and gradients.",
)  # fmt: skip
@click.option(
    "--catch-up", is_flag=True,
    help="With --step: if this epoch has no checkpoint, train from a checkpoint of an earlier epoch or from the start.",
)  # fmt: skip
@click.option(
    "--rank", metavar="R", type=click.IntRange(min=0), default=0, show_default=True,
    help="The process whose batch to reproduce, if the run had several processes.",
)  # fmt: skip
@click.option("--device", metavar="NAME", help="With --step: cpu, cuda, cuda:1 or mps. Default: the device of the run.")
@click.option(
    "-o", "--output", metavar="DIR", type=GivenPath(path_type=Path),
    help="The folder to write. Default: RUN/replay/epoch_0003_batch_0017.",
)  # fmt: skip
@WITHOUT
@TRACEBACK
def command(
    run: Path,
    epoch: int | None,
    batch: int | None,
    at_step: int | None,
    step: bool,
    catch_up: bool,
    rank: int,
    device: str | None,
    output: Path | None,
) -> None:
    """Reproduce a training batch, to hear it, to see it, and to find where a NaN comes from.

    \b
    audiozen replay exp/baseline --epoch 3 --batch 17
    audiozen replay exp/baseline --epoch 3 --batch 17 --step
    audiozen replay exp/baseline --at-step 4711 --step

    RUN is a run folder. The run may be active. Samples depend only on the seed, the epoch and the index, so the
    reproduced batch equals the batch of the training to the last bit. Each waveform is written unchanged (WAV, 32-bit
    floats). Each sample gets a picture of its spectrograms on a common scale. All numbers are written to replay.json.

    With --step, training continues from the nearest checkpoint before the batch. This is exact, too, and does not
    change the run folder. The table has a row for each module, in the order of the forward pass. It shows the norm, the
    largest magnitude and the number of NaN or infinite values of the module's outputs, of the gradients at its outputs,
    and of the gradients of its own weights. Norm and maximum are computed over the finite values.
    """
    from audiozen_core import logging
    from audiozen_core.diagnostics.printable import printable
    from audiozen_core.replay.replay import replay
    from audiozen_core.replay.target import BatchPosition, Target

    if (at_step is None) == (epoch is None and batch is None) or (at_step is None and None in (epoch, batch)):
        raise click.UsageError("choose a batch with --epoch and --batch, or an optimiser step with --at-step")
    if not step and (catch_up or device):
        raise click.UsageError("--catch-up and --device need --step")
    logging.configure(level="warning")
    target = Target(step=at_step) if at_step is not None else Target(BatchPosition(epoch or 0, batch or 0))
    with _Bar() as bar:
        replayed = replay(
            run, target, rank=rank, step=step, catch_up=catch_up, device=device, output=output, progress=bar.progress
        )
    place = replayed.place
    click.echo(f"epoch {place.epoch}, batch {place.batch} of {printable(str(run))}: {len(replayed.samples)} samples\n")
    show_samples(replayed.samples)
    if replayed.step is not None:
        _show_step(replayed, replayed.step)
    click.echo(f"\nwritten to {printable(str(replayed.folder))}")


class _Bar:
    """A progress bar on standard error. It appears only in a terminal, and only when a long task begins."""

    def __enter__(self) -> _Bar:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
            console=console, disable=not console.is_terminal, transient=True,
        )  # fmt: skip
        self._bar.__enter__()
        return self

    def __exit__(self, *details: object) -> None:
        self._bar.stop()

    @property
    def progress(self) -> ProgressReporter:
        from audiozen_core.replay.replay import ProgressReporter

        return ProgressReporter(self._begin, self._done)

    def _begin(self, what: str, total: int | None) -> None:
        self._task = self._bar.add_task(what, total=total)

    def _done(self, count: int) -> None:
        self._bar.update(self._task, completed=count)


def show_samples(samples: Sequence[BatchSample]) -> None:
    """Prints a table with a row for each waveform of the first samples."""
    from audiozen_core.diagnostics.printable import printable

    rows = []
    for index, sample in enumerate(samples[:_MAX_SAMPLES]):
        for name, wave in sample.waves.items():
            row = (
                str(index),
                printable(sample.id),
                name,
                f"{wave.seconds:.3f}",
                f"{wave.level:.1f}",
                f"{wave.peak:.3f}",
            )
            rows.append((*row, wave.remark))
        if not sample.waves:
            rows.append((str(index), printable(sample.id), "", "", "", "", "no waveform"))
    headings = ("sample", "id", "entry", "seconds", "level in dB", "peak", "")
    echo_table(rows, headings=headings, right=("sample", "seconds", "level in dB", "peak"))
    if len(samples) > _MAX_SAMPLES:
        click.echo(f"and {len(samples) - _MAX_SAMPLES} more samples")


def show_preview(experiment: Experiment, count: int) -> None:
    """Loads the first `count` training samples, and prints their properties and statistics."""
    from audiozen_core.diagnostics.printable import printable
    from audiozen_core.replay.preview import preview

    found = preview(experiment, count)
    show_samples(found.samples)
    rows = []
    for name, numbers in found.statistics.items():
        low, mean, high = (f"{level:.1f}" for level in numbers.level_db) if numbers.level_db else ("", "", "")
        seconds = "{:.3f} to {:.3f}".format(*numbers.seconds)
        counts = (str(number) for number in (numbers.loud, numbers.silent, numbers.not_finite))
        rows.append((name, str(numbers.count), seconds, low, mean, high, f"{numbers.peak:.3f}", *counts))
    headings = ("entry", "count", "seconds", "lowest dB", "mean dB", "highest dB", "peak", "peak > 1", "silent")
    click.echo()
    echo_table(rows, headings=(*headings, "not finite"), right=(*headings[3:], "count", "not finite"))
    click.echo(f"\nwritten to {printable(str(found.folder))}")


def _show_step(replayed: ReplayResult, step: ReplayedStep) -> None:
    start = replayed.start or "the initial weights"
    click.echo(f"\noptimiser step {step.step}, trained from {start}\n")
    rows = []
    for name, value in step.scalars.items():
        remark = ""
        if name in replayed.recorded:
            remark = "as recorded"
            if name in replayed.differing_scalars:
                remark = f"recorded: {replayed.recorded[name]!r}"
        rows.append((name, f"{value!r}", remark))
    echo_table(rows, headings=("scalar", "value", ""), right=("value",))
    click.echo("\nnorm, largest magnitude and number of NaN or infinite values:\n")
    echo_table(
        [
            (
                row.name,
                row.kind,
                *_cells(row.activation),
                *_cells(row.output_gradient),
                *_cells(row.weight_gradient),
                " and ".join(
                    remark
                    for remark, is_true in (
                        ("not called: another module uses its weights", not row.calls),
                        ("first activation that is not finite", row is step.first_activation),
                        ("first gradient that is not finite", row is step.first_gradient),
                    )
                    if is_true
                ),
            )
            for row in step.rows
        ],
        headings=_HEADINGS,
        right=_HEADINGS[2:-1],
    )
    _show_findings(replayed, step)


_HEADINGS = (
    "module", "class", "output", "max", "not finite", "gradient", "max", "not finite",
    "weights' gradient", "max", "not finite", "",
)  # fmt: skip


def _cells(summary: TensorStatistics | None) -> tuple[str, str, str]:
    if summary is None:
        return "", "", ""
    numbers = summary.described()
    norm, largest = ("-" if numbers[name] is None else f"{numbers[name]:.3g}" for name in ("norm", "max"))
    return norm, largest, f"{summary.not_finite}/{summary.count}" if summary.not_finite else "0"


def _show_findings(replayed: ReplayResult, step: ReplayedStep) -> None:
    """Prints warnings that affect how the tables are to be read."""
    from audiozen_core.diagnostics.listed import listed

    warnings = []
    if step.weights:
        warnings.append(f"weights were not finite before this step: {listed(step.weights)}")
    if step.earlier:
        batches = listed([str(batch) for batch in step.earlier])
        warnings.append(f"earlier batches of this optimiser step left gradients that are not finite: {batches}")
    if replayed.differing_scalars:
        warnings.append(
            f"the run recorded other values for {listed(replayed.differing_scalars)}, so its device, versions or "
            "data were different"
        )
    for line in warnings:
        click.echo(f"warning: {line}", err=True)
    sys.stderr.flush()
