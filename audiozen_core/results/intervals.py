"""Means with bootstrap intervals."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from audiozen_core.results.files import finite_or_none

LEVEL = 0.95
"""The confidence level of all intervals."""

RESAMPLES = 10_000
"""The number of bootstrap resamples for an interval."""

SEED = 0
"""The seed of the resamples. It is fixed, so the same values always have the same interval."""

_BLOCK = 1_000_000  # the maximum number of resampled values in memory at a time


@dataclass(frozen=True, slots=True)
class Mean:
    """The mean of a metric over some files, with its interval.

    Attributes:
        mean: the mean over the files that have a value; NaN if no file has a value.
        low: the lower end of the 95 % bootstrap interval; NaN for fewer than two values.
        high: the upper end of the interval.
        count: the number of files that have a value.
        missing: the number of files without a value. The mean does not include them.
    """

    mean: float
    low: float
    high: float
    count: int
    missing: int

    def to_json(self) -> dict[str, float | int | None]:
        """Returns the attributes for `json.dumps`, with None instead of NaN."""
        ends = {"mean": self.mean, "low": self.low, "high": self.high}
        finite = {key: finite_or_none(value) for key, value in ends.items()}
        return {**finite, "count": self.count, "missing": self.missing}


def mean_with_interval(values: Sequence[float]) -> Mean:
    """Computes the mean of the finite values, and its 95 % bootstrap interval.

    Args:
        values: one number for each file. NaN and infinite values count as missing.

    Example:
        >>> found = mean_with_interval([1.0, 2.0, 3.0, 4.0, math.nan])
        >>> found.mean, found.count, found.missing, found.low < 2.5 < found.high
        (2.5, 4, 1, True)
    """
    finite = [value for value in values if math.isfinite(value)]
    mean = math.fsum(finite) / len(finite) if finite else math.nan
    low, high = bootstrap_interval(finite)
    return Mean(mean, low, high, len(finite), len(values) - len(finite))


def bootstrap_interval(values: Sequence[float], *, level: float = LEVEL) -> tuple[float, float]:
    """Computes the bootstrap interval of a mean, with bias correction and acceleration (BCa).

    Efron, "Better Bootstrap Confidence Intervals", JASA 1987. The files are drawn with replacement, so the interval
    shows how much the mean would vary with other files of the same kind. It does not show how much the mean would vary
    with another training seed. The resamples are drawn from a fixed seed, so the same values in any order have the
    same interval.

    Args:
        values: finite numbers, one for each file.
        level: the confidence level of the interval.

    Returns:
        The lower and the upper end; NaN for fewer than two values. If all values are equal, both ends have this value.

    Example:
        >>> bootstrap_interval([3.0, 3.0, 3.0])
        (3.0, 3.0)
    """
    return _interval(tuple(sorted(values)), level)


@functools.lru_cache(4096)  # the table and the JSON file use the same intervals
def _interval(values: tuple[float, ...], level: float) -> tuple[float, float]:
    sample = np.asarray(values, np.float64)
    if len(sample) < 2:
        return math.nan, math.nan
    if (sample == sample[0]).all():
        return float(sample[0]), float(sample[0])
    means = resampled_means(sample)
    mean = sample.mean()
    normal = NormalDist()
    below = ((means < mean).sum() + (means <= mean).sum()) / (2 * RESAMPLES)
    # The limits keep the bias finite if all resampled means lie on one side of the mean.
    bias = normal.inv_cdf(min(max(float(below), 0.5 / RESAMPLES), 1 - 0.5 / RESAMPLES))
    # Leaving one value out moves the mean by an amount that is proportional to (mean - value).
    deviations = sample - mean
    # The acceleration only depends on the ratios of the deviations, so they can be scaled. This keeps their cubes from
    # overflowing or underflowing. Scaling by a power of two is exact.
    deviations = np.ldexp(deviations, -int(np.frexp(np.abs(deviations).max())[1]))
    acceleration = float((deviations**3).sum() / (6 * (deviations**2).sum() ** 1.5))
    ends = []
    for tail in ((1 - level) / 2, (1 + level) / 2):
        shifted = bias + normal.inv_cdf(tail)
        ends.append(normal.cdf(bias + shifted / (1 - acceleration * shifted)))
    low, high = np.quantile(means, ends)
    return float(low), float(high)


def resampled_means(sample: np.ndarray[Any, np.dtype[np.float64]]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Draws `RESAMPLES` bootstrap resamples and returns their means.

    Args:
        sample: at least one value, [files].

    Returns:
        The means, [resamples].
    """
    generator = np.random.default_rng(SEED)
    rows = max(1, _BLOCK // len(sample))
    means = []
    for start in range(0, RESAMPLES, rows):
        chosen = generator.integers(0, len(sample), size=(min(rows, RESAMPLES - start), len(sample)))
        means.append(sample[chosen].mean(axis=1))
    return np.concatenate(means)
