"""Saves checkpoints: `trainer.args.save_ckpt_interval`, `save_ckpt_interval_steps`, `save_ckpt_minutes`, …"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

from audiozen_core.checkpoint.errors import CheckpointWriteError, NoCheckpointError
from audiozen_core.checkpoint.store import CheckpointStore
from audiozen_core.checkpoint.writer import CheckpointWriter, SaveResult
from audiozen_core.hooks.ending import RunEnding
from audiozen_core.hooks.marker import hookimpl
from audiozen_core.hooks.trainer_protocol import Trainer
from audiozen_core.kinds import Mode

SCORE = "validate/score"


class Checkpoint:
    """Saves the complete state to `checkpoints/epoch_0001`, … in the run folder.

    The hook saves every `save_ckpt_interval` epochs, after an epoch that is the best so far, and after the last epoch.
    During an epoch, it saves after each validation, as `epoch_0003_step_0001200`. If `save_ckpt_interval_steps` or
    `save_ckpt_minutes` is set, it also saves after other steps. The hook keeps the newest `max_num_checkpoints`
    checkpoints, and always keeps `best` and `latest`.

    If saving fails (because the disk is full, for example), training continues, the existing checkpoints are kept,
    and the hook saves again at the next interval. The run ends if several saves in a row fail, or if the last save
    fails.

    Args:
        max_failures: the number of failed saves in a row that ends the run.
        clock: a function that returns the time in seconds.
    """

    default = True
    affects_training = False
    phase = "persist"

    def __init__(self, max_failures: int = 3, clock: Callable[[], float] = time.monotonic) -> None:
        self.max_failures = max_failures
        self.clock = clock
        self._writer = CheckpointWriter(CheckpointStore(Path()), background=False)
        self._saved_epoch = 0
        self._requested: tuple[int, ...] = ()
        self._requested_at = 0.0
        self._failures = 0

    @hookimpl.on_run_start
    def on_run_start(self, trainer: Trainer, mode: Mode) -> None:
        """Removes what is left of a save that was killed. Saves at once if the state comes from another run."""
        store = CheckpointStore(trainer.folder / "checkpoints")
        self._writer = CheckpointWriter(store, background=trainer.save_ckpt_async)
        self._saved_epoch, self._requested, self._requested_at = trainer.progress.epoch, (), self.clock()
        self._failures = 0
        if mode == "train":
            if trainer.ranks.is_main:
                store.sweep()
            if trainer.start_is_unsaved:
                self._save(trainer)
                self._writer.wait()

    @hookimpl.on_training_step_end
    def on_training_step_end(self, trainer: Trainer) -> None:
        """Saves during an epoch if a save is due. Reports the outcome of the previous save."""
        if self._writer.has_results:
            self._report(trainer)
        minutes = trainer.save_ckpt_minutes
        if (trainer.save_ckpt_interval_steps is None and minutes is None) or not trainer.between_steps:
            return
        due = _is_due(trainer)
        if minutes is not None:
            # The clocks of the ranks differ, but all ranks must save at the same step.
            due = trainer.ranks.any(due or self.clock() - self._requested_at >= 60 * minutes)
        # If a validation follows this step, the state is saved after the validation, together with the score.
        if due and not trainer.validation_is_due and trainer.ranks.from_main(_position(trainer) != self._requested):
            self._save(trainer)

    @hookimpl.on_validation_end
    def on_validation_end(self, trainer: Trainer, metrics: Mapping[str, float]) -> None:
        """Saves after a validation within an epoch."""
        if trainer.progress.batch:
            self._save(trainer, metrics.get(SCORE))

    @hookimpl.on_epoch_end
    def on_epoch_end(self, trainer: Trainer, epoch: int, metrics: Mapping[str, float]) -> None:
        """Saves if a save is due after this epoch."""
        ends = epoch % trainer.save_ckpt_interval == 0 or epoch == trainer.max_epochs
        if ends or trainer.progress.is_best or _is_due(trainer):
            self._save(trainer, metrics.get(SCORE))

    @hookimpl.on_checkpoint_request
    def on_checkpoint_request(self, trainer: Trainer, reason: str) -> None:
        """Saves at once, and waits until the checkpoint is on the disk."""
        trainer.log.info("saving a checkpoint on request", reason=reason)
        # Rank 0 decides whether this state is saved already, because only rank 0 knows whether a save has failed.
        if trainer.ranks.from_main(_position(trainer) != self._requested):
            self._save(trainer)
        self._writer.wait()
        self._report(trainer)

    @hookimpl.rollback
    def rollback(self, trainer: Trainer, error: Exception) -> bool | None:
        """Restores the latest checkpoint, if there is one."""
        self._writer.wait()
        self._report(trainer)
        trainer.ranks.wait()
        try:
            loaded = self._writer.store.load("latest", map_location=trainer.state_device)
        except NoCheckpointError:
            return None
        trainer.load_checkpoint(loaded.state)
        trainer.ranks.wait()
        if trainer.ranks.is_main:
            self._writer.store.rewind(loaded.path)
        self._requested = ()
        trainer.log.warning("restored the last checkpoint", reason=str(error.args[0]), checkpoint=loaded.path.name)
        trainer.hooks.on_rollback(trainer=trainer)
        return True

    @hookimpl.on_run_end
    def on_run_end(self, trainer: Trainer, mode: Mode) -> None:
        """Saves the last state if no checkpoint holds it, because no save was due or the save failed."""
        if mode != "train":
            return
        self._writer.wait()
        self._report(trainer)
        # A hook may have stopped training within an epoch, and the save that it requested may have failed.
        unsaved = trainer.progress.batch > 0 and _position(trainer) != self._requested
        if trainer.ranks.from_main(trainer.progress.epoch > self._saved_epoch or unsaved):
            self._save(trainer, last=True)
            self._writer.wait()
            self._report(trainer, last=True)

    @hookimpl.on_teardown
    def on_teardown(self, trainer: Trainer, ending: RunEnding) -> None:
        """Waits for a save that is in progress, unless the user pressed Ctrl-C twice to stop at once."""
        if not isinstance(ending.error, KeyboardInterrupt):
            self._writer.wait()
        for result in self._writer.take_results():
            if result.error is not None:
                trainer.log.error("a checkpoint could not be saved", epoch=result.epoch, reason=str(result.error))

    def _save(self, trainer: Trainer, score: float | None = None, *, last: bool = False) -> None:
        progress = trainer.progress
        if reason := trainer.ranks.first(trainer.hooks.skip_checkpoint_reason(trainer=trainer, epoch=progress.epoch)):
            trainer.log.info("skipping a checkpoint", epoch=progress.epoch, reason=reason)
            return
        self._requested, self._requested_at = _position(trainer), self.clock()
        with trainer.checkpoint() as state:
            if not trainer.ranks.is_main:
                return
            self._writer.save(
                state,
                epoch=progress.epoch,
                step=progress.step,
                score=score,
                is_best=progress.is_best,
                within_epoch=progress.batch > 0,
                keep=trainer.max_num_checkpoints,
            )
        if not self._writer.background:
            self._report(trainer, last=last)

    def _report(self, trainer: Trainer, *, last: bool = False) -> None:
        """Reports the results of finished saves to the other hooks and to the log."""
        for result in self._writer.take_results():
            if result.folder is not None:
                self._failures, self._saved_epoch = 0, result.epoch
                trainer.hooks.on_checkpoint_saved(trainer=trainer, folder=result.folder, is_best=result.is_best)
            else:
                self._handle_failure(trainer, result, last=last)

    def _handle_failure(self, trainer: Trainer, result: SaveResult, *, last: bool) -> None:
        self._failures += 1
        self._requested = ()  # otherwise a new request at the same step would be ignored as a repetition
        error = result.error
        if not isinstance(error, CheckpointWriteError) or last or self._failures >= self.max_failures:
            raise error or AssertionError("a save failed without an error")
        trainer.log.warning(
            "a checkpoint could not be saved; training continues, and AudioZEN tries again at the next interval",
            epoch=result.epoch,
            step=result.step,
            reason=error.message,
            failures_in_a_row=self._failures,
            was_best=result.is_best,
        )


def _is_due(trainer: Trainer) -> bool:
    """Whether a save is due after this number of steps."""
    every = trainer.save_ckpt_interval_steps
    return every is not None and trainer.progress.step % every == 0


def _position(trainer: Trainer) -> tuple[int, ...]:
    progress = trainer.progress
    return progress.epoch, progress.batch, progress.step
