"""Learning-rate schedulers that begin with a warm-up.

All schedulers count optimiser steps from 1. If the warm-up has `w` steps, the learning rate in its step `s` is `s / w`
times the highest rate. So the first step already trains, and step `w` is the first step with the highest rate.
"""

from __future__ import annotations

import math
from typing import Annotated, ClassVar

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from audiozen_core.binding.ranges import Natural, Positive, Range, check_ranges

Ratio = Annotated[float, Range(least=0, most=1)]


class _Scheduler(LRScheduler):
    """Multiplies the learning rates of the optimiser by a factor that depends on the step."""

    interval: ClassVar[str] = "step"

    def factor(self, step: int) -> float:
        """Returns the factor of a step, counted from 1."""
        raise NotImplementedError

    def get_lr(self) -> list[float | Tensor]:
        """Returns the learning rate of each parameter group for the next optimiser step."""
        return [rate * self.factor(self.last_epoch + 1) for rate in self.base_lrs]


class _Decay(_Scheduler):
    """A warm-up, followed by a decay until the end of training."""

    def __init__(
        self,
        optimizer: Optimizer,
        warmup_steps: Natural,
        total_steps: Positive | None = None,
        final_ratio: Ratio = 0.0,
    ) -> None:
        check_ranges(type(self), locals())
        self.warmup_steps = warmup_steps
        self.total_steps = total_steps
        self.final_ratio = final_ratio
        self._follows_training = total_steps is None
        super().__init__(optimizer)

    def set_training_length(self, steps: int) -> None:
        """Sets the number of steps of the whole training, at which the decay ends unless `total_steps` is given.

        If the checkpoint of a resumed run had another number, the next step already uses the rate of the new decay.
        Otherwise, if a finished run is resumed with more steps, the first step would still use the last rate of the old
        decay, which is mostly 0.
        """
        if not self._follows_training or steps == self.total_steps:
            return
        is_known, self.total_steps = self.total_steps is not None, steps
        if is_known:
            self._last_lr = self.get_lr()
            for group, rate in zip(self.optimizer.param_groups, self._last_lr, strict=True):
                if isinstance(group["lr"], Tensor):
                    group["lr"].fill_(rate)
                else:
                    group["lr"] = rate

    def factor(self, step: int) -> float:
        """Returns the factor of a step, counted from 1. After the end of the decay, it is `final_ratio`."""
        if step <= self.warmup_steps:
            return step / self.warmup_steps
        if self.total_steps is None:  # the length is not known before training starts
            return 1.0
        done = (step - max(self.warmup_steps, 1)) / max(self.total_steps - max(self.warmup_steps, 1), 1)
        return self.final_ratio + (1 - self.final_ratio) * self.decay(min(done, 1.0))

    def decay(self, done: float) -> float:
        """Returns the shape of the decay, which does not include `final_ratio`.

        Args:
            done: the fraction of the decay that has passed, from 0 to 1.

        Returns:
            1 at the start of the decay, and 0 at its end.
        """
        raise NotImplementedError


class WarmupCosine(_Decay):
    """A linear warm-up, then a decay from the highest to the lowest rate along half a cosine.

    The shape comes from Loshchilov & Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts" (ICLR 2017),
    without restarts.

    Args:
        optimizer: the optimiser; its `lr` is the highest rate.
        warmup_steps: the number of steps of the warm-up.
        total_steps: the step with the lowest rate; by default the last step of training. If the data set has no
            length, set this argument, or `max_steps` or `steps_per_epoch` of the trainer.
        final_ratio: the lowest rate, as a fraction of the highest rate.

    Example:
        >>> import torch
        >>> scheduler = WarmupCosine(torch.optim.SGD([torch.zeros(1)], lr=1.0), warmup_steps=2, total_steps=6)
        >>> [round(scheduler.factor(step), 3) for step in range(1, 8)]
        [0.5, 1.0, 0.854, 0.5, 0.146, 0.0, 0.0]
    """

    def decay(self, done: float) -> float:
        """Returns the value of half a cosine, which falls from 1 to 0."""
        return (1 + math.cos(math.pi * done)) / 2


class WarmupLinear(_Decay):
    """A linear warm-up, then a linear decay from the highest to the lowest rate.

    Args:
        optimizer: the optimiser; its `lr` is the highest rate.
        warmup_steps: the number of steps of the warm-up.
        total_steps: the step with the lowest rate; by default the last step of training. If the data set has no
            length, set this argument, or `max_steps` or `steps_per_epoch` of the trainer.
        final_ratio: the lowest rate, as a fraction of the highest rate.

    Example:
        >>> import torch
        >>> scheduler = WarmupLinear(torch.optim.SGD([torch.zeros(1)], lr=1.0), warmup_steps=2, total_steps=6)
        >>> [scheduler.factor(step) for step in range(1, 8)]
        [0.5, 1.0, 0.75, 0.5, 0.25, 0.0, 0.0]
    """

    def decay(self, done: float) -> float:
        """Returns the value of a straight line, which falls from 1 to 0."""
        return 1 - done


class InverseSqrt(_Scheduler):
    """A linear warm-up, then a rate that falls with the square root of the step.

    It does not depend on the length of training.

    Args:
        optimizer: the optimiser; its `lr` is the highest rate.
        warmup_steps: the number of steps of the warm-up.

    Example:
        >>> import torch
        >>> scheduler = InverseSqrt(torch.optim.SGD([torch.zeros(1)], lr=1.0), warmup_steps=2)
        >>> [scheduler.factor(step) for step in (1, 2, 8, 200)]
        [0.5, 1.0, 0.5, 0.1]
    """

    def __init__(self, optimizer: Optimizer, warmup_steps: Positive) -> None:
        check_ranges(type(self), locals())
        self.warmup_steps = warmup_steps
        super().__init__(optimizer)

    def factor(self, step: int) -> float:
        """Returns the factor of a step, counted from 1."""
        return min(step / self.warmup_steps, math.sqrt(self.warmup_steps / step))


class Noam(InverseSqrt):
    """The schedule of the Transformer: the factor in step `s` is `d_model ** -0.5 * min(s ** -0.5, s * w ** -1.5)`.

    `w` is `warmup_steps`.

    Vaswani et al., "Attention Is All You Need" (NeurIPS 2017), section 5.3.

    Args:
        optimizer: the optimiser; its `lr`, which is 1 in the paper, is multiplied by the formula.
        warmup_steps: the number of steps of the warm-up; 4000 in the paper.
        d_model: the width of the network.

    Example:
        >>> import torch
        >>> scheduler = Noam(torch.optim.SGD([torch.zeros(1)], lr=1.0), warmup_steps=4000, d_model=512)
        >>> f"{scheduler.factor(4000):.6f}"
        '0.000699'
    """

    def __init__(self, optimizer: Optimizer, warmup_steps: Positive = 4000, d_model: Positive = 512) -> None:
        self.d_model = d_model
        super().__init__(optimizer, warmup_steps)

    def factor(self, step: int) -> float:
        """Returns the factor of a step, counted from 1."""
        return super().factor(step) / math.sqrt(self.d_model * self.warmup_steps)
