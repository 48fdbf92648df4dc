"""A bootstrap interval of a mean that varies with the files and with the seeds of the trainings."""

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
    """Computes a bootstrap interval of a mean in which files and seeds are resampled.

    Each resample draws files, and independently for each system as many of its seeds as it has, with replacement. Two
    corrections make it right for few seeds:

    - The variance of means of R resampled seeds is too small by the factor (R - 1) / R. Their deviations are enlarged
      by the square root of the inverse (Hesterberg, "What Teachers Should Know about the Bootstrap", 2015).
    - The variance of two or three seeds is itself a rough estimate. The deviations of each resample are divided by the
      root of a random chi-square number over its degrees of freedom, which makes a normal distribution a t one.
      The degrees of freedom are those of Welch and Satterthwaite for the variances of the files and of the seeds.

    As for `bootstrap_interval`, the order of the files and of the seeds makes no difference.

    Args:
        values: one number for each file: the mean over the seeds, or the difference of two such means.
        seed_means: for each system, the mean over the files of each of its seeds. Give those of the system that is
            subtracted with the opposite sign. A system with one seed says nothing about seeds, so it adds nothing.
        level: the level of the interval.

    Returns:
        Its ends; NaN for fewer than two files.
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
    generator = np.random.default_rng(SEED + 1)  # not that of the files, whose draws it would repeat
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
    freedom = 1 / sum((variance / total) ** 2 / own for variance, own in parts)
    deviations = deviations * np.sqrt(freedom / generator.chisquare(freedom, RESAMPLES))
    low, high = mean + np.quantile(deviations, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
