"""The progress of a run: counters that the training loop, the hooks and the checkpoints use."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from typing import Any

from audiozen_core.diagnostics.run_options import CKPT_PATH
from audiozen_core.errors import RunError


@dataclass(slots=True)
class Progress:
    """The progress of a run.

    A pass is one iteration over the training data. Without `steps_per_epoch`, each epoch is a pass.

    Attributes:
        epoch: the number of completed epochs.
        step: the number of optimiser steps taken.
        batch: the number of completed batches in the current epoch; 0 between epochs.
        best_score: the best validation score so far.
        best_epoch: the epoch that reached the best score, counted from 1; 0 before the first finite score.
        best_step: the optimiser step that reached the best score.
        best_validation: the number of the validation that reached the best score, counted from 1.
        validations: the number of validations that were due. A validation that ran only because training ended is not
            counted.
        validated_step: the optimiser step of the last validation; -1 before the first validation.
        unvalidated_seconds: the time since the last validation, measured only with `validation_interval_minutes`.
        batches: the number of batches in the last completed epoch.
        num_batches: the number of batches in the current epoch, or, between epochs, in the last epoch; None if the data
            set has no length.
        passes: the number of completed passes.
        pass_batch: the number of completed batches in the current pass.
        pass_batches: the number of batches in the current pass; None if the data set has no length.
        stream_workers: the number of workers of the data loader, if the samples of the current pass depend on this
            number; otherwise None.
        ranks: the number of processes of the current pass. All batch counters count the batches of one process.
    """

    epoch: int = 0
    step: int = 0
    batch: int = 0
    best_score: float | None = None
    best_epoch: int = 0
    best_step: int = 0
    best_validation: int = 0
    validations: int = 0
    validated_step: int = -1
    unvalidated_seconds: float = 0.0
    batches: int = 0
    num_batches: int | None = None
    passes: int = 0
    pass_batch: int = 0
    pass_batches: int | None = None
    stream_workers: int | None = None
    ranks: int = 1

    def resumed_batch(self, ranks: int, window: int) -> int:
        """Returns the batch of the current pass at which a resumed run continues.

        If the number of processes has changed, the result is the last batch that begins an optimiser step without
        skipping data. If the completed batches can't be divided into whole steps, the run trains on some batches twice.

        Args:
            ranks: the number of processes of the resumed run.
            window: the number of batches per optimiser step and process; 1 if a step may begin with any batch.

        Example:
            >>> Progress(pass_batch=6, pass_batches=8, ranks=2).resumed_batch(ranks=1, window=1)
            12
            >>> Progress(pass_batch=6, pass_batches=8, ranks=2).resumed_batch(ranks=5, window=1)
            2
        """
        if ranks == self.ranks or not self.pass_batch:
            return self.pass_batch
        done = self.pass_batch * self.ranks
        if self.pass_batch == self.pass_batches:
            return -(-done // ranks)
        return done // (ranks * window) * window

    def begin_pass(
        self,
        start: int,
        num_batches: int | None,
        stream_workers: int | None,
        ranks: int = 1,
        *,
        is_epoch: bool = True,
    ) -> None:
        """Starts a pass, or continues a pass that was not complete when the checkpoint was saved.

        Args:
            start: the first batch, from `resumed_batch`.
            num_batches: the number of batches of the whole pass; None if it is unknown.
            stream_workers: the number of workers of the data loader, if the samples depend on this number; otherwise
                None.
            ranks: the number of processes.
            is_epoch: whether each epoch is a pass. Only messages depend on it.

        Raises:
            RunError: an incomplete pass is to be continued, but the data has changed since the checkpoint was saved.
        """
        name = f"epoch {self.passes + 1}" if is_epoch else f"pass {self.passes + 1} over the training data"
        # With `steps_per_epoch`, a checkpoint is rarely saved at the end of a pass, so another remedy is needed.
        otherwise = f"resume from a checkpoint at the end of an epoch with {CKPT_PATH}"
        if not is_epoch:
            otherwise = f"begin a new training with its weights: `--mode finetune` and {CKPT_PATH}"
        if (
            self.pass_batch
            and num_batches is not None
            and self.pass_batches is not None
            # The last batch of a pass counts for all processes, even if only some of the processes have one.
            and abs(num_batches * ranks - self.pass_batches * self.ranks) >= max(ranks, self.ranks)
        ):
            raise RunError(
                f"{name} had {self.pass_batches} batches when the checkpoint was saved in the middle of it, and has "
                f"{num_batches} now: the training data or the batch size have changed",
                remedy=f"restore the data and the batch size, or {otherwise}",
            )
        if self.pass_batch and stream_workers != self.stream_workers:
            raise RunError(
                f"{name} reads a stream, and can only continue with the number of workers that it started with: "
                f"{self.stream_workers or 0}, not {stream_workers or 0}",
                remedy=f"restore `num_workers`, or {otherwise}",
            )
        if self.pass_batch and stream_workers and ranks != self.ranks:
            raise RunError(
                f"{name} reads a stream with workers, and can only continue with the number of processes that it "
                f"started with: {self.ranks}, not {ranks}",
                remedy=f"restore that number, or {otherwise}",
            )
        self.pass_batch = start if num_batches is None else min(start, num_batches)
        self.pass_batches, self.stream_workers, self.ranks = num_batches, stream_workers, ranks

    def complete_batch(self) -> None:
        """Counts a batch as completed."""
        self.batch += 1
        self.pass_batch += 1

    def complete_pass(self) -> None:
        """Counts the current pass as completed."""
        self.passes, self.pass_batch = self.passes + 1, 0

    def complete_epoch(self) -> None:
        """Counts the current epoch as completed."""
        self.epoch, self.batch, self.batches = self.epoch + 1, 0, self.batch

    def reopen_epoch(self) -> None:
        """Undoes `complete_epoch`, so that a resumed run repeats the validation of the last epoch.

        Does nothing within an epoch, because a resumed run repeats a validation within an epoch in any case.
        """
        if not self.batch:
            self.epoch, self.batch = self.epoch - 1, self.batches

    @property
    def current_epoch(self) -> int:
        """The epoch of the last step, counted from 1; 0 before training."""
        return self.epoch + (self.batch > 0)

    def note_best(self, score: float) -> None:
        """Records that the current step has reached the best score so far."""
        self.best_score, self.best_epoch, self.best_step = score, self.current_epoch, self.step
        self.best_validation = self.validations

    def repeats(self, names: Iterable[str], *, step: int, epoch: int) -> bool:
        """Returns whether training that continues from this state will write an existing record again.

        A hook that stores records should remove the records that will be repeated when training is resumed
        (`on_run_start`) or rolled back (`on_rollback`). Records of evaluations without training are never repeated.

        Args:
            names: the names of the scalars in the record.
            step: the step of the record.
            epoch: the epoch of the record.

        Example:
            >>> progress = Progress(epoch=2, step=60)
            >>> progress.repeats(["step/loss"], step=60, epoch=3), progress.repeats(["step/loss"], step=61, epoch=3)
            (False, True)
            >>> progress.repeats(["train/loss"], step=60, epoch=2), progress.repeats(["train/loss"], step=60, epoch=3)
            (False, True)
        """
        if step != self.step or epoch <= self.epoch:
            return step > self.step
        # The record of the current step is complete. If a validation within the epoch has ended, its record is
        # complete, too. The record of the end of the epoch may have the same step, but will be written again.
        kinds = {name.partition("/")[0] for name in names}
        return not kinds <= {"step"} and (kinds != {"validate"} or self.validated_step != step)

    @property
    def is_best(self) -> bool:
        """Whether the current weights have the best score, that is, no step was taken since the best validation."""
        return self.best_epoch > 0 and self.best_step == self.step

    def state_dict(self) -> dict[str, Any]:
        """Returns all counters by name."""
        return asdict(self)

    def load_state_dict(self, state_dict: dict[str, Any], /) -> None:
        """Restores what `state_dict` returned."""
        for item in fields(self):
            setattr(self, item.name, state_dict[item.name])
