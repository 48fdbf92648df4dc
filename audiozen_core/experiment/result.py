"""The results that a run returns to its caller."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from audiozen_core.hooks.ending import RunEnding
from audiozen_core.kinds import RunMode
from audiozen_core.trainer.base_trainer import BaseTrainer


@dataclass(frozen=True, slots=True)
class ModeResult:
    """The result of one mode of a run.

    Attributes:
        ending: whether the mode finished or was stopped by a hook, and why.
        scalars: the scalars of the last evaluation in this mode, by their names in records, such as `validate/score` or
            `test/si_sdr`; empty if the mode did not evaluate.
        epoch: the last epoch; 0 before training.
        step: the last optimiser step.
        best_score: the best score of the training so far; None if no validation had a finite score.
        best_epoch: the epoch of the best score; 0 without a best score.
        folder: the folder with the results of a test or a prediction; None in other modes, or if nothing was written.
    """

    ending: RunEnding
    scalars: Mapping[str, float]
    epoch: int
    step: int
    best_score: float | None
    best_epoch: int
    folder: Path | None

    @classmethod
    def from_trainer(cls, trainer: BaseTrainer) -> ModeResult:
        """Returns the result of the last mode that a trainer has run."""
        progress = trainer.progress
        return cls(
            ending=trainer.ending,
            scalars=trainer.last_scalars,
            epoch=progress.epoch,
            step=progress.step,
            best_score=progress.best_score,
            best_epoch=progress.best_epoch,
            folder=trainer.results_folder,
        )


@dataclass(frozen=True, slots=True)
class RunResult:
    """The results of a run.

    Attributes:
        folder: the run folder, such as `exp/baseline`.
        modes: the result of each mode, in the order in which they ran.
        best: the folder of the best checkpoint; None if the run has no best checkpoint.
        latest: the folder of the latest checkpoint; None if the run has no checkpoint.
    """

    folder: Path
    modes: Mapping[RunMode, ModeResult]
    best: Path | None
    latest: Path | None
