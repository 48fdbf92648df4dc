"""The learning rate range test (Smith 2017, "Cyclical Learning Rates for Training Neural Networks")."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from audiozen_core.errors import AudioZenError, RunError
from audiozen_core.experiment.experiment import Experiment
from audiozen_core.hooks.marker import hookimpl
from audiozen_core.hooks.nonfinite import NonFiniteError
from audiozen_core.hooks.trainer_protocol import Trainer
from audiozen_core.kinds import section_name
from audiozen_core.trainer.learning_rates import learning_rates
from audiozen_core.tuning.lr_curve import FEWEST_POINTS, RangeTestCurve, Suggestion, rates_between
from audiozen_core.tuning.short_training import check_single_process, short_training


@dataclass(frozen=True, slots=True)
class RangeTest:
    """The result of a range test.

    Attributes:
        section: the section of the optimiser, such as `optimizer`.
        curve: the loss at each learning rate.
        suggestion: the learning rate to use, or the reason why no rate can be suggested.
        ended_early: why the test ended before its last rate; "" if it completed.
        groups: for each parameter group with its own learning rate, this rate divided by the rate of the optimiser. The
            keys are the names under which the learning rates are recorded, such as `lr_encoder`.
    """

    section: str
    curve: RangeTestCurve
    suggestion: Suggestion
    ended_early: str
    groups: Mapping[str, float]


def run_range_test(
    experiment: Experiment,
    *,
    least: float = 1e-6,
    most: float = 1.0,
    steps: int = 100,
    on_step: Callable[[float, float], object] | None = None,
) -> RangeTest:
    """Trains with a learning rate that rises at each step, and records the loss.

    The loss that belongs to a rate is measured after the step with this rate, on the batches of the next step.

    Args:
        experiment: the experiment. Its run folder is not used.
        least: the first learning rate.
        most: the last learning rate.
        steps: the number of optimiser steps.
        on_step: called after each step with its rate and loss.

    Raises:
        RunError: this is one of several processes, an argument is out of range, the experiment has several optimisers,
            or its optimiser has no learning rate.
        AudioZenError: the experiment can't be built or trained.
    """
    _check(experiment, least, most, steps)
    (suffix,) = experiment.config.components["optimizer"]
    section = section_name("optimizer", suffix)
    rates = rates_between(least, most, steps)
    sweep = _Sweep(rates, suffix, on_step)
    with short_training(experiment, sweep) as (trainer, loader):
        sweep.ratios = ratios = _ratios(section, trainer.optimizers[suffix])
        names = learning_rates(trainer.optimizers)
        try:
            trainer.train(loader)
        except NonFiniteError:
            if not sweep.done:
                raise  # the loss was not finite even before the first step, so the learning rate is not the cause
            sweep.ended_early = f"a loss or a gradient was not finite after a step with {sweep.rate:.2g}"
        except AudioZenError as error:
            error.notes = (*error.notes, f"learning rate: {sweep.rate:.2g}, in step {sweep.done + 1} of {steps}")
            raise
    curve = sweep.curve
    groups = {name: ratio for name, ratio in zip(names, ratios, strict=True) if ratio != 1}
    return RangeTest(section, curve, curve.suggest(sweep.ended_early), sweep.ended_early, groups)


def _check(experiment: Experiment, least: float, most: float, steps: int) -> None:
    check_single_process()
    if not (math.isfinite(least) and math.isfinite(most) and 0 < least < most):
        raise RunError(
            f"the learning rate can't rise from {least:g} to {most:g}",
            remedy="set --min above 0, and --max above --min",
        )
    if steps < FEWEST_POINTS:
        raise RunError(
            f"a range test of {steps} steps is too short to find a learning rate",
            remedy=f"set --steps to at least {FEWEST_POINTS}; 100 is a good number",
        )
    optimizers = [f"[{section_name('optimizer', suffix)}]" for suffix in experiment.config.components["optimizer"]]
    if len(optimizers) > 1:
        raise RunError(
            f"the experiment has several optimisers, {' and '.join(optimizers)}, so a range test can't tell which of "
            "them changed a loss",
            remedy="choose the learning rates by the scores of short training runs, or test a TOML file that trains "
            "only one network",
        )


def _ratios(section: str, optimizer: torch.optim.Optimizer) -> list[float]:
    """Returns the learning rate of each parameter group, divided by the default rate of the optimiser."""
    base = optimizer.defaults.get("lr")
    rates = [group["lr"] for group in optimizer.param_groups if group.get("lr") is not None]
    if base is None or len(rates) < len(optimizer.param_groups):
        raise RunError(
            f"[{section}] {type(optimizer).__name__} has no learning rate to tune",
            remedy=f"set `lr` in [{section}.args], or use an optimiser that has a learning rate",
        )
    if float(base) <= 0:
        raise RunError(
            f"[{section}] has the learning rate {float(base):g}, so the rates of its groups can't be scaled with it",
            remedy=f"set `lr` in [{section}.args] to any number above 0",
        )
    return [float(rate) / float(base) for rate in rates]


class _Sweep:
    """A hook plugin that sets the learning rate of each step and collects the losses."""

    phase = "step"

    def __init__(self, rates: Sequence[float], suffix: str, on_step: Callable[[float, float], object] | None) -> None:
        self.ratios: Sequence[float] = ()
        self.done = 0
        self.ended_early = ""
        self._rates = rates
        self._suffix = suffix
        self._on_step = on_step
        # The losses of the batches of each step. They show the effect of the previous step.
        self._losses: list[list[float]] = [[]]

    @property
    def rate(self) -> float:
        """The learning rate of the latest step."""
        return self._rates[min(max(self.done - 1, 0), len(self._rates) - 1)]

    @property
    def curve(self) -> RangeTestCurve:
        """The losses of all completed steps. A step without a loss gets the loss of the step before it."""
        means: list[float] = []
        for losses in self._losses[:-1][: len(self._rates) + 1]:
            if losses:
                means.append(statistics.fmean(losses))
            elif means:
                means.append(means[-1])
        return RangeTestCurve(self._rates, means[0] if means else math.nan, means[1:])

    @hookimpl.on_run_start
    def on_run_start(self, trainer: Trainer) -> None:
        """Makes the trainer read each loss immediately, so that the test ends as soon as the loss diverges."""
        trainer.scalars.read_at_once = True

    @hookimpl.on_gradients_ready
    def on_gradients_ready(self, trainer: Trainer) -> None:
        """Sets the learning rate of the next step."""
        rate = self._rates[min(trainer.progress.step, len(self._rates) - 1)]
        for group, ratio in zip(trainer.optimizers[self._suffix].param_groups, self.ratios, strict=True):
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate * ratio)
            else:
                group["lr"] = rate * ratio

    @hookimpl.on_training_step_end
    def on_training_step_end(self, trainer: Trainer, outputs: Mapping[str, Any]) -> None:
        """Collects the loss of a batch. After the last batch of a step, also ends the step."""
        name = "loss" if "loss" in outputs else f"loss_{self._suffix}"
        if name in outputs:
            self._losses[-1].append(float(outputs[name]))
        if trainer.between_steps:
            self._end_step(trainer)

    @hookimpl.on_epoch_start
    def on_epoch_start(self, trainer: Trainer) -> None:
        """Ends the last step of the previous epoch, in case this step had fewer batches than other steps."""
        if trainer.progress.step > self.done:
            self._end_step(trainer)

    def _end_step(self, trainer: Trainer) -> None:
        self.done = trainer.progress.step
        if self._on_step and self.done > 1 and self._losses[-1]:
            self._on_step(self._rates[self.done - 2], statistics.fmean(self._losses[-1]))
        self._losses.append([])

    @hookimpl.stop_within_epoch_reason
    def stop_within_epoch_reason(self) -> str | None:
        """Stops training after the loss of the last step has been measured, or when the loss diverges."""
        if self.done > len(self._rates):
            return "the range test is complete"
        if self.curve.diverges:
            self.ended_early = f"the loss diverges from {self._rates[self.done - 2]:.2g}"
            return self.ended_early
        return None
