"""Reads a learning rate from the curve of a range test. This module does not import torch."""

from __future__ import annotations

import itertools
import math
import operator
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

# Fewer points say nothing about the shape of a curve.
FEWEST_POINTS = 10
# The suggestion is the rate with the lowest loss, divided by this.
BELOW_LOWEST = 10.0


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A learning rate, or the reason why there is none.

    Attributes:
        rate: the learning rate; None if the curve does not show one.
        lowest: the index of the point with the lowest smoothed loss; None if the loss does not fall.
        problem: why no rate can be suggested, in words.
        remedy: what to do about it.
    """

    rate: float | None = None
    lowest: int | None = None
    problem: str = ""
    remedy: str = ""


class Curve:
    """The losses of a range test.

    Args:
        rates: the learning rate of each step, rising by the same factor.
        start: the loss before the first step.
        losses: the loss after each step that was taken, measured on the next batches; it may have fewer entries than
            `rates`.
    """

    def __init__(self, rates: Sequence[float], start: float, losses: Sequence[float]) -> None:
        self.rates = tuple(rates)
        self.start = start
        self.losses = tuple(losses)

    @property
    def span(self) -> int:
        """The number of steps over which losses are averaged: few enough for the curve to keep its shape."""
        return max(2, len(self.rates) // 20)

    @property
    def smoothed(self) -> list[float]:
        """The smoothed loss of each point: without most of the noise between batches, and not late.

        An exponential mean over the past alone lags behind, and shows the lowest loss at too high a rate. This one
        looks to both sides. Losses above the ceiling count as the ceiling, so that a loss of 1e10 does not hide the
        points before it.
        """
        ceiling = self.ceiling
        capped = [min(loss, ceiling) for loss in self.losses]
        return [math.fsum(map(operator.mul, self._weights(index), capped)) for index in range(len(capped))]

    def _weights(self, index: int) -> list[float]:
        """Returns the weight of each loss in the smoothed loss of a point; their sum is 1, also at the ends."""
        keep, count = 1 - 1 / self.span, len(self.losses)
        powers = list(itertools.accumulate([1.0] + [keep] * count, operator.mul))
        weights = powers[index:0:-1] + powers[: count - index]
        total = math.fsum(weights)
        return [weight / total for weight in weights]

    @property
    def reference(self) -> float:
        """The loss of an untrained network: the mean of the start, and of the first tenth of the range."""
        return statistics.fmean(self._first)

    @property
    def _first(self) -> list[float]:
        return [self.start, *self.losses[: max(2, len(self.rates) // 10)]]

    @property
    def noise(self) -> float:
        """The standard deviation of the loss between batches, estimated from the median change between two steps.

        The median ignores the few large changes where the loss diverges.
        """
        found = [self.start, *self.losses]
        changes = [abs(after - before) for before, after in itertools.pairwise(found)]
        # Of a normal distribution, half of the values are within 0.6745 deviations; a difference has two variances.
        return statistics.median(changes) / 0.6745 / math.sqrt(2) if changes else 0.0

    @property
    def ceiling(self) -> float:
        """The loss from which a training diverges: as far above its start as it has been below, and more than noise.

        A ratio, such as four times the lowest loss, would fail for losses that can be negative, such as SI-SNR.
        """
        lowest = min(exponential_means(self.losses, self.span), default=self.reference)
        fall = max(self.reference - lowest, 0.0)
        return self.reference + fall + 3 * self.noise

    @property
    def diverges(self) -> bool:
        """Whether the mean of the newest losses is above the ceiling."""
        enough = len(self.losses) >= FEWEST_POINTS
        return enough and exponential_means(self.losses, self.span)[-1] > self.ceiling

    def suggest(self, ended_early: str = "") -> Suggestion:
        """Suggests a tenth of the rate with the lowest smoothed loss.

        Args:
            ended_early: why the test has ended before its last rate, in words; "" if it has not.
        """
        first, last = self.rates[0], self.rates[-1]
        count = len(self.losses)
        if count < FEWEST_POINTS:
            return Suggestion(
                problem=f"the test has only {count} points" + (f", because {ended_early}" if ended_early else ""),
                remedy=f"lower --min, which is {first:.3g}" if ended_early else f"take at least {FEWEST_POINTS} steps",
            )
        means = self.smoothed
        lowest = min(range(count), key=means.__getitem__)
        # What remains of the noise in the two means. The lowest of many means is often two or three of these below.
        variance = 1 / len(self._first) + math.fsum(weight**2 for weight in self._weights(lowest))
        rounding = 1e-6 * abs(self.reference)
        if self.reference - means[lowest] <= 4 * self.noise * math.sqrt(variance) + rounding:
            return Suggestion(
                problem="the loss never falls by more than the noise between batches",
                remedy="try more --steps or larger batches, and a wider range from --min to --max; if it still does "
                "not fall, `audiozen run --overfit-batches 2` shows whether the network can learn at all",
            )
        if not ended_early and lowest >= count - max(2, count // 20):
            return Suggestion(
                lowest=lowest,
                problem="the loss still falls at the highest rate",
                remedy=f"raise --max above {last:.3g}",
            )
        rate = self.rates[lowest] / BELOW_LOWEST
        if rate < first:
            return Suggestion(
                lowest=lowest,
                problem=f"the loss is lowest at {self.rates[lowest]:.2g}, too near to the lowest rate",
                remedy=f"lower --min, which is {first:.3g}",
            )
        return Suggestion(rate, lowest)


def exponential_means(values: Sequence[float], span: int) -> list[float]:
    """Returns the exponential mean up to each value, corrected for its bias: the first one is the first value.

    Args:
        values: the values.
        span: the number of values that have most of the weight.

    Example:
        >>> exponential_means([4.0, 4.0, 4.0], 2)
        [4.0, 4.0, 4.0]
        >>> [round(mean, 3) for mean in exponential_means([0.0, 3.0, 3.0], 2)]
        [0.0, 2.0, 2.571]
    """
    keep = 1 - 1 / span
    mean, weight, means = 0.0, 0.0, []
    for value in values:
        mean = keep * mean + (1 - keep) * value
        weight = keep * weight + (1 - keep)
        means.append(mean / weight)
    return means


def rates_between(least: float, most: float, steps: int) -> list[float]:
    """Returns rates from the least to the most, each larger than the one before by the same factor.

    Example:
        >>> [float(f"{rate:.3g}") for rate in rates_between(1e-4, 1e-2, 3)]
        [0.0001, 0.001, 0.01]
    """
    factor = math.log(most / least) / max(steps - 1, 1)
    return [least * math.exp(factor * step) for step in range(steps)]


def as_toml(rate: float) -> str:
    """Returns a rate as one writes it in a TOML file, with two digits.

    Example:
        >>> as_toml(0.00321), as_toml(0.01)
        ('3.2e-3', '1e-2')
    """
    digits, exponent = f"{rate:.1e}".split("e")
    return f"{digits.removesuffix('.0')}e{int(exponent)}"
