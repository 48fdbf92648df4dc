"""Stopping early: `trainer.args.patience`."""

from __future__ import annotations

from audiozen_core.hooks.specs import hookimpl
from audiozen_core.hooks.trainer_protocol import Trainer


class Patience:
    """Ends training after `patience` epochs without a better validation score.

    The hook needs no state of its own: `trainer.progress` says which epoch was the best, after a resume too.
    """

    default = True
    affects_training = False

    @hookimpl
    def stop_reason(self, trainer: Trainer) -> str | None:
        """Returns the reason to stop if the best epoch was too long ago."""
        progress = trainer.progress
        if trainer.patience is None or progress.best_score is None:
            return None
        waited = progress.epoch - progress.best_epoch
        if waited < trainer.patience:
            return None
        best = f"epoch {progress.best_epoch} has the best one, {progress.best_score:.4f}"
        return f"no better score for {waited} epochs (patience = {trainer.patience}); {best}"
