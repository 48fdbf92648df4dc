"""The loss, the metric, the data set and the network by themselves."""

import itertools

import numpy as np
import pytest
import torch
from audiozen.audio import write_audio
from audiozen.errors import DataError

from audiozen_plugin_separation.dataset import TwoSpeakers
from audiozen_plugin_separation.loss import PitSiSnrLoss
from audiozen_plugin_separation.metric import Pit
from audiozen_plugin_separation.model import SmallTasNet

SR = 8000


def si_sdr(estimate, source):
    """Returns the SI-SDR of two waveforms in dB, independently of AudioZEN."""
    estimate, source = (
        np.asarray(wave, np.float64) - np.asarray(wave, np.float64).mean() for wave in (estimate, source)
    )
    target = estimate @ source / (source @ source) * source
    return 10 * np.log10(target @ target / ((estimate - target) @ (estimate - target)))


def best_mean(estimates, sources, value=si_sdr, choose=max):
    """Tries all orders of the estimates of one signal, one after the other."""
    return choose(
        np.mean([value(one.numpy(), other.numpy()) for one, other in zip(ordered, sources, strict=True)])
        for ordered in itertools.permutations(estimates)
    )


def draw(*shape, seed=0):
    """Returns sources, and noisy estimates of them in an order that differs between the signals of the batch."""
    generator = torch.Generator().manual_seed(seed)
    sources = torch.randn(*shape, generator=generator)
    orders = torch.stack([torch.randperm(shape[1], generator=generator) for _ in range(shape[0])])
    shuffled = torch.stack([signal[order] for signal, order in zip(sources, orders, strict=True)])
    return shuffled + 0.7 * torch.randn(*shape, generator=generator), sources


# ------------------------------------------------------------------------------- permutations


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_loss_and_metric_are_those_of_the_best_of_all_orders(count):
    estimates, sources = draw(5, count, 200, seed=count)
    expected = [best_mean(*pair) for pair in zip(estimates, sources, strict=True)]
    assert PitSiSnrLoss()(estimates, sources).item() == pytest.approx(-np.mean(expected), abs=1e-4)
    metric = Pit("si_sdr")
    found = [metric(one, other, sr=SR) for one, other in zip(estimates, sources, strict=True)]
    assert found == pytest.approx(expected, abs=1e-9)
    in_this_order = np.mean([si_sdr(*pair) for pair in zip(estimates[0], sources[0], strict=True)])
    assert count == 1 or not np.isclose(in_this_order, expected[0])


def test_order_of_the_sources_does_not_matter():
    estimates, sources = draw(3, 3, 200)
    loss = PitSiSnrLoss()(estimates, sources)
    for order in itertools.permutations(range(3)):
        torch.testing.assert_close(PitSiSnrLoss()(estimates, sources[:, order]), loss, rtol=0, atol=1e-5)
        torch.testing.assert_close(PitSiSnrLoss()(estimates[:, order], sources), loss, rtol=0, atol=1e-5)


def test_each_signal_of_a_batch_has_an_order_of_its_own():
    _, sources = draw(2, 2, 200)
    crossed = torch.stack([sources[0], sources[1].flip(0)])
    assert PitSiSnrLoss()(crossed, sources) < -60


def test_assignment_brings_the_estimates_into_the_order_of_the_sources():
    _, sources = draw(1, 3, 200)
    estimates = sources[0, [1, 2, 0]] + 0.01  # this order is not its own inverse
    mean, assignment = Pit().rate(estimates, sources[0], sr=SR)
    assert mean == np.inf
    assert assignment == [2, 0, 1]
    torch.testing.assert_close(estimates[assignment] - 0.01, sources[0])


def test_metric_gets_what_it_needs_besides_the_sources():
    estimates, sources = draw(1, 2, 200)
    mixture = sources[0].sum(0)
    metric = Pit("si_sdr_improvement")
    assert metric.needs == ("clean", "noisy")
    improved = metric(estimates[0], sources[0], sr=SR, noisy=mixture.expand(2, -1))
    before = np.mean([si_sdr(mixture, source) for source in sources[0]])
    assert improved == pytest.approx(Pit("si_sdr")(estimates[0], sources[0], sr=SR) - before, abs=1e-9)


def test_gradient_is_that_of_the_best_order():
    estimates, sources = draw(1, 2, 200)
    found = estimates.clone().requires_grad_()
    PitSiSnrLoss()(found, sources).backward()
    gradients = []
    for order in ([0, 1], [1, 0]):
        leaf = estimates.clone().requires_grad_()
        # One source at a time, so that there is only one order.
        loss = sum(PitSiSnrLoss()(leaf[:, [i]], sources[:, [j]]) for i, j in enumerate(order)) / 2
        loss.backward()
        gradients.append((loss.item(), leaf.grad))
    (_, best), (_, other) = sorted(gradients, key=lambda pair: pair[0])
    torch.testing.assert_close(found.grad, best)
    assert not torch.allclose(found.grad, other)


class Distance:
    """A metric for which lower is better."""

    name, label, unit, higher_is_better = "distance", "distance", "", False

    def __call__(self, estimate, reference, *, sr):
        return float((estimate - reference).abs().mean())


def test_pit_of_a_metric_for_which_lower_is_better_is_the_lowest():
    estimates, sources = draw(1, 3, 200)
    metric = Pit(Distance())
    expected = best_mean(estimates[0], sources[0], lambda one, other: np.abs(one - other).mean(), min)
    assert metric(estimates[0], sources[0], sr=SR) == pytest.approx(expected)
    assert (metric.name, metric.higher_is_better) == ("pit_distance", False)


def test_silent_source_has_no_value():
    estimates, sources = draw(1, 2, 200)
    sources[0, 1] = 0
    assert np.isnan(Pit()(estimates[0], sources[0], sr=SR))


def test_shapes_that_differ_are_an_error():
    with pytest.raises(ValueError, match=r"estimates \[2, 3, 9\], sources \[2, 2, 9\]"):
        PitSiSnrLoss()(torch.ones(2, 3, 9), torch.ones(2, 2, 9))
    with pytest.raises(ValueError, match=r"estimate \[9\]"):
        Pit()(torch.ones(9), torch.ones(9), sr=SR)


# ------------------------------------------------------------------------------- the data set


@pytest.fixture
def clips(tmp_path):
    """Three clips of two speakers, and one of a third. Each has a constant magnitude, which its file name says."""
    for name, seconds in (("anna/300", 0.1), ("anna/310", 0.2), ("bert/400", 0.15), ("500", 0.12)):
        signs = torch.ones(round(seconds * SR))
        signs[::2] = -1
        write_audio(tmp_path / f"{name}.wav", signs * int(name[-3:]) / 1000, SR, encoding="float")
    return tmp_path


def test_mixture_is_the_sum_of_two_speakers_at_the_levels_that_were_drawn(clips):
    items = [TwoSpeakers(clips, SR, level_range=(3, 6), items=40, fixed=True)[index] for index in range(40)]
    for item in items:
        assert torch.equal(item["noisy"], item["source_1"] + item["source_2"])
        one, two = (float(item[f"source_{number}"].square().mean()) for number in (1, 2))
        assert 3 <= round(10 * np.log10(one / two), 4) <= 6
        assert one * two == pytest.approx(0.05**4, rel=1e-4)
    pairs = {tuple(item["id"].split("_")[1:]) for item in items}
    assert ("300", "310") not in pairs
    assert ("310", "300") not in pairs
    assert {first for first, _ in pairs} == {"300", "310", "400", "500"}
    assert len({item["id"] for item in items}) == 40


def test_items_are_as_long_as_the_shorter_file_or_as_asked_for(clips):
    lengths = {
        tuple(sorted(item["id"].split("_")[1:])): len(item["noisy"]) for item in TwoSpeakers(clips, SR, items=30)
    }
    assert lengths[("310", "400")] == 0.15 * SR
    assert lengths[("300", "400")] == 0.1 * SR
    padded = TwoSpeakers(clips, SR, clip_seconds=0.5)[0]
    assert len(padded["noisy"]) == 0.5 * SR
    assert not padded["noisy"][-1600:].any()


def test_fixed_items_depend_only_on_the_seed(clips):
    first, same, other = (TwoSpeakers(clips, SR, clip_seconds=0.05, fixed=True, seed=seed) for seed in (1, 1, 2))
    torch.manual_seed(5)
    assert all(torch.equal(one["noisy"], two["noisy"]) for one, two in zip(first, same, strict=True))
    assert not all(torch.equal(one["noisy"], two["noisy"]) for one, two in zip(first, other, strict=True))


def test_folders_that_can_not_be_mixed_are_an_error(clips):
    with pytest.raises(DataError, match="only one speaker"):
        TwoSpeakers(clips / "bert", SR)
    write_audio(clips / "anna" / "quiet.wav", torch.zeros(800), SR)
    for path in ("anna/300.wav", "anna/310.wav", "bert/400.wav"):
        (clips / path).unlink()
    with pytest.raises(DataError, match=r"silent.*`.*quiet.wav`"):
        TwoSpeakers(clips, SR)[0]


# ------------------------------------------------------------------------------- the network


@pytest.mark.parametrize("time", [1, 15, 16, 17, 400])
def test_network_returns_signals_of_the_same_length(time):
    assert SmallTasNet(num_sources=3, filters=4)(torch.randn(2, time)).shape == (2, 3, time)
