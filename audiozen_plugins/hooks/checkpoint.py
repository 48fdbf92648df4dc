"""Checkpoints in safetensors: `trainer.args.save_ckpt_interval` and `max_num_checkpoints`."""

from __future__ import annotations

from collections.abc import Mapping

from audiozen_core.checkpoint.store import CheckpointStore
from audiozen_core.hookspecs import Mode, hookimpl
from audiozen_core.trainer.base_trainer import BaseTrainer

SCORE = "validate/score"


class Checkpoint:
    """Saves the whole state into `checkpoints/epoch_0001`, … of the run's folder.

    It does so after each `save_ckpt_interval` epochs, after the best epoch so far, and after the last one; of these,
    the newest `max_num_checkpoints` are kept, and whatever `best` and `latest` point at.
    """

    phase = "persist"

    def __init__(self) -> None:
        self._saved_epoch = 0

    @hookimpl
    def on_run_start(self, trainer: BaseTrainer, mode: Mode) -> None:
        """Clears away what a run that died in the midst of saving has left."""
        self._saved_epoch = trainer.progress.epoch
        if mode == "train":
            self._store(trainer).sweep()

    @hookimpl
    def on_epoch_end(self, trainer: BaseTrainer, epoch: int, metrics: Mapping[str, float]) -> None:
        """Saves, if this epoch is one to keep."""
        if epoch % trainer.save_ckpt_interval == 0 or trainer.progress.is_best or epoch == trainer.max_epochs:
            self._save(trainer, metrics.get(SCORE))

    @hookimpl
    def on_run_end(self, trainer: BaseTrainer, mode: Mode) -> None:
        """Saves the last epoch, where the training ended before the next interval."""
        if mode == "train" and trainer.progress.epoch > self._saved_epoch:
            self._save(trainer, None)

    def _save(self, trainer: BaseTrainer, score: float | None) -> None:
        progress = trainer.progress
        if reason := trainer.hooks.veto_checkpoint(trainer=trainer, epoch=progress.epoch):
            trainer.log.info("no checkpoint is saved", epoch=progress.epoch, reason=reason)
            return
        folder = self._store(trainer).save(
            trainer.checkpoint(),
            epoch=progress.epoch,
            step=progress.step,
            score=score,
            is_best=progress.is_best,
            keep=trainer.max_num_checkpoints,
        )
        self._saved_epoch = progress.epoch
        trainer.hooks.on_checkpoint_saved(trainer=trainer, folder=folder, is_best=progress.is_best)

    def _store(self, trainer: BaseTrainer) -> CheckpointStore:
        return CheckpointStore(trainer.folder / "checkpoints")
