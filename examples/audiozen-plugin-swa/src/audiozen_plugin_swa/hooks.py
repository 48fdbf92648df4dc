"""A hook that averages the weights of several epochs, and evaluates the average."""

from __future__ import annotations

from typing import Annotated, ClassVar

from audiozen.hooks import Ema
from audiozen.registry import Range


class Swa(Ema):
    """Averages the weights after every `every`-th optimiser step, and evaluates the mean instead of the weights.

    Izmailov et al., "Averaging Weights Leads to Wider Optima and Better Generalization" (UAI 2018). All these steps
    have the same weight in the mean, whereas AudioZEN's `ema` gradually forgets old steps. Everything else works as in
    `ema`: checkpoints, resuming, evaluations and several processes. Use a constant or a cyclic learning rate from
    `start` on.

    Args:
        start: the first optimiser step whose weights are averaged; until then the average is a copy of the weights.
        every: the interval between averaged weights, in optimiser steps, such as the length of an epoch.
        evaluate: whether validation, test and prediction use the average.
        save_average: whether `model.safetensors` in the checkpoints holds the average.
    """

    name: ClassVar[str] = "swa"

    def __init__(
        self,
        start: Annotated[int, Range(least=1)] = 1,
        every: Annotated[int, Range(least=1)] = 100,
        evaluate: bool = True,
        save_average: bool = False,
    ) -> None:
        super().__init__(start=start, evaluate=evaluate, save_average=save_average)
        self.every = every

    def decay_at(self, step: int) -> float:
        """Returns the share of the old average that remains after an optimiser step, which counts from 1."""
        if step < self.start:
            return 0.0
        counted, rest = divmod(step - self.start, self.every)
        return 1.0 if rest else counted / (counted + 1)
