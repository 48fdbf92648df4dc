"""`audiozen enhance`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from audiozen_core.cli.options import TRACEBACK, WITHOUT, GivenPath

if TYPE_CHECKING:
    from audiozen_core.inference.jobs import EnhancementResults


@click.command(name="enhance")
@click.argument("model")
@click.argument("inputs", metavar="IN…", nargs=-1, required=True)
@click.option(
    "-o", "--output", metavar="OUT", type=GivenPath(path_type=Path), required=True,
    help="The folder for the results, or the output file if the input is one file.",
)  # fmt: skip
@click.option(
    "--checkpoint", metavar="NAME|PATH",
    help="The checkpoint of a run: best, latest, epoch_0012, or a path. Default: best, or else latest.",
)  # fmt: skip
@click.option("--weights", metavar="NAME", help="The weights to use: raw, or weights that a hook offers, such as ema.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1 or mps.")
@click.option(
    "--attenuation-limit", metavar="DB", type=click.FloatRange(min=0),
    help="Attenuate by at most this much. Some noise remains, and the speech is distorted less.",
)  # fmt: skip
@click.option("--mix", is_flag=True, help="Enhance the average of all channels. Default: each channel separately.")
@click.option(
    "--format", "form", metavar="ENDING",
    help="Write wav, flac, aiff, w64, caf or ogg. Default: the format of the input, or wav if that format is lossy.",
)  # fmt: skip
@click.option(
    "--subtype", metavar="NAME",
    help="The sample encoding: PCM_16, PCM_24, FLOAT, … Default: as in the input, if it has at least 16 bits.",
)  # fmt: skip
@click.option(
    "--batch-size", metavar="N", type=click.IntRange(min=1), default=1, show_default=True,
    help="Enhance up to N files of equal length at once. On a GPU this is faster for short files.",
)  # fmt: skip
@click.option(
    "--num-workers", metavar="N", type=click.IntRange(min=0),
    help="The number of processes, if the network is on the CPU. 0 uses only this process. Default: one per CPU.",
)  # fmt: skip
@click.option(
    "--overwrite",
    is_flag=True,
    help="Replace existing files, even of another network, input, option or code, or without a record.",
)
@WITHOUT
@TRACEBACK
def command(
    model: str,
    inputs: tuple[str, ...],
    output: Path,
    checkpoint: str | None,
    weights: str | None,
    device: str,
    attenuation_limit: float | None,
    mix: bool,
    form: str | None,
    subtype: str | None,
    batch_size: int,
    num_workers: int | None,
    overwrite: bool,
) -> int:
    """Enhance audio files with a trained network.

    \b
    audiozen enhance exp/baseline noisy/ -o enhanced/
    audiozen enhance exp/baseline meeting.flac -o enhanced.wav
    audiozen enhance acme-denoiser 'calls/*.mp3' -o calls_clean --attenuation-limit 12

    MODEL is the folder of a run, a checkpoint or an exported network, or the name of a network that a plugin publishes
    (`audiozen plugins pretrained` lists them). IN is files, folders (including subfolders), patterns, or a
    manifest: a CSV or TSV file with the column `file`, or a text file with one path per line.

    Each result has the sample rate, channels, length and relative path of its input. The input is resampled to the rate
    of the network, and the result is resampled back. A file of several hours needs no more memory than a file of
    several minutes.

    To continue after an interruption, repeat the command: finished files are skipped. OUT/enhanced.jsonl records the
    network, the code and the options of each result. Results from another network, other code or other options are
    replaced only with `--overwrite`. If OUT is a file, nothing is recorded. A broken file is reported, and the other
    files are enhanced. The exit code is then 1.
    """
    from audiozen_core.inference.inputs import list_jobs
    from audiozen_core.inference.jobs import Options, enhance_jobs
    from audiozen_core.inference.load import load
    from audiozen_core.logging import configure
    from audiozen_core.scoring.worker_pool import keep_freed_memory

    configure(level="warning")
    keep_freed_memory()
    form = form.lower().removeprefix(".") if form else None
    jobs = list_jobs(inputs, output, form)
    folder = output if not jobs or jobs[0].target != output else output.parent
    enhancer = load(model, checkpoint, weights=weights, device=device)
    options = Options(mix=mix, attenuation_limit=attenuation_limit, subtype=subtype)
    with _Progress() as progress:
        outcome = enhance_jobs(
            enhancer, jobs, folder, options, batch_size=batch_size, num_workers=num_workers, overwrite=overwrite,
            keep_records=folder == output, on_start=progress.start, on_part=progress.advance,
        )  # fmt: skip
    _report(outcome, output)
    return 1 if outcome.failed else 0


class _Progress:
    """A progress bar on standard error, shown only in a terminal."""

    def __enter__(self) -> _Progress:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("enhancing"), BarColumn(), TextColumn("{task.percentage:.0f} %"),
            TimeElapsedColumn(), TimeRemainingColumn(), console=console, disable=not console.is_terminal,
            transient=True,
        )  # fmt: skip
        self._bar.__enter__()
        return self

    def __exit__(self, *details: object) -> None:
        self._bar.stop()

    def start(self, size: float) -> None:
        self._task = self._bar.add_task("", total=size)

    def advance(self, part: float) -> None:
        self._bar.advance(self._task, part)


def _report(outcome: EnhancementResults, output: Path) -> None:
    from audiozen_core.diagnostics.printable import printable

    for path, error in outcome.failed.items():
        # Most error messages already contain the path of the file.
        message = error.message if str(path) in error.message else f"{path}: {error.message}"
        click.echo(printable(message + (f" ({error.remedy})" if error.remedy else "")), err=True)
    if outcome.written:
        files = f"{len(outcome.written)} file{'s' * (len(outcome.written) > 1)}"
        speed = outcome.seconds / max(outcome.wall, 1e-9)
        click.echo(
            printable(
                f"enhanced {files} with {outcome.seconds:.1f} s of audio in {outcome.wall:.1f} s, {speed:.1f} times as "
                f"fast as real time: {output}"
            )
        )
    if outcome.skipped:
        click.echo(f"skipped {len(outcome.skipped)} already enhanced")
    if outcome.failed:
        click.echo(f"failed: {len(outcome.failed)}")
