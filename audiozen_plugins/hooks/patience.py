"""Stopping early: `trainer.args.patience`."""

from __future__ import annotations

from audiozen_core.hooks.marker import hookimpl
from audiozen_core.hooks.trainer_protocol import Trainer


class Patience:
    """Ends training after `patience` validations without a better score.

    A score that is not finite is never better. If no validation has had a finite score yet, all validations after the
    first one count. A validation that ran only because training ended does not count. But if it has the best score,
    later validations (of a resumed run) are compared with this score.

    The hook needs no state of its own, because `trainer.progress` contains the best validation, even after a resume.
    """

    default = True
    affects_training = False

    @hookimpl.stop_reason
    def stop_reason(self, trainer: Trainer) -> str | None:
        """Returns the reason to stop if the best validation was too long ago."""
        progress = trainer.progress
        waited = progress.validations - max(1, progress.best_validation)
        if trainer.patience is None or waited < trainer.patience:
            return None
        best = "no score was finite"
        if progress.best_score is not None:
            where = f"step {progress.best_step}, epoch {progress.best_epoch}"
            best = f"the best score is {progress.best_score:.4f}, from {where}"
        return f"no better score in {waited} validations (patience = {trainer.patience}); {best}"
