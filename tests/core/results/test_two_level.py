"""The interval over files and seeds is as wide as both require. `benchmarks/interval_coverage.py` has more cases."""

import math

import numpy as np
import pytest

from audiozen_core.results.two_level import two_level_interval
from benchmarks.interval_coverage import coverage


def width(values, *seed_means):
    low, high = two_level_interval(values, *seed_means)
    return high - low


VALUES = np.random.default_rng(0).normal(1.0, 1.0, 200).tolist()


def test_without_seeds_it_is_the_t_interval_of_the_mean():
    stats = pytest.importorskip("scipy.stats")
    few = VALUES[:8]
    low, high = two_level_interval(few, [1.0], [2.0])
    # The bootstrap variance of n values is (n - 1) / n of the usual one.
    error = np.std(few) / math.sqrt(8)
    theirs = stats.t.interval(0.95, 7, np.mean(few), error)
    assert (low, high) == pytest.approx(theirs, abs=0.05 * error * 2.4)


def test_seeds_make_it_wider_and_it_is_the_welch_interval_if_the_files_hardly_vary():
    stats = pytest.importorskip("scipy.stats")
    means = [0.0, 0.4, -0.4, 0.1, -0.1, 0.3, -0.3, 0.2, -0.2, 0.0]
    nearly_equal = [1.0 + value / 1e6 for value in VALUES]
    low, high = two_level_interval(nearly_equal, means)
    error = np.std(means, ddof=1) / math.sqrt(10)
    assert (low, high) == pytest.approx(stats.t.interval(0.95, 9, 1.0, error), abs=0.05 * error * 2.3)
    assert width(VALUES, means) > width(VALUES)


def test_two_seeds_are_less_certain_than_ten_of_the_same_variance():
    assert width(VALUES, [-0.5, 0.5]) > 2 * width(VALUES, [-0.5, 0.5] * 5)


def test_equal_values_and_seeds_have_an_interval_without_width_and_one_file_has_none():
    assert two_level_interval([2.0, 2.0, 2.0], [1.0, 1.0]) == (2.0, 2.0)
    assert all(map(math.isnan, two_level_interval([2.0], [1.0, 3.0])))


def test_it_is_the_same_in_each_call_and_a_higher_level_is_wider():
    assert two_level_interval(VALUES, [1, 2]) == two_level_interval(tuple(VALUES), (1, 2))
    low, high = two_level_interval(VALUES, [1, 2], level=0.99)
    assert high - low > width(VALUES, [1, 2])


def test_it_contains_the_true_difference_about_as_often_as_it_says():
    found = coverage(80, (3, 3), 0.3)
    assert 0.90 <= found["compare"][0] <= 0.99
    assert found["files only"][0] < 0.85, "the negative control: the seeds do matter"


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [(2, 2), (3, 3), (5, 5), (3, 5)], ids=str)
def test_coverage_is_close_to_nominal_for_few_seeds(seeds):
    found = coverage(300, seeds, 0.3)
    assert 0.90 <= found["compare"][0] <= 0.985
