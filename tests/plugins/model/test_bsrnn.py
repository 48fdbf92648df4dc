"""BSRNN has the published sizes, takes all sampling rates with the same weights, and is causal if asked."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from audiozen.model import BSRNN
from audiozen_core.audio.acoustics import Acoustics
from audiozen_core.audio.stft import Stft
from audiozen_core.errors import RunError
from audiozen_core.inspection.model_size import model_size
from audiozen_core.testing.networks import check_model
from tests.plugins.model.conftest import noise_spectrum

RATES = [8000, 11025, 16000, 22050, 24000, 32000, 44100, 48000]


def small(**args) -> BSRNN:
    torch.manual_seed(0)
    return BSRNN(**{"features": 4, "num_blocks": 2, **args}).eval()


def noise(num_freqs: int, frames: int = 12, seed: int = 0) -> Tensor:
    return torch.view_as_real(noise_spectrum(2, num_freqs, frames, seed=seed))


@pytest.mark.parametrize(
    ("features", "num_blocks", "causal", "millions"),
    [
        (16, 6, True, 0.5), (16, 6, False, 0.5), (32, 6, True, 1.3), (32, 6, False, 1.5), (64, 6, True, 4.1),
        (64, 6, False, 4.8), (128, 6, True, 14.3), (128, 6, False, 16.9), (256, 6, True, 52.9),
        (256, 6, False, 63.1), (256, 12, True, 83.6), (256, 12, False, 104.1),
    ],
)  # fmt: skip
def test_number_of_weights_is_the_published_one(features, num_blocks, causal, millions):
    with torch.device("meta"):
        network = BSRNN(features, num_blocks, causal=causal)
    assert round(sum(weight.numel() for weight in network.parameters()) / 1e6, 1) == millions


class At8(BSRNN):
    def __init__(self):
        super().__init__(16, sr=8000)


class At48(BSRNN):
    def __init__(self):
        super().__init__(16, sr=48000)


def test_a_low_rate_needs_fewer_operations_in_proportion_to_its_sub_bands():
    low, high = model_size(At8), model_size(At48)
    assert (low.sr, high.sr) == (8000, 48000)
    # The published figure is 0.4 G.
    assert round(high.macs_per_second / 1e9, 1) == 0.4
    # The decoders of the higher sub-bands also have more frequencies each.
    assert low.macs_per_second / high.macs_per_second == pytest.approx(20 / 34, rel=0.05)


@pytest.mark.parametrize("causal", [True, False])
def test_the_model_passes_the_conformance_check(causal):
    check_model(lambda: small(causal=causal), noise(481))


@pytest.mark.parametrize("sr", RATES)
def test_the_same_weights_enhance_audio_of_any_rate(sr):
    network = small(sr=sr)
    network.load_state_dict(small(sr=48000).state_dict(), strict=True)
    stft = Stft(Acoustics(**network.acoustics))
    assert sr / network.acoustics["n_fft"] == pytest.approx(50, rel=0.003)
    wave = torch.randn(1, sr // 4, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        spectrum = torch.view_as_real(stft.transform(wave))
        enhanced = network(spectrum)
    assert enhanced.shape == spectrum.shape
    back = stft.inverse(torch.view_as_complex(enhanced), length=wave.shape[-1])
    assert back.shape == wave.shape
    assert torch.isfinite(back).all()
    assert back.abs().max() > 1e-3


@pytest.mark.parametrize(("num_freqs", "num_bands"), [(81, 20), (82, 21), (161, 27), (241, 29), (481, 34)])
@pytest.mark.parametrize("causal", [True, False])
def test_output_at_a_low_rate_is_that_of_a_network_without_the_higher_bands(num_freqs, num_bands, causal):
    network, spectrum = small(causal=causal), noise(num_freqs)
    with torch.inference_mode():
        expected = network(spectrum)
        for name in ("encoders", "masks", "residuals"):
            assert len(getattr(network, name)) == 34
            setattr(network, name, getattr(network, name)[:num_bands])
        assert torch.equal(network(spectrum), expected)
        # A network without the last of these bands can't give it.
        network.encoders = network.encoders[: num_bands - 1]
        with pytest.raises(RuntimeError):
            network(spectrum)


def test_weights_of_higher_bands_get_no_gradient_at_a_low_rate():
    network = small(sr=8000)
    network(noise(81)).square().mean().backward()
    for name in ("encoders", "masks", "residuals"):
        got = [all(weight.grad is not None for weight in band.parameters()) for band in getattr(network, name)]
        assert got == [True] * 20 + [False] * 14


def features_of_tones(network: BSRNN) -> Tensor:
    """Returns what the blocks are given for half a second of tones below 3 kHz, of the bands up to 3 kHz."""
    sr, seen = network.acoustics["sr"], []
    network.blocks.register_forward_pre_hook(lambda _module, args: seen.append(args[0]))
    time = torch.arange(sr // 2, dtype=torch.float64) / sr
    wave = sum(torch.sin(math.tau * 157.3 * number * time + number**2) for number in range(1, 19))
    spectrum = Stft(Acoustics(**network.acoustics)).transform(0.05 * wave.float()[None])
    with torch.inference_mode():
        network(torch.view_as_real(spectrum))
    # The frames at both ends see a mirror image, which has a kink, and begins at a time that depends on the rate.
    return seen[0][:, 1:-2, :15]


@pytest.mark.parametrize("sr", [16000, 24000, 44100, 48000])
def test_a_sub_band_has_the_same_features_at_all_rates(sr):
    expected = features_of_tones(small(sr=8000))
    torch.testing.assert_close(features_of_tones(small(sr=sr)), expected, rtol=0, atol=1e-3)
    assert expected.std() > 0.1


@pytest.mark.parametrize("causal", [True, False])
def test_output_scales_with_the_input(causal):
    network, spectrum = small(causal=causal), noise(161)
    with torch.inference_mode():
        torch.testing.assert_close(network(100 * spectrum), 100 * network(spectrum), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("num_freqs", [81, 161, 481])
def test_output_does_not_depend_on_later_frames(num_freqs):
    spectrum, other = noise(num_freqs), noise(num_freqs)
    other[:, :, 8:] = noise(num_freqs, 4, seed=1)
    for causal in (True, False):
        network = small(causal=causal)
        with torch.inference_mode():
            change = (network(spectrum) - network(other)).abs()
        assert change[:, :, 8:].max() > 1e-3
        # The other kind of network would be found out.
        assert (change[:, :, :8].max() <= 1e-6) == causal


def test_mask_turns_the_spectrum_and_the_residual_is_added():
    """With a mask of i, all phases turn by a right angle. The residual is relative to the level of the sub-band."""
    network, spectrum = small(), noise(81)
    with torch.no_grad():
        for decoders, values in ((network.masks, (0.0, 1.0)), (network.residuals, (0.5, 0.0))):
            for decoder in decoders:
                last: nn.Linear = decoder[3]
                last.weight.zero_()
                # The second half opens the gates.
                numbers = torch.tensor(values).repeat(last.out_features // 4)
                last.bias.copy_(torch.cat([numbers, torch.full_like(numbers, 50.0)]))
    real, imag = spectrum.unbind(-1)
    expected = torch.stack([-imag, real], dim=-1)
    expected[:, :5, :, 0] += 0.5 * spectrum[:, :5].square().mean((1, 3), keepdim=True).sqrt()[..., 0]
    torch.testing.assert_close(network(spectrum)[:, :5], expected[:, :5])


@pytest.mark.parametrize("causal", [True, False])
def test_gradients_are_finite_for_silence_and_under_autocast(causal):
    network = small(causal=causal).train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        network(torch.cat([noise(481), torch.zeros(2, 481, 12, 2)])).float().square().mean().backward()
    assert all(torch.isfinite(weight.grad).all() for weight in network.parameters())


@pytest.mark.parametrize(("args", "name"), [({"sr": 7999}, "sr"), ({"sr": 96000}, "sr"), ({"features": 0}, "features")])
def test_error_names_an_argument_out_of_range(args, name):
    with pytest.raises(RunError, match=f"`{name}` is {args[name]}"):
        small(**args)


@pytest.mark.parametrize("shape", [(81, 10, 2), (2, 2, 81, 10), (2, 482, 10, 2)])
def test_error_for_another_shape_names_the_expected_shape(shape):
    with pytest.raises(ValueError, match=r"\[batch, frequencies, frames, 2\].*n_fft"):
        small()(torch.zeros(shape))
