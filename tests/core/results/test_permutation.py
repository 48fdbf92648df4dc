"""The sign-flip test and Holm's correction agree with hand-computed cases and with SciPy."""

import itertools
import math

import numpy as np
import pytest

from audiozen_core.results import permutation
from audiozen_core.results.permutation import DRAWS, holm, sign_flip_test


def by_enumeration(differences):
    """Returns the p-value by the definition: the part of all sign flips that are at least as extreme."""
    observed = abs(sum(differences))
    flips = list(itertools.product((1, -1), repeat=len(differences)))
    sums = [abs(sum(sign * value for sign, value in zip(signs, differences, strict=True))) for signs in flips]
    return sum(value >= observed - 1e-9 for value in sums) / len(flips)


@pytest.mark.parametrize(
    ("differences", "p", "smallest"),
    [
        ([1.0], 1.0, 1.0),
        ([1.0, 2.0], 0.5, 0.5),
        ([1.0, 2.0, 3.0], 0.25, 0.25),
        ([-1.0, 2.0, 3.0], 0.5, 0.25),  # sums 6, 4, 2, 0 and their negatives; |sum| >= 4 in 4 of 8
        ([0.1, 0.2, -0.3], 1.0, 0.25),  # the sum is zero up to rounding, so every flip is as extreme
        ([0.0, 1.0, 0.0, 2.0], 0.5, 0.5),
    ],
)
def test_few_pairs_have_the_p_value_that_is_computed_by_hand(differences, p, smallest):
    found = sign_flip_test(differences)
    assert (found.p, found.smallest_p, found.exact) == (p, smallest, True)


def test_exact_test_is_the_definition_for_differences_with_ties_and_zeros():
    generator = np.random.default_rng(0)
    for _ in range(20):
        differences = (generator.integers(-3, 5, 8) / 10).tolist()
        assert sign_flip_test(differences).p == by_enumeration(differences)


def test_exact_test_agrees_with_scipy():
    stats = pytest.importorskip("scipy.stats")
    for seed, count in ((1, 5), (2, 8), (3, 10)):
        sample = np.random.default_rng(seed).normal(0.4, 1, count)
        theirs = stats.permutation_test((sample,), np.mean, permutation_type="samples", n_resamples=np.inf)
        assert sign_flip_test(sample.tolist()).p == pytest.approx(theirs.pvalue, abs=1e-12)


def test_random_sign_flips_agree_with_all_of_them_and_with_scipy():
    stats = pytest.importorskip("scipy.stats")
    sample = np.random.default_rng(4).normal(0.4, 1, 17)
    found = sign_flip_test(sample.tolist())
    assert (found.exact, found.permutations, found.smallest_p) == (False, DRAWS, 1 / (DRAWS + 1))
    theirs = stats.permutation_test(
        (sample,), lambda values, axis: values.mean(axis=axis), permutation_type="samples", n_resamples=np.inf,
        vectorized=True, batch=20_000,
    )  # fmt: skip
    # Four standard errors of the random p-value.
    assert abs(found.p - theirs.pvalue) < 4 * math.sqrt(theirs.pvalue / DRAWS)


def test_random_test_counts_the_observed_signs_so_that_p_is_never_zero():
    found = sign_flip_test([5.0 + number / 100 for number in range(40)])
    assert found.p == found.smallest_p == 1 / 50_000


def test_the_same_differences_have_the_same_p_value_and_the_sign_does_not_matter():
    sample = np.random.default_rng(5).normal(0.1, 1, 50).tolist()
    assert sign_flip_test(sample).p == sign_flip_test([-value for value in sample]).p == sign_flip_test(tuple(sample)).p


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_scale_of_the_metric_does_not_matter(scale):
    sample = np.random.default_rng(6).normal(0.5, 1, 12)
    assert sign_flip_test((sample * scale).tolist()).p == sign_flip_test(sample.tolist()).p


def test_no_pair_and_no_difference_are_no_evidence():
    assert math.isnan(sign_flip_test([]).p)
    assert sign_flip_test([0.0] * 30).p == 1.0


def test_p_values_are_uniform_if_the_systems_are_equal():
    generator = np.random.default_rng(7)
    p_values = np.sort([sign_flip_test(generator.standard_t(3, 9).tolist()).p for _ in range(400)])
    # The Kolmogorov-Smirnov distance; its 99.9 % quantile for 400 uniform numbers is 0.0975.
    assert np.abs(p_values - (np.arange(400) + 0.5) / 400).max() < 0.0975
    biased = np.sort([sign_flip_test(generator.normal(0.3, 1, 9).tolist()).p for _ in range(400)])
    assert np.abs(biased - (np.arange(400) + 0.5) / 400).max() > 0.0975, "the negative control"


def test_holm_is_the_published_procedure():
    # Holm (1979): the smallest p-value times 4, the next times 3, …, and never less than the one before.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([0.02]) == [0.02]
    assert holm([]) == []


def test_holm_agrees_with_statsmodels():
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    p_values = np.random.default_rng(8).uniform(0, 0.2, 25)
    assert holm(p_values.tolist()) == pytest.approx(multitest.multipletests(p_values, method="holm")[1].tolist())


def test_holm_does_not_count_tests_that_were_not_possible():
    found = holm([0.01, math.nan, 0.04])
    assert math.isnan(found[1])
    assert [found[0], found[2]] == [0.02, 0.04]


def test_neither_the_order_nor_the_baseline_makes_a_difference():
    differences = np.random.default_rng(5).normal(0.2, 1, 40)
    expected = sign_flip_test(differences)
    assert 0.01 < expected.p < 0.99
    assert sign_flip_test(np.random.default_rng(6).permutation(differences)) == expected
    assert sign_flip_test(-differences) == expected


def test_signs_drawn_in_blocks_are_those_of_one_draw(monkeypatch):
    differences = np.random.default_rng(1).normal(0.05, 1, 300).tolist()
    permutation._test.cache_clear()
    expected = permutation.sign_flip_test(differences)
    permutation._test.cache_clear()
    monkeypatch.setattr(permutation, "_COLUMNS", 4)
    assert permutation.sign_flip_test(differences) == expected
    permutation._test.cache_clear()
