"""Stopping early: `trainer.args.patience`."""

from __future__ import annotations

from audiozen_core.hooks.specs import hookimpl
from audiozen_core.hooks.trainer_protocol import Trainer


class Patience:
    """Ends training after `patience` epochs without a better validation score.

    A score that is not finite is never better. Until there is a finite score, the epochs since the first validation
    count.

    The hook needs no state of its own: `trainer.progress` says which epoch was the best, after a resume too.
    """

    default = True
    affects_training = False

    @hookimpl.stop_reason
    def stop_reason(self, trainer: Trainer) -> str | None:
        """Returns the reason to stop if the best epoch was too long ago."""
        progress = trainer.progress
        since = progress.best_epoch or progress.first_validation
        waited = progress.epoch - since
        if trainer.patience is None or not since or waited < trainer.patience:
            return None
        best = "no score was finite"
        if progress.best_score is not None:
            best = f"epoch {progress.best_epoch} has the best one, {progress.best_score:.4f}"
        return f"no better score for {waited} epochs (patience = {trainer.patience}); {best}"
