"""Checkpoints in safetensors: `trainer.args.save_ckpt_interval`, `save_ckpt_interval_steps`, `save_ckpt_minutes`, …"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

from audiozen_core.checkpoint import CheckpointStore, CheckpointWriteError, NoCheckpointError
from audiozen_core.checkpoint.writer import CheckpointWriter, Saved
from audiozen_core.hooks.specs import hookimpl
from audiozen_core.hooks.trainer_protocol import Trainer
from audiozen_core.kinds import Mode

SCORE = "validate/score"


class Checkpoint:
    """Saves the whole state into `checkpoints/epoch_0001`, … of the run's folder.

    It does so after each `save_ckpt_interval` epochs, after the best epoch so far, and after the last one; with
    `save_ckpt_interval_steps` or `save_ckpt_minutes` in the midst of an epoch too, as `epoch_0003_step_0001200`. Of
    these, the newest `max_num_checkpoints` are kept, and whatever `best` and `latest` point at.

    A disk that refuses (it is full, say) does not end the training: the checkpoints that are there stay, and the next
    one is tried in its turn. Several refusals in a row, or one of the last checkpoint of all, are an error.

    Args:
        max_failures: how many refusals in a row end the run.
        clock: tells seconds.
    """

    default = True
    affects_training = False
    phase = "persist"

    def __init__(self, max_failures: int = 3, clock: Callable[[], float] = time.monotonic) -> None:
        self.max_failures = max_failures
        self.clock = clock
        self._writer = CheckpointWriter(CheckpointStore(Path()), aside=False)
        self._saved_epoch = 0
        self._asked: tuple[int, ...] = ()
        self._asked_at = 0.0
        self._failures = 0
        self._interrupted = False

    @hookimpl
    def on_run_start(self, trainer: Trainer, mode: Mode) -> None:
        """Clears away what a run that died in the midst of saving has left."""
        store = CheckpointStore(trainer.folder / "checkpoints")
        self._writer = CheckpointWriter(store, aside=trainer.save_ckpt_async)
        self._saved_epoch, self._asked, self._asked_at = trainer.progress.epoch, (), self.clock()
        self._failures, self._interrupted = 0, False
        if mode == "train":
            store.sweep()
            if trainer.from_elsewhere:
                self._save(trainer)
                self._writer.wait()

    @hookimpl
    def on_training_step_end(self, trainer: Trainer) -> None:
        """Saves in the midst of an epoch, if it is time; hears what became of the last save."""
        self._hear(trainer)
        every, minutes = trainer.save_ckpt_interval_steps, trainer.save_ckpt_minutes
        if not trainer.between_steps or (every is None and minutes is None):
            return
        step = trainer.progress.step
        due = every is not None and step % every == 0
        due = due or (minutes is not None and self.clock() - self._asked_at >= 60 * minutes)
        if due and _moment(trainer) != self._asked:
            self._save(trainer)

    @hookimpl
    def on_epoch_end(self, trainer: Trainer, epoch: int, metrics: Mapping[str, float]) -> None:
        """Saves, if this epoch is one to keep."""
        if epoch % trainer.save_ckpt_interval == 0 or trainer.progress.is_best or epoch == trainer.max_epochs:
            self._save(trainer, metrics.get(SCORE))

    @hookimpl
    def on_checkpoint_request(self, trainer: Trainer, reason: str) -> None:
        """Saves at once, and waits until it is on the disk."""
        trainer.log.info("a checkpoint is asked for", reason=reason)
        if _moment(trainer) != self._asked:
            self._save(trainer)
        self._writer.wait()
        self._hear(trainer)

    @hookimpl
    def rollback(self, trainer: Trainer, error: Exception) -> bool | None:
        """Back to the latest checkpoint, if there is one."""
        self._writer.wait()
        self._hear(trainer)
        try:
            loaded = self._writer.store.load("latest", map_location=trainer.device)
        except NoCheckpointError:
            return None
        trainer.load_checkpoint(loaded.state)
        self._writer.store.rewind(loaded.path)
        self._asked = ()
        trainer.log.warning("back to the last checkpoint", reason=str(error.args[0]), checkpoint=loaded.path.name)
        trainer.hooks.on_rollback(trainer=trainer)
        return True

    @hookimpl
    def on_run_end(self, trainer: Trainer, mode: Mode) -> None:
        """Saves the last epoch, where the training ended before the next interval or the disk refused it."""
        if mode != "train":
            return
        self._writer.wait()
        self._hear(trainer)
        if trainer.progress.epoch > self._saved_epoch:
            self._save(trainer, last=True)
            self._writer.wait()
            self._hear(trainer, last=True)

    @hookimpl
    def on_exception(self, error: BaseException) -> None:
        """A person who presses Ctrl-C twice does not want to wait."""
        self._interrupted = isinstance(error, KeyboardInterrupt)

    @hookimpl
    def on_teardown(self, trainer: Trainer) -> None:
        """Lets a save that has begun come to its end."""
        if not self._interrupted:
            self._writer.wait()
        for saved in self._writer.finished():
            if saved.error is not None:
                trainer.log.error("a checkpoint could not be saved", epoch=saved.epoch, reason=str(saved.error))

    def _save(self, trainer: Trainer, score: float | None = None, *, last: bool = False) -> None:
        progress = trainer.progress
        if reason := trainer.hooks.skip_checkpoint_reason(trainer=trainer, epoch=progress.epoch):
            trainer.log.info("no checkpoint is saved", epoch=progress.epoch, reason=reason)
            return
        self._asked, self._asked_at = _moment(trainer), self.clock()
        self._writer.save(
            trainer.checkpoint(),
            epoch=progress.epoch,
            step=progress.step,
            score=score,
            is_best=progress.is_best,
            name=f"epoch_{progress.epoch + 1:04d}_step_{progress.step:07d}" if progress.batch else None,
            keep=trainer.max_num_checkpoints,
        )
        if not self._writer.aside:
            self._hear(trainer, last=last)

    def _hear(self, trainer: Trainer, *, last: bool = False) -> None:
        """Tells others what has been saved, and what has not."""
        for saved in self._writer.finished():
            if saved.folder is not None:
                self._failures, self._saved_epoch = 0, saved.epoch
                trainer.hooks.on_checkpoint_saved(trainer=trainer, folder=saved.folder, is_best=saved.is_best)
            else:
                self._failed(trainer, saved, last=last)

    def _failed(self, trainer: Trainer, saved: Saved, *, last: bool) -> None:
        self._failures += 1
        self._asked = ()  # whoever asks for the same moment once more shall have it
        error = saved.error
        if not isinstance(error, CheckpointWriteError) or last or self._failures >= self.max_failures:
            raise error or AssertionError("a save failed without an error")
        trainer.log.warning(
            "a checkpoint could not be saved; the training goes on, and tries again at the next interval",
            epoch=saved.epoch,
            step=saved.step,
            reason=error.message,
            failures_in_a_row=self._failures,
            was_best=saved.is_best,
        )


def _moment(trainer: Trainer) -> tuple[int, ...]:
    progress = trainer.progress
    return progress.epoch, progress.batch, progress.step
