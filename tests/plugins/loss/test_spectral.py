"""The multi-resolution STFT loss and the losses of compressed spectra, against auraloss and NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from audiozen.loss import CompressedMagnitudeLoss, CompressedSpectrumLoss, MultiResolutionStftLoss
from audiozen_core.errors import RunError
from audiozen_core.testing.networks import check_loss

SMALL = {"fft_sizes": (64, 128), "hop_lengths": (16, 32), "win_lengths": (64, 100)}


@pytest.fixture
def waves():
    generator = torch.Generator().manual_seed(0)
    target = torch.randn(3, 4000, generator=generator)
    return target + 0.3 * torch.randn(3, 4000, generator=generator), target


def spectra(dtype=torch.complex64, scale=1.0):
    generator = torch.Generator().manual_seed(0)
    return [scale * torch.randn(2, 5, 7, generator=generator, dtype=dtype) for _ in range(2)]


def frames(wave, n_fft, hop, length):
    """The magnitudes of centred, mirrored frames, [frequencies, frames]."""
    wave = np.pad(wave, n_fft // 2, mode="reflect")
    window = np.zeros(n_fft)
    start = (n_fft - length) // 2
    window[start : start + length] = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)
    cut = [wave[at : at + n_fft] * window for at in range(0, len(wave) - n_fft + 1, hop)]
    return np.sqrt(np.maximum(np.abs(np.fft.rfft(cut, axis=-1)).T ** 2, 1e-8))


def test_multi_resolution_stft_loss_is_that_of_its_formula(waves):
    estimates, targets = (wave.double().numpy() for wave in waves)
    losses = []
    for n_fft, hop, length in ((256, 64, 256), (128, 32, 100)):
        pairs = [(frames(s, n_fft, hop, length), frames(t, n_fft, hop, length))
                 for s, t in zip(estimates, targets, strict=True)]  # fmt: skip
        convergence = np.mean([np.linalg.norm(t - s) / np.linalg.norm(t) for s, t in pairs])
        logs = np.mean([np.abs(np.log(t) - np.log(s)).mean() for s, t in pairs])
        losses.append(0.5 * convergence + 2.0 * logs)
    loss = MultiResolutionStftLoss((256, 128), (64, 32), (256, 100), convergence_weight=0.5, log_weight=2.0)
    assert float(loss(*waves)) == pytest.approx(np.mean(losses), rel=1e-5)


def test_multi_resolution_stft_loss_is_that_of_auraloss(waves):
    freq = pytest.importorskip("auraloss.freq")
    theirs = freq.MultiResolutionSTFTLoss()
    clips = [tuple(wave[index : index + 1] for wave in waves) for index in range(3)]
    values = [float(theirs(*(wave.unsqueeze(1) for wave in clip))) for clip in clips]
    assert [float(MultiResolutionStftLoss()(*clip)) for clip in clips] == pytest.approx(values, rel=1e-5)
    # Theirs has one norm for all clips of a batch, so it depends on which clips are in a batch.
    assert float(MultiResolutionStftLoss()(*waves)) == pytest.approx(sum(values) / 3, rel=1e-5)


def test_multi_resolution_stft_loss_is_correct_and_finite_for_silence(waves):
    check_loss(MultiResolutionStftLoss(**SMALL), 2, 400)
    estimate = torch.zeros(2, 400, requires_grad=True)
    MultiResolutionStftLoss(**SMALL)(estimate, waves[1][:2, :400]).backward()
    assert estimate.grad.isfinite().all()
    assert float(MultiResolutionStftLoss()(waves[1], waves[1])) == 0


def test_multi_resolution_stft_loss_under_autocast_is_in_full_precision(waves):
    expected = MultiResolutionStftLoss()(*waves)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(MultiResolutionStftLoss()(*waves), expected)
    assert MultiResolutionStftLoss.domain == "waveform"


def test_multi_resolution_stft_loss_says_what_is_wrong():
    with pytest.raises(ValueError, match="one number for each resolution: they have 1, 3 and 3"):
        MultiResolutionStftLoss(fft_sizes=(512,))
    with pytest.raises(ValueError, match="they have 0, 0 and 0"):
        MultiResolutionStftLoss((), (), ())
    with pytest.raises(RunError, match="needs `std`"):
        MultiResolutionStftLoss(window="gaussian")
    with pytest.raises(RunError, match="1000 samples are too few for an STFT of 2048 points"):
        MultiResolutionStftLoss()(torch.zeros(1, 1000), torch.zeros(1, 1000))
    with pytest.raises(ValueError, match=r"same shape \[batch, time\]"):
        MultiResolutionStftLoss()(torch.zeros(1, 1, 4000), torch.zeros(1, 1, 4000))


@pytest.mark.parametrize("power", [0.3, 0.5, 1.0])
@pytest.mark.parametrize("complex_weight", [0.0, 0.3, 1.0])
def test_compressed_spectrum_loss_is_that_of_its_formula(power, complex_weight):
    estimate, target = spectra()
    s, t = estimate.numpy(), target.numpy()
    compressed_s, compressed_t = (x * np.abs(x) ** (power - 1) for x in (s, t))
    of_magnitudes = np.mean((np.abs(compressed_s) - np.abs(compressed_t)) ** 2)
    of_spectra = np.mean(np.abs(compressed_s - compressed_t) ** 2)
    expected = (1 - complex_weight) * of_magnitudes + complex_weight * of_spectra
    loss = CompressedSpectrumLoss(power, complex_weight)
    assert float(loss(estimate, target)) == pytest.approx(expected, rel=1e-5)
    magnitude_loss = CompressedMagnitudeLoss(power)(estimate.abs(), target.abs())
    assert float(magnitude_loss) == pytest.approx(of_magnitudes, rel=1e-5)


@pytest.mark.parametrize("loss", [CompressedSpectrumLoss(), CompressedMagnitudeLoss()])
@pytest.mark.parametrize("scale", [1.0, 1e-6, 0.0])
def test_compressed_losses_have_correct_and_finite_gradients(loss, scale):
    parts = [torch.view_as_real(part) for part in spectra(torch.complex128, scale)]
    made = torch.view_as_complex if isinstance(loss, CompressedSpectrumLoss) else lambda real: real[..., 0]
    estimate = parts[0].clone().requires_grad_()
    loss(made(estimate), made(parts[1])).backward()
    assert estimate.grad.isfinite().all()
    if scale == 1.0:
        assert torch.autograd.gradcheck(lambda real: loss(made(real), made(parts[1])), (estimate,), fast_mode=True)


def test_compressed_losses_are_in_full_precision_and_refuse_other_inputs():
    magnitudes = [part.abs() for part in spectra()]
    spectrum_loss, magnitude_loss = CompressedSpectrumLoss(), CompressedMagnitudeLoss()
    expected = magnitude_loss(*magnitudes), spectrum_loss(*spectra())
    with torch.autocast("cpu", torch.bfloat16):
        assert (magnitude_loss(*magnitudes), spectrum_loss(*spectra())) == expected
    assert magnitude_loss(*(part.half() for part in magnitudes)).dtype == torch.float32
    assert (spectrum_loss.domain, magnitude_loss.domain) == ("spectrum", "magnitude")
    with pytest.raises(ValueError, match="not real numbers"):
        spectrum_loss(*magnitudes)
    with pytest.raises(ValueError, match="not complex spectra"):
        magnitude_loss(*spectra())
    with pytest.raises(ValueError, match="same shape"):
        magnitude_loss(magnitudes[0], magnitudes[1][..., :-1])
