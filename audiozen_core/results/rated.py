"""Means and differences of ratings, which vary with the files and with the listeners.

Each listener rates each file for all systems, so the ratings are paired by file and by listener. To conclude that a
system is better in general, the result must hold for other listeners and for other files (Clark, "The
Language-as-Fixed-Effect Fallacy", 1973).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from audiozen_core.results.intervals import bootstrap_interval
from audiozen_core.results.paired import PairedDifference, SystemMean
from audiozen_core.results.permutation import sign_flip_test
from audiozen_core.results.two_level import two_level_interval

_Array = np.ndarray[Any, np.dtype[np.float64]]


def rated_mean(ratings: _Array, *, interval: bool = True) -> SystemMean:
    """Computes the mean of the ratings of a system.

    Args:
        ratings: [listeners, files]; NaN where a listener has not rated a file.
        interval: whether to compute the 95 % interval over files and listeners. If False, its ends are NaN.
    """
    files, listeners = _effects(ratings)
    if not files:
        return SystemMean(math.nan, math.nan, math.nan, 1, math.nan)
    low, high = _interval(files, listeners) if interval else (math.nan, math.nan)
    return SystemMean(math.fsum(files) / len(files), low, high, 1, math.nan)


def rated_difference(
    metric: str, system_name: str, baseline: _Array, system: _Array, *, higher_is_better: bool, tested: bool
) -> PairedDifference:
    """Compares the ratings of a system with the ratings of the baseline. `p_holm` is not corrected yet.

    The p-value is the larger p-value of two paired permutation tests. One tests the files, averaged over the listeners,
    and the other tests the listeners, averaged over the files. With only one listener, only the files are tested; with
    only one file, only the listeners are tested.

    Args:
        metric: the name of the metric.
        system_name: the name of the system.
        baseline: the ratings of the baseline, [listeners, files]; NaN for a missing rating.
        system: the ratings of the system by the same listeners for the same files, [listeners, files].
        higher_is_better: whether a higher rating is better.
        tested: whether to test the system. The hidden reference and the low-pass anchors are not tested.
    """
    files, listeners = _effects(system - baseline)
    mean = math.fsum(files) / len(files) if files else math.nan
    low, high = _interval(files, listeners) if files else (math.nan, math.nan)
    tests = [sign_flip_test(values) for values in (files, listeners) if len(values) > 1] or [sign_flip_test(files)]
    test = max(tests, key=lambda candidate: candidate.p)
    p = test.p if tested else math.nan
    up, down = sum(value > 0 for value in files), sum(value < 0 for value in files)
    better, worse = (up, down) if higher_is_better else (down, up)
    return PairedDifference(
        metric, system_name, higher_is_better, mean, low, high, better, worse, len(files) - up - down,
        p, p, test.exact, test.permutations, max(candidate.smallest_p for candidate in tests), len(listeners) > 1,
    )  # fmt: skip


def _effects(values: _Array) -> tuple[list[float], list[float]]:
    """Returns the mean of each file and the mean of each listener, corrected for missing ratings.

    The mean of a listener is computed relative to the means of the files that the listener has rated. So a listener who
    has only rated easy files does not get a higher mean.
    """
    rated = np.isfinite(values)
    values, rated = values[:, rated.any(axis=0)], rated[:, rated.any(axis=0)]
    values, rated = values[rated.any(axis=1)], rated[rated.any(axis=1)]
    if not values.size:
        return [], []
    files = np.nanmean(values, axis=0)
    listeners = np.nanmean(values - files, axis=1) + files.mean()
    # These are means of integers, so differences beyond the 9th decimal are rounding errors.
    return [_rounded(value) for value in files], [_rounded(value) for value in listeners]


def _rounded(value: float) -> float:
    return round(float(value), 9) + 0.0


def _interval(files: list[float], listeners: list[float]) -> tuple[float, float]:
    """Returns the 95 % interval of a mean over files and listeners. A single file or listener is not resampled."""
    if len(files) < 2:
        return bootstrap_interval(listeners)
    return two_level_interval(files, listeners) if len(listeners) > 1 else bootstrap_interval(files)
