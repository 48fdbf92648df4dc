"""SNR, L1 and L2 of waveforms, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from audiozen.loss import L1WaveformLoss, L2WaveformLoss, SnrLoss, snr
from audiozen_core.testing.networks import check_loss

LOSSES = [SnrLoss, L1WaveformLoss, L2WaveformLoss]


@pytest.fixture
def waves():
    generator = torch.Generator().manual_seed(0)
    target = torch.randn(3, 4000, generator=generator)
    return target + 0.3 * torch.randn(3, 4000, generator=generator), target


def test_snr_is_the_energy_of_the_target_over_that_of_the_error(waves):
    estimate, target = (wave.double().numpy() for wave in waves)
    expected = 10 * np.log10((target**2).sum(1) / ((target - estimate) ** 2).sum(1))
    assert snr(*waves).numpy() == pytest.approx(expected, abs=1e-4)
    assert float(SnrLoss()(*waves)) == pytest.approx(-expected.mean(), abs=1e-4)


def test_snr_depends_on_the_level(waves):
    estimate, target = waves
    assert (snr(0.5 * estimate, target) < snr(estimate, target) - 3).all()


def test_l1_and_l2_are_means_over_samples(waves):
    estimate, target = (wave.double().numpy() for wave in waves)
    assert float(L1WaveformLoss()(*waves)) == pytest.approx(np.abs(estimate - target).mean(), rel=1e-6)
    assert float(L2WaveformLoss()(*waves)) == pytest.approx(((estimate - target) ** 2).mean(), rel=1e-6)


@pytest.mark.parametrize("loss", LOSSES)
def test_loss_is_correct_and_finite_for_silence(loss):
    check_loss(loss(), 2, 400)


@pytest.mark.parametrize("loss", LOSSES)
def test_loss_is_in_full_precision_and_refuses_other_shapes(loss, waves):
    half = loss()(*(wave.bfloat16() for wave in waves))
    assert half.dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(loss()(*waves), loss()(*waves).float())
    assert loss.domain == "waveform"
    with pytest.raises(ValueError, match=r"same shape \[batch, time\]"):
        loss()(torch.ones(2, 10), torch.ones(2, 11))
    with pytest.raises(ValueError, match=r"\[batch, time\]"):
        loss()(torch.ones(2, 1, 10), torch.ones(2, 1, 10))
