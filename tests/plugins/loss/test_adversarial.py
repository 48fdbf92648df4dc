import math

import pytest
import torch
from torch import nn

from audiozen.loss import HingeGanLoss, JudgedSignals, LeastSquaresGanLoss, MetricGanLoss
from audiozen_core.errors import RunError

CLEAN = torch.tensor([[1.0, -1.0, 2.0, 0.5], [0.5, 0.5, -1.0, 0.0]])
ENHANCED = torch.tensor([[0.5, -0.5, 1.0, 0.5], [1.0, 0.0, -1.0, 0.5]])
NOISY = torch.tensor([[2.0, -1.0, 1.0, 0.0], [1.0, 1.0, 1.0, -1.0]])
SIGNALS = JudgedSignals(ENHANCED, CLEAN, NOISY, 16000)


def two_parts(wave):
    """Two judgements, with one feature each. The scores are the first two samples of the wave."""
    return [[2 * wave, wave[:, 0]], [wave[:, 2:], wave[:, 1:2]]]


def test_least_squares_draw_clean_to_one_and_enhanced_to_zero():
    loss = LeastSquaresGanLoss()
    clean = ((1 - 1) ** 2 + (0.5 - 1) ** 2) / 2, ((-1 - 1) ** 2 + (0.5 - 1) ** 2) / 2
    enhanced = (0.5**2 + 1**2) / 2, (0.5**2 + 0) / 2
    assert float(loss.discriminator_loss(two_parts, SIGNALS)) == pytest.approx(sum(clean) / 2 + sum(enhanced) / 2)
    generator = (0.5**2 + 0) / 2, (1.5**2 + 1) / 2
    assert float(loss.generator_loss(two_parts, SIGNALS)) == pytest.approx(sum(generator) / 2)


def test_hinge_is_zero_beyond_the_margin():
    loss = HingeGanLoss()
    clean = (0 + 0.5) / 2, (2 + 0.5) / 2
    enhanced = (1.5 + 2) / 2, (0.5 + 1) / 2
    assert float(loss.discriminator_loss(two_parts, SIGNALS)) == pytest.approx(sum(clean) / 2 + sum(enhanced) / 2)
    assert float(loss.generator_loss(two_parts, SIGNALS)) == pytest.approx(-(0.75 - 0.25) / 2)


def test_features_of_enhanced_speech_are_drawn_to_those_of_clean_speech():
    plain, loss = HingeGanLoss(), HingeGanLoss(feature_weight=3.0)
    difference = (ENHANCED - CLEAN).abs()
    features = (2 * difference.mean() + difference[:, 2:].mean()) / 2
    expected = plain.generator_loss(two_parts, SIGNALS) + 3 * features
    assert float(loss.generator_loss(two_parts, SIGNALS)) == pytest.approx(float(expected))
    assert float(loss.recorded_scalars["features"]) == pytest.approx(float(features))
    with pytest.raises(ValueError, match="a discriminator that returns features"):
        loss.generator_loss(lambda wave: [[wave]], SIGNALS)


class FirstSample:
    """A metric from 0 to 10: five times the first sample of the estimate. It is NaN if that is 1."""

    name, label, unit, higher_is_better = "first", "First", "", True

    def __call__(self, estimate, reference, *, sr):
        assert sr == 16000
        return math.nan if estimate[0] == 1 else 5 * float(estimate[0])


def compared(estimate, clean):
    """The scores are the mean absolute difference."""
    return [[(estimate - clean).abs().mean(1)]]


def metric_gan(**args):
    return MetricGanLoss(FirstSample(), worst=0.0, best=10.0, **args)


def test_metric_discriminator_learns_the_normalised_metric():
    loss = metric_gan(noisy=False)
    # Enhanced: 0.25 for the first clip, and no value for the second one. Clean: 1.
    first = ((ENHANCED - CLEAN)[0].abs().mean() - 0.25) ** 2
    assert float(loss.discriminator_loss(compared, SIGNALS)) == pytest.approx(float((first + 1 + 1) / 2))
    assert float(loss.recorded_scalars["first"]) == pytest.approx(2.5)
    # Noisy: 10 is clipped to 1, and the second clip has no value.
    noisy = ((NOISY - CLEAN)[0].abs().mean() - 1) ** 2
    both = metric_gan().discriminator_loss(compared, SIGNALS)
    assert float(both) == pytest.approx(float((first + noisy + 1 + 1) / 2))


def test_generator_is_drawn_to_the_best_metric():
    expected = ((ENHANCED - CLEAN).abs().mean(1) - 1).square().mean()
    assert float(metric_gan().generator_loss(compared, SIGNALS)) == pytest.approx(float(expected))


def test_clips_without_a_value_contribute_no_gradient():
    network = nn.Linear(4, 1)
    loss = metric_gan(noisy=False).discriminator_loss(
        lambda estimate, clean: [[network(estimate)]], JudgedSignals(ENHANCED[1:], CLEAN[1:], NOISY[1:], 16000)
    )
    loss.backward()
    expected = 2 * (network(CLEAN[1:]).detach() - 1) * CLEAN[1:]
    torch.testing.assert_close(network.weight.grad, expected)


def test_replay_keeps_the_newest_clips_with_their_scores():
    loss = metric_gan(replay=2, replay_samples=3)
    for start in (0.5, 0.25, 0.75):
        enhanced = torch.stack([torch.full((4,), start) + CLEAN[0], CLEAN[1] * 2])
        enhanced[:, 0] = torch.tensor([start, 1.0])  # the second clip has no value
        loss.discriminator_loss(compared, JudgedSignals(enhanced, CLEAN, NOISY, 16000))
    assert loss.kept_scores.tolist() == [0.375, 0.125]
    assert int(loss.kept_count) == 3
    torch.testing.assert_close(loss.kept[:, 0, 0], torch.tensor([0.75, 0.25]))
    assert torch.equal(loss.kept[:, 1], CLEAN[:1, :3].expand(2, -1))
    assert set(loss.state_dict()) == {"kept", "kept_scores", "kept_count"}
    # The discriminator learns from what is kept, but an evaluation keeps nothing.
    loss.eval()
    one = JudgedSignals(ENHANCED[:1], CLEAN[:1], NOISY[:1], 16000)
    torch.manual_seed(0)
    value = loss.discriminator_loss(compared, one)
    torch.manual_seed(0)
    drawn = int(torch.randint(2, (1,)))
    estimate, clean = loss.kept[drawn]
    kept = ((estimate - clean).abs().mean() - loss.kept_scores[drawn]) ** 2
    without = metric_gan().discriminator_loss(compared, one)
    assert float(value) == pytest.approx(float(without + kept))
    assert int(loss.kept_count) == 3


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({}, "needs the worst and the best value"),
        ({"worst": 1.0, "best": 1.0}, "are both 1.0"),
        ({"worst": 2.0, "best": 1.0}, "is better when higher, but `worst` is 2.0"),
    ],
)
def test_range_of_a_metric_must_be_known_and_have_its_direction(args, message):
    with pytest.raises(RunError, match=message):
        MetricGanLoss(FirstSample(), **args)


def test_metric_that_has_no_value_is_one_warning(capsys):
    loss = metric_gan(noisy=False)
    for _ in range(2):
        loss.discriminator_loss(compared, JudgedSignals(ENHANCED[1:], CLEAN[1:], NOISY[1:], 16000))
    out = capsys.readouterr()
    assert (out.out + out.err).count("has no value for any clip of a batch") == 1
    assert "first" not in loss.recorded_scalars
