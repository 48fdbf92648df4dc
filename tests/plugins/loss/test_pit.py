"""The loss of permutation-invariant training, against all permutations in NumPy."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from audiozen.loss import PitSiSnrLoss, SiSnrLoss, best_permutation, pairwise_si_snr, reordered
from audiozen_core.testing.networks import check_loss
from audiozen_plugins.loss import permutations


@pytest.fixture
def waves():
    """Returns estimates of three sources in another order for each clip, and the sources."""
    generator = torch.Generator().manual_seed(0)
    sources = torch.randn(2, 3, 800, generator=generator)
    estimates = torch.stack([sources[0, [2, 0, 1]], sources[1, [1, 0, 2]]])
    return estimates + 0.5 * torch.randn(2, 3, 800, generator=generator), sources


def decibels(estimate, source):
    estimate, source = (wave - wave.mean() for wave in (estimate, source))
    target = (estimate @ source) / (source @ source) * source
    return 10 * np.log10((target @ target) / ((estimate - target) @ (estimate - target)))


def test_loss_is_that_of_the_best_of_all_permutations(waves):
    best = []
    for estimates, sources in zip(*(signals.double().numpy() for signals in waves), strict=True):
        means = [
            np.mean([decibels(estimates[one], source) for one, source in zip(order, sources, strict=True)])
            for order in itertools.permutations(range(3))
        ]
        best.append(max(means))
    assert float(PitSiSnrLoss()(*waves)) == pytest.approx(-np.mean(best), abs=1e-4)


def test_order_of_the_estimates_does_not_matter(waves):
    estimates, sources = waves
    losses = [PitSiSnrLoss()(estimates[:, list(order)], sources) for order in itertools.permutations(range(3))]
    assert torch.stack(losses).tolist() == pytest.approx([float(losses[0])] * 6)
    # Without PIT it does.
    flat = [
        SiSnrLoss()(estimates[:, list(order)].flatten(0, 1), sources.flatten(0, 1)) for order in ((0, 1, 2), (2, 1, 0))
    ]
    assert abs(flat[0] - flat[1]) > 1


def test_each_clip_has_an_assignment_of_its_own(waves):
    estimates, sources = waves
    _, assignments = best_permutation(pairwise_si_snr(estimates, sources))
    assert assignments.tolist() == [[1, 2, 0], [1, 0, 2]]
    ordered = reordered(estimates, assignments)
    assert torch.equal(ordered[0, 0], estimates[0, 1])
    ratios = pairwise_si_snr(ordered, sources)
    assert (ratios.diagonal(dim1=1, dim2=2) > 3).all()


def test_mean_over_the_speakers_decides_and_not_the_best_speaker():
    assert best_permutation(torch.tensor([[9.0, 8.0], [7.0, 0.0]]))[1].tolist() == [1, 0]


def test_gradients_pass_through_the_best_assignment_only(waves):
    estimates, sources = waves
    ratios = pairwise_si_snr(estimates, sources).requires_grad_()
    best_permutation(ratios)[0].sum().backward()
    expected = torch.zeros(2, 3, 3)
    for clip, order in enumerate([[1, 2, 0], [1, 0, 2]]):
        expected[clip, order, range(3)] = 1 / 3
    assert torch.allclose(ratios.grad, expected)


def test_training_after_a_validation_without_gradients_has_gradients(waves):
    """The table of permutations that the validation has made is used again."""
    permutations._permutations.cache_clear()
    estimates, sources = waves
    with torch.inference_mode():
        PitSiSnrLoss()(estimates, sources)
    estimates.requires_grad_()
    PitSiSnrLoss()(estimates, sources).backward()
    assert estimates.grad.any()


def test_loss_is_finite_with_correct_gradients():
    check_loss(PitSiSnrLoss(), 2, 2, 60)


def test_eight_speakers_are_possible_and_nine_are_an_error():
    scores = torch.eye(8).flip(0)
    assert best_permutation(scores)[1].tolist() == list(range(8))[::-1]
    with pytest.raises(ValueError, match="9 sources, but all assignments can be compared for at most 8"):
        best_permutation(torch.eye(9))


@pytest.mark.parametrize("shape", [(2, 3, 400), (2, 800), (1, 3, 800)])
def test_signals_of_other_shapes_are_an_error(waves, shape):
    with pytest.raises(ValueError, match="same shape"):
        PitSiSnrLoss()(torch.zeros(shape), waves[1])
