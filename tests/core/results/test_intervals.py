"""Means have BCa bootstrap intervals, which agree with SciPy and are the same in every call."""

import math

import numpy as np
import pytest

from audiozen_core.results.intervals import bootstrap_interval, mean_with_interval
from audiozen_core.results.two_level import two_level_interval

SKEWED = np.random.default_rng(1).gamma(1.0, 3.0, size=60).tolist()


def test_interval_agrees_with_scipy():
    stats = pytest.importorskip("scipy.stats")
    theirs = stats.bootstrap(
        (np.array(SKEWED),), np.mean, n_resamples=50_000, method="BCa", rng=np.random.default_rng(7)
    ).confidence_interval
    assert bootstrap_interval(SKEWED) == pytest.approx((theirs.low, theirs.high), abs=0.08)
    # The negative control: the plain percentiles of the same resamples differ by more, because the values are skewed.
    plain = stats.bootstrap(
        (np.array(SKEWED),), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(7)
    ).confidence_interval
    assert abs(plain.high - theirs.high) > 0.1


def test_interval_covers_the_true_mean_about_as_often_as_it_says():
    generator = np.random.default_rng(3)
    ends = [bootstrap_interval(generator.normal(2.0, 1.0, size=40).tolist()) for _ in range(100)]
    assert 88 <= sum(low <= 2.0 <= high for low, high in ends) <= 100


def test_same_values_have_the_same_interval_and_a_higher_level_is_wider():
    values = [1.0, 4.0, 2.0, 8.0, 3.0]
    assert bootstrap_interval(values) == bootstrap_interval(list(values))
    low, high = bootstrap_interval(values, level=0.99)
    assert low < bootstrap_interval(values)[0]
    assert high > bootstrap_interval(values)[1]


def test_values_that_are_not_finite_are_counted_and_not_averaged():
    found = mean_with_interval([1.0, math.nan, 3.0, math.inf])
    assert (found.mean, found.count, found.missing) == (2.0, 2, 2)
    none = mean_with_interval([math.nan])
    assert (none.count, none.missing) == (0, 1)
    assert none.to_json() == {"mean": None, "low": None, "high": None, "count": 0, "missing": 1}


def test_one_value_has_no_interval_and_equal_values_have_one_without_width():
    assert all(map(math.isnan, bootstrap_interval([1.0])))
    assert bootstrap_interval([2.0, 2.0]) == (2.0, 2.0)


def test_order_of_the_files_makes_no_difference():
    values = np.random.default_rng(5).exponential(size=40)
    other = np.random.default_rng(6).permutation(values)
    assert list(values) != list(other)
    assert bootstrap_interval(values) == bootstrap_interval(other)
    assert bootstrap_interval(values) != bootstrap_interval(values + 1e-3), "the negative control"
    assert two_level_interval(values, [1.0, 2.0, 4.0]) == two_level_interval(other, [4.0, 1.0, 2.0])


def test_scale_of_the_values_changes_nothing():
    values = [0.3, 1.7, 0.4, 2.5, -0.9, 0.1, 3.3]
    low, high = bootstrap_interval(values)
    for exponent in (-900, 900):  # their cubes would vanish or overflow
        scaled = bootstrap_interval([math.ldexp(value, exponent) for value in values])
        assert scaled == (math.ldexp(low, exponent), math.ldexp(high, exponent))
