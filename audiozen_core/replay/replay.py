"""`audiozen replay`: recreates a batch of a run, and optionally the training step with this batch."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audiozen_core.data.tensors import map_tensors
from audiozen_core.diagnostics.listed import listed
from audiozen_core.errors import RunError
from audiozen_core.hooks.progress import Progress
from audiozen_core.replay.batches import make_batch
from audiozen_core.replay.output import check_replaceable, whole_folder, write_batch_samples, write_numbers
from audiozen_core.replay.run_folder import RunFolder, SavedCheckpoint
from audiozen_core.replay.samples import BatchSample, samples_of
from audiozen_core.replay.step import ReplayedStep, StepHook, train_to
from audiozen_core.replay.target import BatchPosition, Target, batches_of_epoch, find_batch_position
from audiozen_core.replay.training import (
    BuiltTraining,
    ReplayedTraining,
    replayed_training,
    with_working_directory_note,
)
from audiozen_core.results.files import finite_or_none

NUMBERS = "replay.json"


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """A batch that was recreated.

    Attributes:
        folder: the folder with the files of the batch.
        place: the position of the batch.
        rank: the rank of the batch.
        batch: the batch as `training_step` gets it, on the CPU.
        samples: the samples of the batch.
        step: the results of the step; None if only the batch was recreated.
        start: the checkpoint that the replay started from; "" for the initial weights.
        recorded: the scalars of the step in `metrics.jsonl`; empty if they are unknown. None stands for a number that
            was not finite.
    """

    folder: Path
    place: BatchPosition
    rank: int
    batch: Any
    samples: Sequence[BatchSample]
    step: ReplayedStep | None
    start: str
    recorded: Mapping[str, float | None]

    @property
    def differing_scalars(self) -> list[str]:
        """The names of the scalars whose values in `metrics.jsonl` differ from the values in the replayed step."""
        if self.step is None:
            return []
        replayed = {name: finite_or_none(value) for name, value in self.step.scalars.items()}
        return [name for name, value in self.recorded.items() if name in replayed and replayed[name] != value]


@dataclass(slots=True)
class ProgressReporter:
    """Callbacks with which a command shows the progress of a replay.

    Attributes:
        begin: called once, with a description of the work and the number of batches (None if the number is unknown).
        done: called after each batch, with the number of finished batches.
    """

    begin: Callable[[str, int | None], object] = lambda what, total: None
    done: Callable[[int], object] = lambda count: None


def replay(
    folder: Path | str,
    target: Target,
    *,
    rank: int = 0,
    step: bool = False,
    catch_up: bool = False,
    device: str | None = None,
    output: Path | None = None,
    progress: ProgressReporter | None = None,
) -> ReplayResult:
    """Recreates a batch of a run, and writes its audio, spectrograms and numbers into a folder.

    Args:
        folder: the run folder. Nothing in it changes, except that the default output folder is created in it.
        target: the batch to recreate.
        rank: the rank whose batch is recreated, if the run has several processes.
        step: whether to also run the forward and backward pass of the batch, with the state of the training at this
            batch.
        catch_up: whether the replay may train from a checkpoint of an earlier epoch, or from the start, to restore the
            state of the training.
        device: the device for the step; None for the device of the run.
        output: the folder to write; by default `replay/epoch_0003_batch_0017` in the run folder.
        progress: callbacks that show the progress.

    Raises:
        RunError: the folder is not a run folder, the run has no such batch, its data has changed, or no checkpoint is
            close enough.
        AudioZenError: the training can't be built, or its data can't be read.
    """
    run, progress = RunFolder(Path(folder).expanduser()), progress or ProgressReporter()
    if output is not None:
        check_replaceable(output, NUMBERS)
    settings = run.settings(target)
    saved = run.before(target)
    hook = StepHook(progress.done) if step else None
    with replayed_training(run, settings, rank=rank, hook=hook, device=device) as training:
        # A new training loads its initial weights. They are not needed if only the batch is recreated.
        continues = saved is not None or hook is None
        with with_working_directory_note(), training.built(continues=continues) as built:
            run.check_size(built.loader.size)
            _check_passes(built, saved, settings.ranks)
            start = saved.progress if saved else Progress(ranks=settings.ranks)
            recorded_epoch, _ = run.recorded(target.step) if target.place is None else (None, {})
            place = find_batch_position(built.trainer, built.loader, target, start, recorded_epoch)
            final = output or _default_folder(run, place, rank)
            check_replaceable(final, NUMBERS)
            if hook is None:
                batch = make_batch(
                    built.trainer,
                    built.loader,
                    place,
                    start,
                    on_begin=functools.partial(progress.begin, "making earlier batches of the stream"),
                    on_batch=progress.done,
                )
                batch = map_tensors(batch, lambda tensor: tensor.detach().cpu())
                replayed_step, recorded = None, {}
            else:
                replayed_step = _step(run, training, built, hook, place, saved, progress, catch_up=catch_up)
                batch = replayed_step.batch
                # In all other cases, the record also covers batches of other ranks, or is written after a later batch.
                is_comparable = settings.ranks == 1 and replayed_step.closes_step
                recorded = run.recorded(replayed_step.step)[1] if is_comparable else {}
            replayed = ReplayResult(
                final,
                place,
                rank,
                batch,
                samples_of(batch, built.trainer.sr),
                replayed_step,
                saved.path.name if saved and replayed_step else "",
                recorded,
            )
    with whole_folder(final, NUMBERS) as temporary:
        described = write_batch_samples(temporary, replayed.samples)
        write_numbers(temporary, NUMBERS, {**_described(run, replayed), "samples": described})
    return replayed


def _default_folder(run: RunFolder, place: BatchPosition, rank: int) -> Path:
    name = f"epoch_{place.epoch:04d}_batch_{place.batch:04d}{f'_rank_{rank}' if rank else ''}"
    return run.folder / "replay" / name


def _step(
    run: RunFolder,
    training: ReplayedTraining,
    built: BuiltTraining,
    hook: StepHook,
    place: BatchPosition,
    saved: SavedCheckpoint | None,
    progress: ProgressReporter,
    *,
    catch_up: bool,
) -> ReplayedStep:
    """Trains up to the batch, if this is necessary and allowed, and replays the step of the batch."""
    ranks = training.rank_count
    start = saved.progress if saved else Progress()
    between = _batches_between(built, start, place)
    near = saved is not None and start.epoch == place.epoch - 1
    if ranks > 1 and between != 0:
        raise RunError(
            f"the step of {place} can't be replayed: the run had {ranks} processes, a replay has one, and no "
            "checkpoint is directly before this batch",
            notes=_checkpoints(run),
            remedy="omit --step to recreate only the batch, or choose the batch that follows one of these checkpoints",
        )
    if not (near or catch_up or between == 0):
        distance = "an unknown number of batches" if between is None else f"{between} batches"
        nearest = f"the nearest checkpoint, {saved.path.name}," if saved else "the start"
        raise RunError(
            f"epoch {place.epoch} has no checkpoint before batch {place.batch}: {nearest} is {distance} earlier",
            notes=_checkpoints(run),
            remedy="add --catch-up to train these batches again, without changing the run, or omit --step to recreate "
            "only the batch",
        )
    if saved is None and run.is_finetuning:
        raise RunError(
            "the run has no checkpoint before this batch, and its initial weights came from another run",
            notes=_checkpoints(run),
            remedy="omit --step to recreate only the batch",
        )
    loaded = run.store.load(saved.path, map_location=built.trainer.state_device) if saved else None
    if between != 0:
        progress.begin(f"training from {saved.path.name if saved else 'the start'}", between)
    return train_to(training, built, hook, place, loaded)


def _batches_between(built: BuiltTraining, start: Progress, place: BatchPosition) -> int | None:
    """Returns the number of batches from `start` to `place`; None if the length of an epoch is unknown."""
    total = place.batch - start.batch
    for epoch in range(start.epoch + 1, place.epoch):
        count = batches_of_epoch(built.trainer, built.loader, epoch)
        if count is None:
            return None
        total += count
    return total


def _checkpoints(run: RunFolder) -> list[str]:
    names = [info.name for info in run.checkpoints()]
    return [f"checkpoints: {listed(names) if names else 'none'}"]


def _check_passes(built: BuiltTraining, saved: SavedCheckpoint | None, ranks: int) -> None:
    """Raises `RunError` if the number of batches in a pass has changed since a checkpoint was saved."""
    if saved is None or saved.progress.pass_batches is None or built.loader.stream_workers is not None:
        return
    progress = saved.progress
    built.loader.epoch(progress.passes + (progress.pass_batch > 0))
    now, before = built.loader.num_batches, progress.pass_batches
    if now is not None and progress.ranks == ranks and now != before:
        raise RunError(
            f"the training data has changed: a pass has {now} batches now, but had {before} when "
            f"{saved.path.name} was saved",
            remedy="restore the data, because the batch would contain other samples",
        )


def _described(run: RunFolder, replayed: ReplayResult) -> dict[str, Any]:
    data: dict[str, Any] = {
        "run": str(run.folder),
        "epoch": replayed.place.epoch,
        "batch": replayed.place.batch,
        "rank": replayed.rank,
    }
    if (step := replayed.step) is not None:
        names = [row.name if row else None for row in (step.first_activation, step.first_gradient)]
        data |= {
            "step": step.step,
            "checkpoint": replayed.start or None,
            "losses": list(step.losses),
            "scalars": {name: finite_or_none(value) for name, value in step.scalars.items()},
            "recorded": dict(replayed.recorded),
            "differing": replayed.differing_scalars,
            "weights_not_finite": list(step.weights),
            "earlier_batches_not_finite": list(step.earlier),
            "first_activation_not_finite": names[0],
            "first_gradient_not_finite": names[1],
            "modules": [row.described() for row in step.rows],
        }
    return data
