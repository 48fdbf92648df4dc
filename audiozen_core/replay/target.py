"""Which batch of a training is meant, and how the batches of a training are counted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from audiozen_core.data.loader import BatchLoader
from audiozen_core.errors import RunError
from audiozen_core.hooks.progress import Progress
from audiozen_core.trainer.base_trainer import BaseTrainer


class Place(NamedTuple):
    """A batch of a training: its epoch, from 1, and its index in the epoch, from 0, as in errors and records."""

    epoch: int
    batch: int

    def __str__(self) -> str:
        return f"batch {self.batch} of epoch {self.epoch}"


@dataclass(frozen=True, slots=True)
class Target:
    """What the user asks for: a place, or an optimiser step, from 1, whose last batch is meant.

    Attributes:
        place: the batch; None if a step is given.
        step: the step.
    """

    place: Place | None = None
    step: int = 0

    def follows(self, progress: Progress) -> bool:
        """Returns whether a training that continues from there comes to the target."""
        if self.place is None:
            return progress.step < self.step
        return (progress.epoch, progress.batch) <= (self.place.epoch - 1, self.place.batch)

    def __str__(self) -> str:
        return f"step {self.step}" if self.place is None else str(self.place)


class Counted(NamedTuple):
    """How the batches of a training are counted.

    Attributes:
        of_step: the number of batches of an optimiser step.
        of_epoch: the number of batches of an epoch, if the experiment gives it one; None if an epoch is a pass.
    """

    of_step: int
    of_epoch: int | None


def counted(trainer: BaseTrainer) -> Counted:
    """Returns how a trainer counts its batches."""
    window, steps = trainer.gradient_accumulation_steps, trainer.steps_per_epoch
    return Counted(window, None if steps is None else steps * window)


def batches_of_epoch(trainer: BaseTrainer, loader: BatchLoader, epoch: int) -> int | None:
    """Returns the number of batches of an epoch; None if only its end tells. Makes no batch."""
    if (count := counted(trainer).of_epoch) is not None:
        return count
    loader.epoch(epoch)  # a sampler may give another number of batches in each epoch
    return loader.num_batches


def find_place(trainer: BaseTrainer, loader: BatchLoader, target: Target, start: Progress, epoch: int | None) -> Place:
    """Returns the place of a target, checked.

    Args:
        trainer: the trainer.
        loader: the training data.
        target: the target.
        start: the progress of a training that comes to the target.
        epoch: the epoch that the records of the run have for the step; None if they have none.

    Raises:
        RunError: the training has no such batch, or it is not known which batch the step has.
    """
    place = target.place or _place_of_step(trainer, loader, target.step, start, epoch)
    if place.epoch > trainer.max_epochs:
        raise RunError(
            f"the training has no epoch {place.epoch}, because it has `max_epochs = {trainer.max_epochs}`",
            remedy="epochs count from 1",
        )
    count = batches_of_epoch(trainer, loader, place.epoch)
    if count is not None and place.batch >= count:
        raise RunError(
            f"epoch {place.epoch} has {count} batches, 0 to {count - 1}, and no batch {place.batch}",
            remedy="batches count from 0, as in errors",
        )
    return place


def _place_of_step(trainer: BaseTrainer, loader: BatchLoader, step: int, start: Progress, known: int | None) -> Place:
    of_step = counted(trainer).of_step
    epoch, batch, left = start.epoch + 1, start.batch, step - start.step
    while epoch <= trainer.max_epochs:
        count = batches_of_epoch(trainer, loader, epoch)
        if count is None and known != epoch:
            raise RunError(
                f"it is not known which batch step {step} has, because {loader.names[0]} does not say how many batches "
                "an epoch has",
                remedy="name --epoch and --batch instead",
            )
        steps = left if count is None else -(-(count - batch) // of_step)
        if left <= steps:
            end = batch + left * of_step
            place = Place(epoch, (end if count is None else min(end, count)) - 1)
            if known not in (None, epoch):
                raise RunError(
                    f"step {step} would be in epoch {epoch}, but metrics.jsonl has it in epoch {known}: the data or "
                    "the batch size have changed",
                    remedy="name --epoch and --batch instead",
                )
            return place
        epoch, batch, left = epoch + 1, 0, left - steps
    raise RunError(
        f"the training has no step {step}, because it has `max_epochs = {trainer.max_epochs}`",
        remedy="name a step that metrics.jsonl has",
    )
