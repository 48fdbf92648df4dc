"""Suggests a learning rate from the loss curve of a range test. This module does not import torch."""

from __future__ import annotations

import itertools
import math
import operator
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

# The shape of a curve with fewer points is not clear enough.
FEWEST_POINTS = 10
# The suggested rate is the rate with the lowest loss, divided by this factor.
BELOW_LOWEST = 10.0


@dataclass(frozen=True, slots=True)
class Suggestion:
    """The suggested learning rate, or the reason why no rate can be suggested.

    Attributes:
        rate: the learning rate; None if no rate can be suggested.
        lowest: the index of the point of the curve with the lowest smoothed loss; None if the loss does not fall.
        problem: why no rate can be suggested; "" if `rate` is not None.
        remedy: what to do about the problem.
    """

    rate: float | None = None
    lowest: int | None = None
    problem: str = ""
    remedy: str = ""


class RangeTestCurve:
    """The losses of a range test.

    Args:
        rates: the learning rate of each step, which rises by the same factor from step to step.
        start: the loss before the first step.
        losses: the loss after each completed step, measured on the batches of the next step. The sequence is shorter
            than `rates` if the test ended early.
    """

    def __init__(self, rates: Sequence[float], start: float, losses: Sequence[float]) -> None:
        self.rates = tuple(rates)
        self.start = start
        self.losses = tuple(losses)

    @property
    def span(self) -> int:
        """The number of steps over which losses are averaged. It is small enough for the curve to keep its shape."""
        return max(2, len(self.rates) // 20)

    @property
    def smoothed(self) -> list[float]:
        """The smoothed loss of each point, without most of the noise between batches.

        An exponential mean over past losses lags behind the curve, and would show the lowest loss at too high a rate.
        Here, the mean gives equal weight to the points on both sides. Losses above the ceiling are clipped, so that a
        single loss of 1e10 does not dominate the points around it.
        """
        ceiling = self.ceiling
        capped = [min(loss, ceiling) for loss in self.losses]
        return [math.fsum(map(operator.mul, self._weights(index), capped)) for index in range(len(capped))]

    def _weights(self, index: int) -> list[float]:
        """Returns the weight of each loss in the smoothed loss of a point. The weights always add up to 1."""
        keep, count = 1 - 1 / self.span, len(self.losses)
        powers = list(itertools.accumulate([1.0] + [keep] * count, operator.mul))
        weights = powers[index:0:-1] + powers[: count - index]
        total = math.fsum(weights)
        return [weight / total for weight in weights]

    @property
    def reference(self) -> float:
        """The loss of the untrained network: the mean of the start and the first tenth of all steps."""
        return statistics.fmean(self._first)

    @property
    def _first(self) -> list[float]:
        return [self.start, *self.losses[: max(2, len(self.rates) // 10)]]

    @property
    def noise(self) -> float:
        """The standard deviation of the loss between batches, estimated from the median change between two steps.

        Unlike the mean, the median is not affected by the few large changes at the end, where the loss diverges.
        """
        changes = [abs(after - before) for before, after in itertools.pairwise([self.start, *self.losses])]
        # Half of the values of a normal distribution lie within 0.6745 standard deviations of the mean. The difference
        # between two losses has twice the variance of a single loss.
        return statistics.median(changes) / 0.6745 / math.sqrt(2) if changes else 0.0

    @property
    def ceiling(self) -> float:
        """The loss above which training counts as diverged.

        The ceiling lies as far above the reference as the loss has fallen below the reference, plus three times the
        noise. A ratio, such as four times the lowest loss, would not work for losses that can be negative, such as
        SI-SNR.
        """
        lowest = min(exponential_means(self.losses, self.span), default=self.reference)
        fall = max(self.reference - lowest, 0.0)
        return self.reference + fall + 3 * self.noise

    @property
    def diverges(self) -> bool:
        """Whether the exponential mean of the latest losses is above the ceiling."""
        enough = len(self.losses) >= FEWEST_POINTS
        return enough and exponential_means(self.losses, self.span)[-1] > self.ceiling

    def suggest(self, ended_early: str = "") -> Suggestion:
        """Suggests a tenth of the rate with the lowest smoothed loss.

        Args:
            ended_early: why the test ended before its last rate; "" if it completed.
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
        # The variance of the difference between the two means, relative to the variance of a single loss. The threshold
        # is as high as four standard deviations, because the lowest of many means is often two or three standard
        # deviations too low by chance.
        variance = 1 / len(self._first) + math.fsum(weight**2 for weight in self._weights(lowest))
        rounding = 1e-6 * abs(self.reference)
        if self.reference - means[lowest] <= 4 * self.noise * math.sqrt(variance) + rounding:
            return Suggestion(
                problem="the loss never falls by more than the noise between batches",
                remedy="try more --steps or larger batches, and a wider range from --min to --max; if the loss still "
                "does not fall, `audiozen run --overfit-batches 2` shows whether the network can learn at all",
            )
        if not ended_early and lowest >= count - max(2, count // 20):
            return Suggestion(
                lowest=lowest,
                problem="the loss is still falling at the highest rate",
                remedy=f"raise --max above {last:.3g}",
            )
        rate = self.rates[lowest] / BELOW_LOWEST
        if rate < first:
            return Suggestion(
                lowest=lowest,
                problem=f"the loss is lowest at {self.rates[lowest]:.2g}, too close to the lowest rate",
                remedy=f"lower --min, which is {first:.3g}",
            )
        return Suggestion(rate, lowest)


def exponential_means(values: Sequence[float], span: int) -> list[float]:
    """Returns the exponential moving average at each value. It is bias-corrected: the first mean is the first value.

    Args:
        values: the values to average.
        span: the number of recent values that have most of the weight.

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
    """Returns rates from `least` to `most`, evenly spaced on a logarithmic scale.

    Example:
        >>> [float(f"{rate:.3g}") for rate in rates_between(1e-4, 1e-2, 3)]
        [0.0001, 0.001, 0.01]
    """
    factor = math.log(most / least) / max(steps - 1, 1)
    return [least * math.exp(factor * step) for step in range(steps)]


def as_toml(rate: float) -> str:
    """Formats a rate for a TOML file, with two significant digits.

    Example:
        >>> as_toml(0.00321), as_toml(0.01)
        ('3.2e-3', '1e-2')
    """
    digits, exponent = f"{rate:.1e}".split("e")
    return f"{digits.removesuffix('.0')}e{int(exponent)}"
