from __future__ import annotations

import math

import pytest
import torch

from audiozen.loss import SiSnrLoss, SiSnrMagnitudeLoss, si_snr


@pytest.fixture
def waves() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    target = torch.randn(3, 4000, dtype=torch.float64)
    return target + 0.3 * torch.randn(3, 4000, dtype=torch.float64), target


def test_si_snr_is_the_energy_ratio_of_the_projection_and_the_residual(waves):
    centred = (wave - wave.mean(dim=1, keepdim=True) for wave in waves)
    for estimate, target, ratio in zip(*centred, si_snr(*waves), strict=True):
        cosine = torch.nn.functional.cosine_similarity(estimate, target, dim=0)
        assert ratio.item() == pytest.approx(10 * math.log10(cosine**2 / (1 - cosine**2)), abs=1e-6)


def test_si_snr_does_not_depend_on_level_or_sign_of_the_estimate(waves):
    estimate, target = waves
    torch.testing.assert_close(si_snr(-7 * estimate, target), si_snr(estimate, target))


def test_offset_changes_si_snr_only_if_the_mean_is_kept(waves):
    estimate, target = waves
    torch.testing.assert_close(si_snr(estimate + 5, target), si_snr(estimate, target))
    assert (si_snr(estimate + 5, target, zero_mean=False) < si_snr(estimate, target, zero_mean=False) - 3).all()


@pytest.mark.parametrize("loud", ["neither", "estimate", "target", "both equal"])
def test_silence_gives_a_finite_ratio_and_finite_gradients(loud):
    torch.manual_seed(0)
    wave = torch.randn(1, 100)
    estimate = wave.clone() if loud in ("estimate", "both equal") else torch.zeros(1, 100)
    target = wave.clone() if loud in ("target", "both equal") else torch.zeros(1, 100)
    estimate.requires_grad_()
    target.requires_grad_()
    ratio = si_snr(estimate, target)
    ratio.sum().backward()
    assert ratio.isfinite().all()
    assert estimate.grad.isfinite().all()
    assert target.grad.isfinite().all()


def test_half_precision_is_converted_to_single_precision(waves):
    estimate, target = (wave.half() for wave in waves)
    ratio = si_snr(estimate, target)
    assert ratio.dtype == torch.float32
    torch.testing.assert_close(ratio, si_snr(*waves).float(), atol=0.01, rtol=0)


def test_the_loss_is_the_negative_mean_and_passes_gradcheck(waves):
    estimate, target = waves
    assert SiSnrLoss()(estimate, target).item() == pytest.approx(-si_snr(estimate, target).mean().item())
    short = (estimate[:, :20].clone().requires_grad_(), target[:, :20].clone().requires_grad_())
    assert torch.autograd.gradcheck(SiSnrLoss(), short)


def test_magnitude_loss_adds_the_weighted_magnitude_error(waves):
    magnitudes = torch.rand(2, 3, 5, 7, dtype=torch.float64)
    ratio, error = si_snr(*waves).mean(), (magnitudes[0] - magnitudes[1]).square().mean()
    for lam in (0.001, 2.0):
        loss = SiSnrMagnitudeLoss(lam=lam)(*waves, *magnitudes)
        assert loss.item() == pytest.approx((100 - ratio + lam * error).item())


@pytest.mark.parametrize("shapes", [((2, 10), (2, 11)), ((10,), (10,)), ((2, 0), (2, 0)), ((1, 10), (2, 10))])
def test_waveforms_of_different_shapes_are_an_error(shapes):
    with pytest.raises(ValueError, match=r"\[batch, time\]"):
        si_snr(torch.ones(shapes[0]), torch.ones(shapes[1]))


def test_magnitudes_of_different_shapes_are_an_error(waves):
    with pytest.raises(ValueError, match="the magnitudes differ in shape"):
        SiSnrMagnitudeLoss()(*waves, torch.ones(3, 5, 7), torch.ones(3, 5, 8))


def test_each_loss_names_its_domain():
    assert (SiSnrLoss.domain, SiSnrMagnitudeLoss.domain) == ("waveform", "both")
