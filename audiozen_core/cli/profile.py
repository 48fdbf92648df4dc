"""`audiozen profile`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from audiozen_core.cli.options import FILE, OVERRIDES, TRACEBACK, WITHOUT, GivenPath
from audiozen_core.cli.table import echo_table

if TYPE_CHECKING:
    from audiozen_core.profiling.profile import StepProfile

_BAR = 40
_TITLES = {"optimizer": "optimiser", "rest": "the rest", "outside": "between epochs"}


@click.command(name="profile")
@FILE
@click.option(
    "--steps", metavar="N", type=click.IntRange(min=3), default=20, show_default=True,
    help="The number of optimiser steps to measure. The measurement stops early after a minute.",
)  # fmt: skip
@click.option(
    "-o", "--output", metavar="FOLDER", type=GivenPath(path_type=Path),
    help="The folder for `trace.json` and `profile.json`. Default: <meta.save_dir>/<id>_profile.",
)  # fmt: skip
@OVERRIDES
@WITHOUT
@TRACEBACK
def command(file: Path, steps: int, output: Path | None, overrides: tuple[str, ...]) -> None:
    """Show where the time of a training step goes, and which change gains the most.

    \b
    audiozen profile exp.toml
    audiozen profile exp.toml --steps 50 -o profile --set dataset.dataloader.num_workers=4

    The experiment is trained for some steps, with its data, losses, hooks and optimiser. The trained weights are not
    kept. The table shows the parts of a step: waiting for the data, moving the batch to the device, the forward and the
    backward pass, the optimiser, and each hook by name. On a GPU, times are measured on the GPU, so `data` is the time
    during which the GPU is idle because it waits for a batch.

    The advice below the table is based on measurements: another number of workers, for instance, is tried before it is
    recommended. Three more steps are recorded in detail: open `trace.json` at https://ui.perfetto.dev.
    """
    import dataclasses
    import json

    from audiozen_core import logging
    from audiozen_core.errors import AudioZenError
    from audiozen_core.experiment.experiment import Experiment
    from audiozen_core.profiling.advice import advice, left_out_note
    from audiozen_core.profiling.profile import profile_training
    from audiozen_core.storage.atomic import make_folder, write_whole

    logging.configure(level="warning")
    experiment = Experiment.load(file, overrides=overrides)
    folder = output or experiment.folder.with_name(f"{experiment.config.id}_profile")
    make_folder(folder)  # an error in the path must be found before training starts
    hidden = not sys.stderr.isatty()
    with click.progressbar(length=steps, label="profile", file=sys.stderr, hidden=hidden) as bar:
        profile, trace = profile_training(experiment, steps=steps, trace_folder=folder, on_step=lambda: bar.update(1))

    def trial(num_workers: int) -> StepProfile | None:
        click.echo(f"trying num_workers = {num_workers} …", err=True)
        try:
            return profile_training(experiment, steps=min(steps, 10), num_workers=num_workers, compare_threads=False)[0]
        except AudioZenError:  # training fails, for example because a stream can't be shared between workers
            return None

    _show(profile)
    sentence = advice(profile, trial)
    facts = {**dataclasses.asdict(profile), "advice": sentence}
    write_whole(folder / "profile.json", json.dumps(facts, indent=2) + "\n")
    click.echo(f"\n{sentence}")
    if note := left_out_note(profile):
        click.echo(f"\n{note}")
    click.echo(f"\ntrace:   {trace} (drop it on https://ui.perfetto.dev)\nnumbers: {folder / 'profile.json'}")


def _show(profile: StepProfile) -> None:
    """Prints a table with the time of each part of a step, and the training speed."""
    from audiozen_core.profiling.timeline import HOOK
    from audiozen_core.trainer.step_clock import STEP_PARTS

    hooks = [name for name in profile.parts if name.startswith(HOOK)]
    hooks.sort(key=lambda name: -profile.parts[name])
    *first, rest, outside = STEP_PARTS
    rows = []
    for name in [*first, *hooks, rest, outside]:
        if seconds := profile.parts.get(name, 0.0):
            bar = "█" * round(_BAR * profile.share(name))
            rows.append((_TITLES.get(name, name), f"{1000 * seconds:.3f}", f"{100 * profile.share(name):.1f}", bar))
    rows.append(("a step", f"{1000 * profile.seconds:.3f}", "100.0", ""))
    echo_table(rows, headings=("part", "ms", "%", ""), right=("ms", "%"))
    speed = f"{profile.samples_per_second:.1f} training samples per second"
    if profile.real_time_factor is not None:
        speed += f", {profile.real_time_factor:.1f} times as fast as the audio plays"
    threads = f"{profile.threads} thread{'s' if profile.threads > 1 else ''}"
    click.echo(
        f"\n{speed}; {profile.steps} steps of {1000 * profile.fastest:.3f} to {1000 * profile.slowest:.3f} ms on "
        f"{profile.device}, {threads}, {profile.num_workers} workers"
    )
