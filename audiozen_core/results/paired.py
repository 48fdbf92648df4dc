"""Paired differences between two systems over the same files, with intervals and tests."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from audiozen_core.results.files import finite_or_none
from audiozen_core.results.intervals import bootstrap_interval
from audiozen_core.results.permutation import holm, sign_flip_test
from audiozen_core.results.two_level import two_level_interval

_Array = np.ndarray[Any, np.dtype[np.float64]]

SIGNIFICANT = 0.05
"""A difference is significant if its corrected p-value is below this limit."""

_EQUAL = 1e-9  # a relative tolerance, because the last digits depend on the machine and on the averaging over seeds


@dataclass(frozen=True, slots=True)
class SystemMean:
    """The mean of a metric for one system.

    Attributes:
        mean: the mean over the files and seeds.
        low: the lower end of the 95 % bootstrap interval over the files and, if there are several, over the seeds.
        high: the upper end of the interval.
        seeds: the number of seeds.
        deviation: the standard deviation of the means of the seeds, with `n - 1` in the denominator; NaN for one seed.
    """

    mean: float
    low: float
    high: float
    seeds: int
    deviation: float


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """The difference of a system from the baseline in one metric.

    Attributes:
        metric: the name of the metric.
        system: the name of the system.
        higher_is_better: whether a higher number is better.
        mean: the mean over the files of the value of the system minus the value of the baseline.
        low: the lower end of the 95 % bootstrap interval of the mean; NaN for fewer than two files.
        high: the upper end of the interval.
        better: the number of files for which the system is better, given the direction of the metric.
        worse: the number of files for which the system is worse.
        equal: the number of files with the same value, to 9 digits.
        p: the two-sided p-value of the paired permutation test.
        p_holm: the p-value after Holm's correction for the number of tests.
        exact: True if the test tried all sign flips, False if it tried a random sample.
        permutations: the number of sign flips that were tried.
        smallest_p: the smallest p-value that is possible with this number of files.
        over_seeds: whether the interval covers seeds or listeners in addition to files.
    """

    metric: str
    system: str
    higher_is_better: bool
    mean: float
    low: float
    high: float
    better: int
    worse: int
    equal: int
    p: float
    p_holm: float
    exact: bool
    permutations: int
    smallest_p: float
    over_seeds: bool

    @property
    def files(self) -> int:
        """The number of files."""
        return self.better + self.worse + self.equal

    @property
    def improvement(self) -> float:
        """The mean difference with the sign chosen so that a positive number means that the system is better."""
        return self.mean if self.higher_is_better else -self.mean

    @property
    def verdict(self) -> str:
        """`better` or `worse` if the difference is significant, and "" otherwise.

        A difference is significant if the corrected p-value is below 0.05. With several seeds or listeners, the
        interval must exclude zero, too: it covers the seeds or listeners, but the test of scores covers only the files.
        """
        significant = self.p_holm < SIGNIFICANT and not (self.over_seeds and self.low <= 0 <= self.high)
        return ("better" if self.improvement > 0 else "worse") if significant and self.mean else ""

    def to_json(self) -> dict[str, Any]:
        """Returns the attributes for `json.dumps`, with None instead of NaN."""
        numbers = {
            "difference": self.mean, "low": self.low, "high": self.high, "improvement": self.improvement,
            "p": self.p, "p_holm": self.p_holm, "smallest_p": self.smallest_p,
        }  # fmt: skip
        return {
            "metric": self.metric,
            "system": self.system,
            "files": self.files,
            **{key: finite_or_none(value) for key, value in numbers.items()},
            "exact": self.exact,
            "permutations": self.permutations,
            "better": self.better,
            "worse": self.worse,
            "equal": self.equal,
            "over_seeds": self.over_seeds,
            "verdict": self.verdict,
        }


def system_mean(values: _Array, *, interval: bool = True) -> SystemMean:
    """Computes the mean of a metric for one system.

    Args:
        values: the finite values, [seeds, files].
        interval: whether to compute the interval, which takes most of the time. If False, its ends are NaN.
    """
    if not values.shape[1]:
        return SystemMean(math.nan, math.nan, math.nan, len(values), math.nan)
    files, seeds = values.mean(axis=0).tolist(), values.mean(axis=1).tolist()
    low, high = math.nan, math.nan
    if interval:
        low, high = two_level_interval(files, seeds) if len(seeds) > 1 else bootstrap_interval(files)
    deviation = statistics.stdev(seeds) if len(seeds) > 1 else math.nan
    return SystemMean(math.fsum(files) / len(files), low, high, len(seeds), deviation)


def file_differences(baseline: _Array, system: _Array) -> _Array:
    """Averages over the seeds, and returns the difference system minus baseline for each file, [files].

    Values that agree to 9 digits have the difference 0.

    Args:
        baseline: the values of the baseline, [seeds, files]; NaN for a missing value.
        system: the values of the system, [seeds, files]. The number of seeds may differ from the baseline.
    """
    before, after = baseline.mean(axis=0), system.mean(axis=0)
    difference: _Array = np.where(np.isclose(before, after, rtol=_EQUAL, atol=0), 0.0, after - before)
    return difference


def paired_difference(
    metric: str, system_name: str, baseline: _Array, system: _Array, *, higher_is_better: bool = True
) -> PairedDifference:
    """Compares a system with the baseline in one metric. `p_holm` is not corrected yet: see `corrected`.

    If both systems have one seed, the interval is a BCa bootstrap interval over the files. Otherwise, it covers files
    and seeds (`two_level_interval`).

    Args:
        metric: the name of the metric.
        system_name: the name of the system.
        baseline: the finite values of the baseline, [seeds, files].
        system: the finite values of the system for the same files, [seeds, files]. The number of seeds may differ.
        higher_is_better: whether a higher number is better.
    """
    differences = file_differences(baseline, system).tolist()
    over_seeds = max(len(baseline), len(system)) > 1
    mean = math.fsum(differences) / len(differences) if differences else math.nan
    low, high = bootstrap_interval(differences) if not over_seeds else (math.nan, math.nan)
    if over_seeds and differences:
        low, high = two_level_interval(differences, (-baseline.mean(axis=1)).tolist(), system.mean(axis=1).tolist())
    test = sign_flip_test(differences)
    up, down = sum(value > 0 for value in differences), sum(value < 0 for value in differences)
    better, worse = (up, down) if higher_is_better else (down, up)
    return PairedDifference(
        metric, system_name, higher_is_better, mean, low, high, better, worse, len(differences) - up - down,
        test.p, test.p, test.exact, test.permutations, test.smallest_p, over_seeds,
    )  # fmt: skip


def corrected(differences: Sequence[PairedDifference]) -> tuple[PairedDifference, ...]:
    """Returns the differences with `p_holm` set by Holm's method, which corrects for the number of differences."""
    p_values = holm([difference.p for difference in differences])
    return tuple(replace(difference, p_holm=p) for difference, p in zip(differences, p_values, strict=True))
