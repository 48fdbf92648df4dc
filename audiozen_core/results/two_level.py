"""Bootstrap intervals of a mean that varies with the files and with the training seeds."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from audiozen_core.results.intervals import LEVEL, RESAMPLES, SEED, resampled_means

_Array = np.ndarray[Any, np.dtype[np.float64]]


def two_level_interval(
    values: Sequence[float], *seed_means: Sequence[float], level: float = LEVEL
) -> tuple[float, float]:
    """Computes the bootstrap interval of a mean by resampling both the files and the seeds.

    Each resample draws the files, and the seeds of each system, independently and with replacement. Two corrections
    make the interval accurate for few seeds:

    - The variance of the mean of R resampled seeds is too small by the factor (R - 1) / R. The deviations of the seeds
      are therefore multiplied by sqrt(R / (R - 1)) (Hesterberg, "What Teachers Should Know about the Bootstrap", 2015).
    - The variance of two or three seeds is itself a rough estimate. The deviations of each resample are therefore
      divided by the root of a random chi-square number over its degrees of freedom. This turns a normal distribution
      into a t distribution. The degrees of freedom come from the Welch-Satterthwaite equation for the variances of the
      files and of the seeds.

    As in `bootstrap_interval`, the result does not depend on the order of the files or of the seeds.

    Args:
        values: one number for each file: the mean over the seeds, or the difference of two such means.
        seed_means: for each system, the mean over the files for each seed. If `values` are differences, negate the
            means of the subtracted system. A system with one seed does not widen the interval.
        level: the confidence level of the interval.

    Returns:
        The lower and the upper end; NaN for fewer than two files.
    """
    return _interval(tuple(sorted(values)), tuple(tuple(sorted(means)) for means in seed_means), level)


@functools.lru_cache(4096)
def _interval(
    values: tuple[float, ...], seed_means: tuple[tuple[float, ...], ...], level: float
) -> tuple[float, float]:
    sample = np.asarray(values, np.float64)
    if len(sample) < 2:
        return math.nan, math.nan
    mean = float(sample.mean())
    parts = [(float(sample.var(ddof=1)) / len(sample), len(sample) - 1)]
    deviations: _Array = resampled_means(sample) - mean
    generator = np.random.default_rng(SEED + 1)  # SEED would repeat the random numbers of the files
    for means in seed_means:
        count = len(means)
        if count < 2:
            continue
        centred = np.asarray(means, np.float64) - math.fsum(means) / count
        drawn = centred[generator.integers(0, count, (RESAMPLES, count))].mean(axis=1)
        deviations = deviations + drawn * math.sqrt(count / (count - 1))
        parts.append((float((centred**2).sum()) / (count - 1) / count, count - 1))
    total = sum(variance for variance, _ in parts)
    if not total:
        return mean, mean
    freedom = 1 / sum((variance / total) ** 2 / part_freedom for variance, part_freedom in parts)
    deviations = deviations * np.sqrt(freedom / generator.chisquare(freedom, RESAMPLES))
    low, high = mean + np.quantile(deviations, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
