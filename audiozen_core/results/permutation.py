"""The paired permutation test, and Holm's correction for several tests."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

DRAWS = 49_999
"""The number of random sign flips, if more than 50,000 sign flips exist. The observed signs count as one more."""

SEED = 0
"""The seed of the random sign flips. It is fixed, so the same differences always have the same p-value."""

# The number of bytes of signs that are drawn at once for each flip, which is 50 MB for all flips. The number is a
# multiple of 4, because the generator makes 4 bytes at a time. The signs are therefore the same as in a single draw.
_COLUMNS = 1000

# Two sums count as equal if they differ by less than this fraction of the sum of the absolute differences.
_ROUNDING = 1e-12


@dataclass(frozen=True, slots=True)
class PermutationTest:
    """The result of a paired permutation test.

    Attributes:
        p: the two-sided p-value; NaN if there are no pairs.
        exact: True if all sign flips were tried, False if a random sample was tried.
        permutations: the number of sign flips that were tried.
        smallest_p: the smallest p-value that is possible with this number of pairs that differ.
    """

    p: float
    exact: bool
    permutations: int
    smallest_p: float


def sign_flip_test(differences: Sequence[float]) -> PermutationTest:
    """Tests whether the mean of paired differences is zero, with a permutation test that swaps the values of pairs.

    If two systems were equally good, each difference could just as well have the opposite sign (Fisher, "The Design of
    Experiments", 1935). The p-value is the fraction of all sign flips whose mean is at least as far from zero as the
    observed mean. Pairs with a difference of zero have no sign, so they are not flipped.

    If more than 50,000 sign flips exist, 49,999 of them are drawn with a fixed seed. The observed signs count as one
    more flip. For this reason p is never zero, and the test does not reject too often (Phipson and Smyth, "Permutation
    P-values Should Never Be Zero", 2010).

    Args:
        differences: finite numbers, one for each pair.

    Example:
        >>> sign_flip_test([1.0, 2.0, 3.0])
        PermutationTest(p=0.25, exact=True, permutations=8, smallest_p=0.25)
    """
    return _test(tuple(sorted(differences)))


@functools.lru_cache(4096)  # the table and the JSON file use the same tests
def _test(differences: tuple[float, ...]) -> PermutationTest:
    if not differences:
        return PermutationTest(math.nan, True, 0, math.nan)
    # The values are sorted, so p depends neither on the order of the files nor on which system is the baseline.
    flipped = np.sort(np.abs(np.array([value for value in differences if value], np.float64)))
    count = len(flipped)
    if not count:
        return PermutationTest(1.0, True, 1, 1.0)
    observed = abs(math.fsum(differences)) - _ROUNDING * float(flipped.sum())
    if 2**count <= DRAWS + 1:
        numbers = np.arange(2**count)
        sums = _sums(np.stack([numbers >> shift & 255 for shift in range(0, count, 8)]), flipped)
        extreme = int((np.abs(sums) >= observed).sum())
        return PermutationTest(extreme / 2**count, True, 2**count, 2 / 2**count)
    columns, generator = math.ceil(count / 8), np.random.default_rng(SEED)
    sums = np.zeros(DRAWS)
    for begin in range(0, columns, _COLUMNS):
        drawn = generator.integers(0, 256, (min(_COLUMNS, columns - begin), DRAWS), np.uint8)
        sums += _sums(drawn, flipped[8 * begin : 8 * (begin + _COLUMNS)])
    extreme = int((np.abs(sums) >= observed).sum())
    return PermutationTest((extreme + 1) / (DRAWS + 1), False, DRAWS, 1 / (DRAWS + 1))


def _sums(
    signs: np.ndarray[Any, Any], flipped: np.ndarray[Any, np.dtype[np.float64]]
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Returns the sum of the differences for each sign flip, [flips].

    Args:
        signs: the signs of eight pairs in each byte, [bytes, flips].
        flipped: the absolute differences, [pairs].
    """
    # For each group of eight pairs, the sums for all 256 sign patterns are computed once and then looked up.
    bits = (np.arange(256)[:, None] >> np.arange(8) & 1) * 2.0 - 1
    padded = np.pad(flipped, (0, 8 * len(signs) - len(flipped)))
    sums = np.zeros(signs.shape[1])
    for eight, column in zip(padded.reshape(-1, 8), signs, strict=True):
        sums += (bits @ eight)[column]
    return sums


def holm(p_values: Sequence[float]) -> list[float]:
    """Corrects p-values for the number of tests.

    Holm, "A Simple Sequentially Rejective Multiple Test Procedure", 1979. If tests with a corrected p-value below 0.05
    are called significant, the probability of one or more false positives is at most 5 %. This holds even if the tests
    depend on each other.

    Args:
        p_values: the p-values of all tests. NaN means that a test was impossible; such tests are not counted.

    Returns:
        The corrected p-values, in the same order.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    order = sorted((p, index) for index, p in enumerate(p_values) if not math.isnan(p))
    corrected = [math.nan] * len(p_values)
    largest = 0.0
    for rank, (p, index) in enumerate(order):
        largest = max(largest, min(1.0, p * (len(order) - rank)))
        corrected[index] = largest
    return corrected
