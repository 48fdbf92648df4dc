"""Finds the position of the batch that the user asked for, and counts the batches of a training run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from audiozen_core.data.loader import BatchLoader
from audiozen_core.errors import RunError
from audiozen_core.hooks.progress import Progress
from audiozen_core.trainer.base_trainer import BaseTrainer


class BatchPosition(NamedTuple):
    """The position of a batch in a training run: its epoch, from 1, and its index in the epoch, from 0.

    Error messages and records use the same numbers.
    """

    epoch: int
    batch: int

    def __str__(self) -> str:
        return f"batch {self.batch} of epoch {self.epoch}"


@dataclass(frozen=True, slots=True)
class Target:
    """The batch that the user asked for: a position, or the last batch of an optimiser step.

    Attributes:
        place: the position of the batch; None if the user gave a step.
        step: the optimiser step, counted from 1.
    """

    place: BatchPosition | None = None
    step: int = 0

    def follows(self, progress: Progress) -> bool:
        """Returns whether a run that continues from `progress` reaches the target."""
        if self.place is None:
            return progress.step < self.step
        return (progress.epoch, progress.batch) <= (self.place.epoch - 1, self.place.batch)

    def __str__(self) -> str:
        return f"step {self.step}" if self.place is None else str(self.place)


class BatchCounts(NamedTuple):
    """How the batches of a training run are counted.

    Attributes:
        per_step: the number of batches in an optimiser step.
        per_epoch: the number of batches in an epoch with `steps_per_epoch`; None if an epoch is a pass over the data.
    """

    per_step: int
    per_epoch: int | None


def batch_counts(trainer: BaseTrainer) -> BatchCounts:
    """Returns how a trainer counts its batches."""
    window, steps = trainer.gradient_accumulation_steps, trainer.steps_per_epoch
    return BatchCounts(window, None if steps is None else steps * window)


def batches_of_epoch(trainer: BaseTrainer, loader: BatchLoader, epoch: int) -> int | None:
    """Returns the number of batches in an epoch, without making a batch; None for a stream of unknown length."""
    if (count := batch_counts(trainer).per_epoch) is not None:
        return count
    loader.epoch(epoch)  # a sampler may give a different number of batches in each epoch
    return loader.num_batches


def find_batch_position(
    trainer: BaseTrainer, loader: BatchLoader, target: Target, start: Progress, epoch: int | None
) -> BatchPosition:
    """Returns the position of a target, and checks that the training has such a batch.

    Args:
        trainer: the trainer.
        loader: the training data.
        target: the target.
        start: the progress of the training at a point before the target, such as a checkpoint.
        epoch: the epoch of the step in the records of the run; None if there is no record.

    Raises:
        RunError: the training has no such batch, or the batch of a step can't be determined.
    """
    place = target.place or _place_of_step(trainer, loader, target.step, start, epoch)
    if place.epoch > trainer.max_epochs:
        raise RunError(
            f"the training has no epoch {place.epoch}, because it has `max_epochs = {trainer.max_epochs}`",
            remedy="choose an earlier epoch; epochs are counted from 1",
        )
    count = batches_of_epoch(trainer, loader, place.epoch)
    if count is not None and place.batch >= count:
        raise RunError(
            f"epoch {place.epoch} only has the batches 0 to {count - 1}, so it has no batch {place.batch}",
            remedy="choose an earlier batch; batches are counted from 0, as in error messages",
        )
    return place


def _place_of_step(
    trainer: BaseTrainer, loader: BatchLoader, step: int, start: Progress, recorded_epoch: int | None
) -> BatchPosition:
    batches_per_step = batch_counts(trainer).per_step
    epoch, batch, steps_left = start.epoch + 1, start.batch, step - start.step
    while epoch <= trainer.max_epochs:
        count = batches_of_epoch(trainer, loader, epoch)
        if count is None and recorded_epoch != epoch:
            raise RunError(
                f"the batch of step {step} can't be determined, because the number of batches of {loader.names[0]} in "
                "an epoch is unknown",
                remedy="use --epoch and --batch instead",
            )
        steps = steps_left if count is None else -(-(count - batch) // batches_per_step)
        if steps_left <= steps:
            end = batch + steps_left * batches_per_step
            place = BatchPosition(epoch, (end if count is None else min(end, count)) - 1)
            if recorded_epoch not in (None, epoch):
                raise RunError(
                    f"step {step} would be in epoch {epoch}, but metrics.jsonl has it in epoch {recorded_epoch}: the "
                    "data or the batch size has changed",
                    remedy="use --epoch and --batch instead",
                )
            return place
        epoch, batch, steps_left = epoch + 1, 0, steps_left - steps
    raise RunError(
        f"the training has no step {step}, because it has `max_epochs = {trainer.max_epochs}`",
        remedy="choose a step from metrics.jsonl",
    )
