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
        interval: when it steps: `epoch` or `step`. None means its attribute `interval`, or `epoch` without it.
        section: its section in messages.
    """

    def __init__(self, scheduler: Any, interval: str | None = None, section: str = "lr_scheduler") -> None:
        self.scheduler = scheduler
        # Other people's schedulers may have an attribute of this name that means something else.
        own = getattr(scheduler, "interval", None)
        self.interval = interval or (own if own in ("epoch", "step") else "epoch")
        self.section = section

    @property
    def follows_score(self) -> bool:
        """Whether the scheduler needs the validation score. Only `ReduceLROnPlateau` does."""
        return isinstance(self.scheduler, ReduceLROnPlateau)

    def step(self, after: str, score: float | None) -> None:
        """Steps if it is time for it.

        Args:
            after: what is over: a `step` or an `epoch`, which schedulers with this interval follow, or a `validation`,
                which `ReduceLROnPlateau` follows.
            score: the score of the validation. If it is not finite, the scheduler does not step.
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
                remedy="fit its arguments in [lr_scheduler.args] to the length of the run: with "
                '`interval = "step"` it steps once for each optimiser step, otherwise once an epoch',
            ) from error

    def check_rates(self, optimizer: Optimizer) -> None:
        """Checks that each learning rate is a number, after the scheduler has been made or has stepped.

        Raises:
            RunError: one is text, for example. An optimiser that was made without a rate may still have none.
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
        """Checks that the scheduler agrees with the trainer, and that a checkpoint can hold its state.

        Raises:
            RunError: `ReduceLROnPlateau` steps with every optimiser step, or its mode treats better scores as worse; or
                the scheduler has no state, for example because its function is one of C.
        """
        try:
            self.scheduler.state_dict()
        except Exception as error:
            raise RunError.caused_by(
                error,
                f"[{self.section}] {type(self.scheduler).__name__} can't return its state, so no checkpoint could be "
                "saved:",
                remedy="give it functions that are written in Python, as `def` makes them",
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
        """Tells the scheduler how long the training is, if it has a method `set_training_length(steps)`.

        `OneCycleLR` must not end before the training, because it can't step beyond its end.

        Args:
            epochs: the number of epochs of the training.
            steps: the number of its optimiser steps; None if it is not known.

        Raises:
            RunError: the scheduler has fewer steps, or its end can't be known.
        """
        wanted = epochs if self.interval == "epoch" else steps
        if hasattr(self.scheduler, "set_training_length"):
            if wanted is not None:
                self.scheduler.set_training_length(wanted)
            elif getattr(self.scheduler, "total_steps", None) is None:
                raise RunError(
                    f"[{self.section}] {type(self.scheduler).__name__} ends with the training, but the training data "
                    "has no length",
                    remedy="set `total_steps` in [lr_scheduler.args], or `max_steps` in [trainer.args]",
                )
        if isinstance(self.scheduler, OneCycleLR) and wanted is not None and wanted > self.scheduler.total_steps:
            raise RunError(
                f"OneCycleLR has {self.scheduler.total_steps} steps, but the training has {wanted} {self.interval}s",
                remedy=f"set `total_steps = {wanted}` in [lr_scheduler.args], or train for a shorter time; a run that "
                f"has begun resumes with another `total_steps` only with {ALLOW_DRIFT}",
            )
