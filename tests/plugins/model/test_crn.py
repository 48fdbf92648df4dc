"""The small convolutional recurrent network is causal, and scales bands of the spectrum."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from audiozen.model import CRN
from audiozen_core.audio.acoustics import Acoustics
from audiozen_core.audio.stft import Stft
from audiozen_core.testing.networks import check_model
from audiozen_plugins.model.crn import _GroupedGRU
from tests.plugins.model.conftest import noise_spectrum


def parts(*shape: int, seed: int = 0) -> Tensor:
    """Returns random spectra [batch, 2, frequencies, frames]."""
    return torch.view_as_real(noise_spectrum(*shape, seed=seed)).movedim(-1, 1).contiguous()


def small(**args) -> CRN:
    torch.manual_seed(0)
    return CRN(**{"num_freqs": 33, "num_low": 5, "num_bands": 4, "kernel_size": 3, "hidden_size": 8, **args})


NOISY = parts(2, 33, 12)


def test_the_model_passes_the_conformance_check():
    check_model(small, NOISY)


@pytest.mark.parametrize(
    "args", [{"groups": 1}, {"groups": 4}, {"num_layers": 1}, {"kernel_size": 1}, {"num_low": 0}, {"num_freqs": 33}]
)
def test_output_has_the_shape_of_the_input_for_other_arguments(args):
    assert small(**args)(NOISY).shape == NOISY.shape


def test_output_does_not_depend_on_later_frames():
    network, other = small().eval(), NOISY.clone()
    other[..., 8:] = parts(2, 33, 4, seed=1)
    with torch.inference_mode():
        ours, theirs = network(NOISY), network(other)
    torch.testing.assert_close(ours[..., :8], theirs[..., :8], rtol=0, atol=1e-6)
    assert (ours[..., 8:] - theirs[..., 8:]).abs().max() > 1e-3


def test_mask_scales_each_band_and_keeps_the_phase():
    """Low frequencies are bands of their own; the highest frequency has the factor of the highest band."""
    network = small().eval()
    factors = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9])
    with torch.no_grad():
        network.mask.weight.zero_()
        network.mask.bias.copy_(factors.logit())
        gains = network(NOISY) / NOISY
    torch.testing.assert_close(gains[:, 0], gains[:, 1])
    torch.testing.assert_close(gains[0, 0, :5, 0], factors[:5])
    torch.testing.assert_close(gains[0, 0, -1, 0], factors[-1])


def test_groups_have_their_own_channels_until_the_next_layer():
    """With one layer, a channel of the second group does not change the output of the first one."""
    gru = _GroupedGRU(8, 2)
    x = torch.randn(1, 5, 8, generator=torch.Generator().manual_seed(0))
    other = x.clone()
    other[..., 4:] += 1
    ours, theirs = gru(x), gru(other)
    assert torch.equal(ours[..., ::2], theirs[..., ::2])
    assert (ours[..., 1::2] - theirs[..., 1::2]).abs().max() > 1e-3


def test_gradients_are_finite_for_silence_and_under_autocast():
    network = small()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        network(torch.cat([NOISY, torch.zeros_like(NOISY)])).float().square().mean().backward()
    assert all(torch.isfinite(weight.grad).all() for weight in network.parameters())


def test_network_for_another_sampling_rate_declares_the_acoustics_of_its_arguments():
    """With 129 frequencies, the 64 bands of 16 kHz would share peaks, and the filters between these would be NaN."""
    with pytest.raises(ValueError, match=r"the same frequency \(of 129 at 8000 Hz\)"):
        CRN(num_freqs=129, sr=8000)
    network = CRN(num_freqs=129, num_low=32, num_bands=32, sr=8000)
    acoustics = Acoustics(**network.acoustics, hop_length=128, win_length=256)
    assert (acoustics.sr, acoustics.n_fft) == (8000, 256)
    spectrum = Stft(acoustics).transform(torch.randn(2, 4000, generator=torch.Generator().manual_seed(0)))
    enhanced = network(torch.view_as_real(spectrum).movedim(-1, 1))
    assert enhanced.shape == (2, 2, *spectrum.shape[1:])
    assert enhanced.isfinite().all()
    torch.testing.assert_close(network.bands.erb_fc.weight.sum(0), torch.ones(97))


def test_error_names_an_argument_that_does_not_fit():
    with pytest.raises(ValueError, match="`num_low` and `num_bands` are 30 and 4: two of these bands"):
        small(num_low=30)
    with pytest.raises(ValueError, match="`num_bands` is 1"):
        small(num_bands=1)
    with pytest.raises(ValueError, match="`hidden_size` is 8, but must be a multiple of `groups`, which is 3"):
        small(groups=3)
    with pytest.raises(ValueError, match="`hidden_size` is 0"):
        small(hidden_size=0)


@pytest.mark.parametrize("shape", [(2, 33, 10), (2, 33, 10, 2), (2, 2, 17, 10)])
def test_error_for_another_shape_names_the_expected_shape(shape):
    with pytest.raises(ValueError, match=r"\[batch, 2, 33, frames\].*num_freqs"):
        small()(torch.zeros(shape))
