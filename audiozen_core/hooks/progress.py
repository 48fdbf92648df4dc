"""The progress of a run: the counters that the loop, the hooks and the checkpoints share."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from audiozen_core.diagnostics.run_options import CKPT_PATH
from audiozen_core.errors import RunError


@dataclass(slots=True)
class Progress:
    """The progress of a run.

    Attributes:
        epoch: the number of completed epochs.
        step: the number of optimiser steps taken.
        batch: the number of batches done in the current epoch; 0 between epochs.
        best_score: the best validation score so far.
        best_epoch: the epoch that reached the best score; 0 before the first score that is finite.
        first_validation: the epoch of the first validation, whatever its score was; 0 before it.
        batches: the number of batches in the last completed epoch.
        num_batches: the number of batches in the current epoch (between epochs: in the last one); None if the data
            set has no length.
        ranks: the number of processes that train the current epoch together.
        stream_workers: the number of workers, if the samples of the current epoch depend on it; otherwise None.
    """

    epoch: int = 0
    step: int = 0
    batch: int = 0
    best_score: float | None = None
    best_epoch: int = 0
    first_validation: int = 0
    batches: int = 0
    num_batches: int | None = None
    stream_workers: int | None = None
    ranks: int = 1

    def begin_epoch(self, num_batches: int | None, stream_workers: int | None, ranks: int = 1) -> None:
        """Starts an epoch, or continues one that a checkpoint interrupted.

        Raises:
            RunError: the epoch continues, but its data have changed since the checkpoint was saved.
        """
        if self.batch and ranks != self.ranks:
            raise RunError(
                f"the checkpoint was saved within epoch {self.epoch + 1}, which {self.ranks} process"
                f"{'es' * (self.ranks > 1)} had divided among themselves, and the run has {ranks} now",
                remedy=f"start {self.ranks} again, or resume from a checkpoint at the end of an epoch with {CKPT_PATH}",
            )
        if self.batch and None not in (num_batches, self.num_batches) and num_batches != self.num_batches:
            raise RunError(
                f"epoch {self.epoch + 1} had {self.num_batches} batches when the checkpoint was saved in the middle of "
                f"it, and has {num_batches} now: the training data or the batch size have changed",
                remedy="restore the data and the batch size, or resume from a checkpoint at the end of an epoch with "
                f"{CKPT_PATH}",
            )
        if self.batch and stream_workers != self.stream_workers:
            raise RunError(
                f"epoch {self.epoch + 1} reads a stream, and can only continue with the number of workers that it "
                f"started with: {self.stream_workers or 0}, not {stream_workers or 0}",
                remedy=f"restore `num_workers`, or resume from a checkpoint at the end of an epoch with {CKPT_PATH}",
            )
        self.num_batches, self.stream_workers, self.ranks = num_batches, stream_workers, ranks

    def complete_epoch(self) -> None:
        """Counts the current epoch as done."""
        self.epoch, self.batch, self.batches = self.epoch + 1, 0, self.batch

    def reopen_epoch(self) -> None:
        """Undoes `complete_epoch`, so that a resumed run repeats the validation of that epoch."""
        self.epoch, self.batch = self.epoch - 1, self.batches

    @property
    def is_best(self) -> bool:
        """Whether the last completed epoch is the best one and no epoch is in progress."""
        return self.best_epoch > 0 and self.best_epoch == self.epoch and self.batch == 0

    def state_dict(self) -> dict[str, Any]:
        """Returns all counters by name."""
        return asdict(self)

    def load_state_dict(self, state_dict: dict[str, Any], /) -> None:
        """Restores what `state_dict` returned."""
        for item in fields(self):
            setattr(self, item.name, state_dict[item.name])
