"""The learning rate that is read from a curve, and the reasons why none can be read."""

import itertools
import math
import random

import pytest

from audiozen_core.tuning.lr_curve import RangeTestCurve, exponential_means, rates_between

RATES = rates_between(1e-6, 1.0, 120)


def valley(rate, at=1e-2, depth=10.0):
    """A loss that falls towards `at` on a logarithmic axis, and rises after it."""
    distance = math.log10(rate / at)
    return -depth * math.exp(-(distance**2) / (2.0 if distance < 0 else 0.2))


def curve_of(loss, *, noise=0.0, rates=RATES, seed=0):
    generator = random.Random(seed)
    return RangeTestCurve(rates, loss(rates[0]), [loss(rate) + generator.gauss(0, noise) for rate in rates])


@pytest.mark.parametrize("offset", [0.0, 100.0, -100.0])  # SI-SNR losses are negative
@pytest.mark.parametrize("noise", [0.0, 0.5, 1.5])
def test_suggestion_is_a_tenth_of_the_rate_with_the_lowest_loss(offset, noise):
    for seed in range(10):
        suggestion = curve_of(lambda rate: valley(rate) + offset, noise=noise, seed=seed).suggest()
        assert suggestion.rate == pytest.approx(RATES[suggestion.lowest] / 10)
        assert 4e-4 < suggestion.rate < 1.5e-3  # smoothing moves it to the flat side of the valley


def test_the_mean_of_the_past_alone_would_be_late():
    curve = curve_of(valley)
    means = exponential_means(curve.losses, curve.span)
    assert RATES[min(range(len(means)), key=means.__getitem__)] > 1.1e-2
    assert RATES[curve.suggest().lowest] < 1e-2


def test_a_huge_loss_at_the_end_does_not_move_the_suggestion():
    plain = curve_of(valley)
    losses = [*plain.losses[:100], 1e12]
    exploded = RangeTestCurve(RATES, plain.start, losses)
    assert exploded.diverges
    assert exploded.suggest("it diverged").lowest == plain.suggest().lowest


@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_noise_alone_suggests_nothing(noise):
    for seed in range(50):
        suggestion = curve_of(lambda rate: 5.0, noise=noise, seed=seed).suggest()
        assert suggestion.rate is None
        assert "never falls" in suggestion.problem


def test_noise_alone_does_not_diverge():
    for seed in range(50):
        curve = curve_of(lambda rate: -5.0, noise=1.0, seed=seed)
        assert not any(RangeTestCurve(RATES, curve.start, curve.losses[:count]).diverges for count in range(len(RATES)))


@pytest.mark.parametrize("offset", [0.0, -100.0])
def test_a_loss_that_rises_above_its_start_diverges(offset):
    def loss(rate):
        return offset + (valley(rate) if rate < 1e-2 else -10 + 60 * math.log10(rate / 1e-2))

    curve = curve_of(loss, noise=0.5)
    ends = next(
        count for count in range(len(RATES)) if RangeTestCurve(RATES, curve.start, curve.losses[:count]).diverges
    )
    # From -10, it reaches +10 a third of a decade above 1e-2.
    assert 1e-2 * 10 ** (1 / 3) < RATES[ends - 1] < 1e-1


def test_a_loss_that_rises_at_once_suggests_nothing():
    suggestion = curve_of(math.log10).suggest()
    assert suggestion.rate is None
    assert "never falls" in suggestion.problem


@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_a_loss_that_falls_to_the_end_asks_for_a_higher_rate(noise):
    suggestion = curve_of(lambda rate: -math.log10(rate), noise=noise).suggest()
    assert suggestion.rate is None
    assert "is still falling at the highest rate" in suggestion.problem
    assert suggestion.remedy == "raise --max above 1"


def test_a_lowest_loss_near_the_first_rate_asks_for_a_lower_one():
    suggestion = curve_of(lambda rate: valley(rate, at=8e-6)).suggest()
    assert suggestion.rate is None
    assert "too close to the lowest rate" in suggestion.problem
    assert suggestion.remedy == "lower --min, which is 1e-06"


def test_few_points_suggest_nothing():
    curve = RangeTestCurve(RATES, 1.0, [])
    assert (curve.smoothed, curve.ceiling, curve.diverges) == ([], 1.0, False)
    assert curve.suggest("a loss was not finite").problem == "the test has only 0 points, because a loss was not finite"
    suggestion = RangeTestCurve(RATES, 1.0, [1.0, 0.9, 0.5]).suggest("a loss was not finite")
    assert suggestion.rate is None
    assert suggestion.problem == "the test has only 3 points, because a loss was not finite"


def test_rates_rise_by_the_same_factor():
    rates = rates_between(1e-5, 1e-1, 9)
    assert rates[0] == pytest.approx(1e-5, rel=1e-12)
    assert rates[-1] == pytest.approx(1e-1, rel=1e-12)
    assert [after / before for before, after in itertools.pairwise(rates)] == pytest.approx([10**0.5] * 8)
