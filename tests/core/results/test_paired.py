"""Paired differences have the right direction, counts, means, intervals and verdicts."""

import json
import math

import numpy as np
import pytest

from audiozen_core.results.intervals import bootstrap_interval
from audiozen_core.results.paired import corrected, file_differences, paired_difference, system_mean
from audiozen_core.results.permutation import sign_flip_test


def of(baseline, system, **options):
    rows = (np.atleast_2d(np.asarray(values, np.float64)) for values in (baseline, system))
    return paired_difference("m", "new", *rows, **options)


def test_difference_of_three_files_by_hand():
    found = of([1.0, 2.0, 3.0], [1.5, 3.0, 2.5])
    assert found.mean == pytest.approx(1 / 3)
    assert (found.better, found.worse, found.equal, found.files) == (2, 1, 0, 3)
    # The differences 0.5, 1, -0.5: six of the eight sign flips have a sum of at least 1 (2, 1, 1 and their negatives).
    assert (found.p, found.exact, found.permutations, found.smallest_p) == (0.75, True, 8, 0.25)
    assert found.verdict == ""


def test_lower_is_better_turns_what_is_better_but_not_the_difference():
    higher, lower = (of([1.0] * 8, [0.5] * 8, higher_is_better=higher) for higher in (True, False))
    assert higher.mean == lower.mean == -0.5
    assert (higher.better, higher.worse, higher.improvement, higher.verdict) == (0, 8, -0.5, "worse")
    assert (lower.better, lower.worse, lower.improvement, lower.verdict) == (8, 0, 0.5, "better")


def test_interval_of_single_runs_is_that_of_the_differences_and_not_of_the_means():
    generator = np.random.default_rng(0)
    before = generator.normal(10, 5, 40)
    after = before + generator.normal(0.2, 0.1, 40)
    found = of(before, after)
    assert (found.low, found.high) == bootstrap_interval((after - before).tolist())
    assert found.high - found.low < 0.1, "the files vary by 5"
    assert found.p == sign_flip_test((after - before).tolist()).p


def test_bootstrap_interval_agrees_with_scipy():
    stats = pytest.importorskip("scipy.stats")
    generator = np.random.default_rng(1)
    before, after = generator.gamma(2, 2, 25), generator.gamma(2.2, 2, 25)
    theirs = stats.bootstrap(
        (after, before), lambda x, y, axis: (x - y).mean(axis=axis), paired=True, vectorized=True, n_resamples=8_000,
        rng=np.random.default_rng(2),
    ).confidence_interval  # fmt: skip
    found = of(before, after)
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), abs=0.1)


def test_values_that_agree_to_nine_digits_are_equal():
    assert file_differences(np.array([[0.1 + 0.2, 1.0]]), np.array([[0.3, 1.0 + 1e-6]])).tolist() == [
        0.0,
        pytest.approx(1e-6),
    ]


def test_all_differences_zero():
    found = of([1.0, 2.0, 3.0], [1.0, 2.0, 3.0])
    assert (found.mean, found.low, found.high, found.p, found.equal, found.verdict) == (0.0, 0.0, 0.0, 1.0, 3, "")


@pytest.mark.parametrize(("count", "p"), [(1, 1.0), (2, 0.5), (3, 0.25)])
def test_few_files_can_not_be_significant(count, p):
    found = of([0.0] * count, [1.0] * count)
    assert (found.p, found.smallest_p, found.verdict) == (p, p, "")
    assert math.isnan(found.low) is (count == 1)


def test_no_files_have_no_numbers_and_valid_json():
    found = of(np.empty((1, 0)), np.empty((2, 0)))
    content = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert (content["difference"], content["p"], content["low"], content["files"]) == (None, None, None, 0)


def test_seeds_are_averaged_for_the_test_and_widen_the_interval():
    generator = np.random.default_rng(3)
    before = generator.normal(10, 3, (1, 30))
    after = before + 0.3 + np.array([[-0.5], [0.5]]) + generator.normal(0, 0.1, (2, 30))
    found = of(before, after)
    mean = (after.mean(axis=0) - before[0]).tolist()
    assert found.p == sign_flip_test(mean).p
    assert found.p < 0.001
    assert found.low < 0 < found.high
    assert found.verdict == "", "the files are certain, the seeds are not"
    assert of(before, after.mean(axis=0)).verdict == "better", "the negative control"


def test_mean_of_a_system_has_the_deviation_of_its_seeds():
    found = system_mean(np.array([[1.0, 2.0, 3.0], [2.0, 3.0, 4.0], [3.0, 4.0, 5.0]]))
    assert (found.mean, found.deviation, found.seeds) == (3.0, 1.0, 3)
    assert math.isnan(system_mean(np.array([[1.0, 2.0]])).deviation)


def test_verdict_follows_the_corrected_p_value():
    one = of([0.0] * 6, [1.0, 1.1, 1.2, 0.9, 0.8, 1.0])
    assert (one.p, one.verdict) == (2 / 64, "better")
    assert [each.p_holm for each in corrected([one, one])] == [4 / 64] * 2
    assert corrected([one, one])[0].verdict == ""
