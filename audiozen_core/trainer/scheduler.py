"""When a learning-rate scheduler steps, and on what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch.optim.lr_scheduler import ReduceLROnPlateau

from audiozen_core.errors import RunError


@dataclass(slots=True)
class Scheduler:
    """A learning-rate scheduler and when it steps.

    Attributes:
        scheduler: any of `torch.optim.lr_scheduler`, or something of that form.
        interval: `epoch`, or `step` for every optimiser step.
    """

    scheduler: Any
    interval: str = "epoch"

    @property
    def follows_score(self) -> bool:
        """Whether it wants the validation score, as `ReduceLROnPlateau` does."""
        return isinstance(self.scheduler, ReduceLROnPlateau)

    def step(self, interval: str, score: float | None) -> None:
        """Steps, if this is its interval; one that follows the score steps only where there is one."""
        if interval != self.interval:
            return
        try:
            if not self.follows_score:
                self.scheduler.step()
            elif score is not None:
                self.scheduler.step(score)
        except (ArithmeticError, ValueError) as error:
            raise RunError(
                f"{type(self.scheduler).__name__} can't step: {error}",
                remedy="its arguments in [lr_scheduler.args] must fit the length of the training: "
                'with `interval = "step"` it steps once for each optimiser step, else once an epoch',
            ) from error

    def check(self, *, save_max_score: bool) -> None:
        """Refuses a scheduler that would work against the trainer.

        Raises:
            RunError: `ReduceLROnPlateau` once a step, or with a mode that takes better scores for worse ones.
        """
        if not self.follows_score:
            return
        if self.interval == "step":
            raise RunError(
                "ReduceLROnPlateau follows the score, which comes once an epoch",
                remedy='set `interval = "epoch"` in [lr_scheduler]',
            )
        wanted = "max" if save_max_score else "min"
        if self.scheduler.mode != wanted:
            raise RunError(
                f"ReduceLROnPlateau has mode = {self.scheduler.mode!r}, but the trainer's score is better when "
                f"{'higher' if save_max_score else 'lower'}",
                remedy=f'set `mode = "{wanted}"` in [lr_scheduler.args], or `save_max_score` in [trainer.args]',
            )
