"""Adversarial losses: what a discriminator learns, and what a generator learns from it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from audiozen_core.binding.ranges import Range, check_ranges

Judge = Callable[..., list[list[Tensor]]]
"""Calls a discriminator with waveforms [batch, time].

The result has one entry for each part of the discriminator, such as one resolution. An entry lists the features of the
part, and at the end its scores. All are in full precision, with the batch as their first axis.
"""


@dataclass(frozen=True, slots=True)
class JudgedSignals:
    """The waveforms of a batch, each [batch, time], which a discriminator may judge.

    Attributes:
        enhanced: the output of the generator. For the loss of a discriminator, it is detached.
        clean: the clean speech.
        noisy: the input of the generator.
        sr: the sample rate, in hertz.
    """

    enhanced: Tensor
    clean: Tensor
    noisy: Tensor
    sr: int


class AdversarialLoss(nn.Module, ABC):
    """The base class of the losses `[loss_function_<suffix>]` of discriminators, for the trainer `adversarial`.

    Args:
        weight: the factor of this discriminator in the loss of the generator.

    Attributes:
        recorded_scalars: the scalars to record for the present step, by name. The trainer reads and clears them.
    """

    def __init__(self, weight: Annotated[float, Range(least=0)] = 1.0) -> None:
        check_ranges(AdversarialLoss, locals())
        super().__init__()
        self.weight = weight
        self.recorded_scalars: dict[str, Tensor] = {}

    @abstractmethod
    def discriminator_loss(self, judge: Judge, signals: JudgedSignals) -> Tensor:
        """Returns the loss of the discriminator, a scalar."""

    @abstractmethod
    def generator_loss(self, judge: Judge, signals: JudgedSignals) -> Tensor:
        """Returns the adversarial loss of the generator, a scalar, without the factor `weight`."""


class GanLoss(AdversarialLoss):
    """The loss of a discriminator that learns to distinguish clean from enhanced speech.

    A subclass defines how scores become a loss. The loss is the mean over the parts of the discriminator. If
    `feature_weight` is above 0, the generator's loss also includes the feature matching of Kumar et al., "MelGAN",
    NeurIPS 2019. This is the mean absolute difference between the features of enhanced speech and the features of clean
    speech, averaged over all features.

    Args:
        weight: the factor of this discriminator in the loss of the generator.
        feature_weight: the factor of the feature matching in the loss of the generator; 0 leaves it out.
    """

    def __init__(
        self,
        weight: Annotated[float, Range(least=0)] = 1.0,
        feature_weight: Annotated[float, Range(least=0)] = 0.0,
    ) -> None:
        check_ranges(GanLoss, locals())
        super().__init__(weight)
        self.feature_weight = feature_weight

    @abstractmethod
    def of_clean(self, scores: Tensor) -> Tensor:
        """Returns the discriminator's loss for its scores of clean speech, a scalar."""

    @abstractmethod
    def of_enhanced(self, scores: Tensor) -> Tensor:
        """Returns the discriminator's loss for its scores of enhanced speech, a scalar."""

    @abstractmethod
    def of_generator(self, scores: Tensor) -> Tensor:
        """Returns the generator's loss for the scores of its output, a scalar."""

    def discriminator_loss(self, judge: Judge, signals: JudgedSignals) -> Tensor:
        """Returns the loss of the discriminator, a scalar."""
        clean, enhanced = judge(signals.clean), judge(signals.enhanced)
        return _mean([self.of_clean(scores) for *_, scores in clean]) + _mean(
            [self.of_enhanced(scores) for *_, scores in enhanced]
        )

    def generator_loss(self, judge: Judge, signals: JudgedSignals) -> Tensor:
        """Returns the adversarial loss of the generator, a scalar, without the factor `weight`."""
        enhanced = judge(signals.enhanced)
        loss = _mean([self.of_generator(scores) for *_, scores in enhanced])
        if not self.feature_weight:
            return loss
        with torch.no_grad():
            clean = judge(signals.clean)
        pairs = [
            pair for one, other in zip(enhanced, clean, strict=True) for pair in zip(one[:-1], other[:-1], strict=True)
        ]
        if not pairs:
            raise ValueError("`feature_weight` needs a discriminator that returns features, but it returns none")
        features = _mean([F.l1_loss(one, other) for one, other in pairs])
        self.recorded_scalars["features"] = features.detach()
        return loss + self.feature_weight * features


class LeastSquaresGanLoss(GanLoss):
    """The least-squares loss: scores should be 1 for clean speech and 0 for enhanced speech.

    Mao et al., "Least Squares Generative Adversarial Networks", ICCV 2017. With the scores `D`, the discriminator
    minimises `mean((D(clean) - 1)²) + mean(D(enhanced)²)`, and the generator `mean((D(enhanced) - 1)²)`.

    Args:
        weight: the factor of this discriminator in the loss of the generator.
        feature_weight: the factor of the feature matching in the loss of the generator; see `GanLoss`.
    """

    def of_clean(self, scores: Tensor) -> Tensor:
        """Returns the discriminator's loss for its scores of clean speech."""
        return (scores - 1).square().mean()

    def of_enhanced(self, scores: Tensor) -> Tensor:
        """Returns the discriminator's loss for its scores of enhanced speech."""
        return scores.square().mean()

    def of_generator(self, scores: Tensor) -> Tensor:
        """Returns the generator's loss for the scores of its output."""
        return (scores - 1).square().mean()


class HingeGanLoss(GanLoss):
    """The hinge loss: scores should be at least 1 for clean speech, and at most -1 for enhanced speech.

    Lim and Ye, "Geometric GAN", 2017. With the scores `D`, the discriminator minimises `mean(max(0, 1 - D(clean))) +
    mean(max(0, 1 + D(enhanced)))`, and the generator `-mean(D(enhanced))`.

    Args:
        weight: the factor of this discriminator in the loss of the generator.
        feature_weight: the factor of the feature matching in the loss of the generator; see `GanLoss`.
    """

    def of_clean(self, scores: Tensor) -> Tensor:
        """Returns the discriminator's loss for its scores of clean speech."""
        return F.relu(1 - scores).mean()

    def of_enhanced(self, scores: Tensor) -> Tensor:
        """Returns the discriminator's loss for its scores of enhanced speech."""
        return F.relu(1 + scores).mean()

    def of_generator(self, scores: Tensor) -> Tensor:
        """Returns the generator's loss for the scores of its output."""
        return -scores.mean()


def _mean(values: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(values)).mean()
