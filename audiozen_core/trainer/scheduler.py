"""Wraps a learning-rate scheduler, and steps it once per epoch, optimiser step or validation."""

from __future__ import annotations

import math
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import OneCycleLR, ReduceLROnPlateau

from audiozen_core.config.check_training import PLATEAU_AT_STEPS, plateau_mode, wrong_plateau_mode
from audiozen_core.diagnostics.run_options import ALLOW_DRIFT
from audiozen_core.errors import AudioZenError, RunError
from audiozen_core.hooks.scalars import as_scalar, form_of


class Scheduler:
    """A torch scheduler, or an object with the same methods.

    Args:
        scheduler: the scheduler.
        interval: when the scheduler steps: `epoch` or `step`. None uses the scheduler's attribute `interval`, or
            `epoch` if it has none.
        section: the section of the scheduler, for messages.
    """

    def __init__(self, scheduler: Any, interval: str | None = None, section: str = "lr_scheduler") -> None:
        self.scheduler = scheduler
        # A third-party scheduler can have an attribute of this name with another meaning.
        declared = getattr(scheduler, "interval", None)
        self.interval = interval or (declared if declared in ("epoch", "step") else "epoch")
        self.section = section

    @property
    def follows_score(self) -> bool:
        """Whether the scheduler needs the validation score. Only `ReduceLROnPlateau` does."""
        return isinstance(self.scheduler, ReduceLROnPlateau)

    def step(self, after: str, score: float | None) -> None:
        """Steps the scheduler if it is due.

        Args:
            after: what has just ended: `step`, `epoch` or `validation`. `ReduceLROnPlateau` is due after a validation,
                and any other scheduler after its interval.
            score: the score of the validation. If it is not finite, `ReduceLROnPlateau` does not step.

        Raises:
            RunError: the scheduler raised an error.
        """
        if after != ("validation" if self.follows_score else self.interval):
            return
        try:
            if not self.follows_score:
                self.scheduler.step()
            elif score is not None and math.isfinite(score):
                self.scheduler.step(score)
        except AudioZenError:
            raise
        except Exception as error:
            raise RunError.caused_by(
                error,
                f"[{self.section}] {type(self.scheduler).__name__} can't step:",
                remedy="adapt the arguments in [lr_scheduler.args] to the length of the run: with "
                '`interval = "step"`, the scheduler steps once per optimiser step, otherwise once per epoch',
            ) from error

    def check_learning_rates(self, optimizer: Optimizer) -> None:
        """Checks that each learning rate is a number, after the scheduler was created or has stepped.

        Raises:
            RunError: a rate is not a number, for example a string. None is accepted if the optimiser was created
                without a learning rate.
        """
        for index, group in enumerate(optimizer.param_groups):
            rate = group.get("lr", 0.0)
            if as_scalar(rate) is None and not (rate is None and optimizer.defaults.get("lr") is None):
                where = f" of parameter group {index}" if len(optimizer.param_groups) > 1 else ""
                shown = repr(rate) if rate is None or isinstance(rate, str | bool) else form_of(rate)
                raise RunError(
                    f"[{self.section}] {type(self.scheduler).__name__} has set the learning rate{where} to "
                    f"{shown}, which is not a number",
                    remedy="set `lr` in the groups of the optimiser to a number, or to a tensor of one element",
                )

    def check(self, *, save_max_score: bool) -> None:
        """Checks that the scheduler fits the settings of the trainer, and that its state can be saved.

        Raises:
            RunError: `ReduceLROnPlateau` steps after every optimiser step, or its mode treats better scores as worse;
                or the scheduler can't return its state, for example because it calls a function written in C.
        """
        try:
            self.scheduler.state_dict()
        except Exception as error:
            raise RunError.caused_by(
                error,
                f"[{self.section}] {type(self.scheduler).__name__} can't return its state, so no checkpoint could be "
                "saved:",
                remedy="in the arguments of the scheduler, use only functions that are defined with `def`",
            ) from error
        if not self.follows_score:
            return
        if self.interval == "step":
            raise RunError(
                PLATEAU_AT_STEPS,
                remedy="leave `interval` out in [lr_scheduler]",
            )
        wanted = plateau_mode(save_max_score)
        if self.scheduler.mode != wanted:
            raise RunError(
                wrong_plateau_mode(self.scheduler.mode),
                remedy=f'set `mode = "{wanted}"` in [lr_scheduler.args], or `save_max_score` in [trainer.args]',
            )

    def fit_to_training(self, *, epochs: int, steps: int | None) -> None:
        """Passes the length of the training to the scheduler, if it has a method `set_training_length(steps)`.

        Also checks that `OneCycleLR` does not end before the training, because it can't step beyond its end.

        Args:
            epochs: the number of epochs of the training.
            steps: the number of optimiser steps of the training; None if it is unknown.

        Raises:
            RunError: the scheduler has fewer steps than the training, or needs the length of the training, which is
                unknown.
        """
        wanted = epochs if self.interval == "epoch" else steps
        if hasattr(self.scheduler, "set_training_length"):
            if wanted is not None:
                self.scheduler.set_training_length(wanted)
            elif getattr(self.scheduler, "total_steps", None) is None:
                raise RunError(
                    f"[{self.section}] {type(self.scheduler).__name__} must know the length of the training, but the "
                    "training data has no length",
                    remedy="set `total_steps` in [lr_scheduler.args], or `max_steps` in [trainer.args]",
                )
        if isinstance(self.scheduler, OneCycleLR) and wanted is not None and wanted > self.scheduler.total_steps:
            raise RunError(
                f"OneCycleLR has {self.scheduler.total_steps} steps, but the training has {wanted} {self.interval}s",
                remedy=f"set `total_steps = {wanted}` in [lr_scheduler.args], or train for a shorter time; a run that "
                f"has already begun can be resumed with another `total_steps` only with {ALLOW_DRIFT}",
            )
