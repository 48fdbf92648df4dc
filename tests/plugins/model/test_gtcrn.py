"""GTCRN reproduces its published output with its published weights, and is causal."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from audiozen.model import GTCRN
from audiozen_core.audio.acoustics import Acoustics
from audiozen_core.audio.stft import Stft
from audiozen_core.testing.networks import check_model
from audiozen_plugins.model.causal_conv import kernel_of
from tests.plugins.model.conftest import noise_spectrum, read_wave

NOISY = torch.view_as_real(noise_spectrum(2, 257, 12))


@pytest.fixture(scope="module")
def published(reference_data) -> GTCRN:
    network = GTCRN()
    network.load_state_dict(load_file(reference_data / "gtcrn" / "dns3.safetensors"), strict=True)
    return network.eval()


def enhance(network: GTCRN, wave: torch.Tensor) -> torch.Tensor:
    stft = Stft(Acoustics(**GTCRN.acoustics))
    with torch.inference_mode():
        return stft.inverse(
            torch.view_as_complex(network(torch.view_as_real(stft.transform(wave)))), length=wave.shape[-1]
        )


def test_published_weights_give_the_published_output(published, reference_data):
    expected = read_wave(reference_data / "gtcrn" / "enh.wav")
    enhanced = enhance(published, read_wave(reference_data / "gtcrn" / "mix.wav"))[:, : expected.shape[-1]]
    assert expected.abs().max() > 0.1
    assert (enhanced - expected).abs().max() <= 1e-4


def test_the_output_in_training_mode_misses_the_published_one(published, reference_data):
    wrong = GTCRN()
    wrong.load_state_dict(published.state_dict())
    expected = read_wave(reference_data / "gtcrn" / "enh.wav")
    enhanced = enhance(wrong.train(), read_wave(reference_data / "gtcrn" / "mix.wav"))[:, : expected.shape[-1]]
    assert (enhanced - expected).abs().max() > 1e-2


def test_a_new_network_has_the_published_erb_filters(reference_data):
    weights = load_file(reference_data / "gtcrn" / "dns3.safetensors")
    bands = GTCRN().erb
    torch.testing.assert_close(bands.erb_fc.weight, weights["erb.erb_fc.weight"], rtol=0, atol=1e-6)
    torch.testing.assert_close(bands.ierb_fc.weight, weights["erb.ierb_fc.weight"], rtol=0, atol=1e-6)


def test_erb_filters_are_not_trained_and_add_up_to_one():
    bands = GTCRN().erb
    assert not list(bands.parameters())
    torch.testing.assert_close(bands.erb_fc.weight.sum(0), torch.ones(192))
    assert (bands.erb_fc.weight.max(1).values == 1).all()


def test_the_model_passes_the_conformance_check():
    check_model(GTCRN, NOISY)


def test_output_does_not_depend_on_later_frames():
    torch.manual_seed(0)
    network, other = GTCRN().eval(), NOISY.clone()
    other[:, :, 8:] = torch.view_as_real(noise_spectrum(2, 257, 4, seed=1))
    with torch.inference_mode():
        ours, theirs = network(NOISY), network(other)
    torch.testing.assert_close(ours[:, :, :8], theirs[:, :, :8], rtol=0, atol=1e-6)
    assert (ours[:, :, 8:] - theirs[:, :, 8:]).abs().max() > 1e-3


def test_gradients_of_silence_are_finite():
    network = GTCRN()
    network(torch.zeros(2, 257, 5, 2)).sum().backward()
    assert all(torch.isfinite(weight.grad).all() for weight in network.parameters())


def test_the_network_trains_under_autocast():
    for _ in range(12):
        # Memory with NaN shows whether an operation reads what nothing has written: in most of these rounds.
        unused = [torch.full((1000 * size,), torch.nan) for size in range(1, 201)]
        del unused
        torch.manual_seed(0)
        network = GTCRN()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            enhanced = network(NOISY)
        enhanced.float().square().mean().backward()
        assert all(torch.isfinite(weight.grad).all() for weight in network.parameters())
    expected = network(NOISY)
    assert (enhanced - expected).abs().max() < 0.1 * expected.abs().max()


@pytest.mark.parametrize(("channels", "groups"), [((6, 4), 1), ((4, 4), 4)])
def test_a_turned_kernel_does_what_the_transposed_convolution_does(channels, groups):
    torch.manual_seed(0)
    transposed = nn.ConvTranspose2d(*channels, 3, groups=groups, bias=False)
    x = torch.randn(2, channels[0], 7, 9)
    # A full convolution with the turned kernel: the padding is what the kernel reaches beyond the ends.
    output = nn.functional.conv2d(x, kernel_of(transposed), groups=groups, padding=2)
    torch.testing.assert_close(output, transposed(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(257, 10, 2), (2, 2, 257, 10), (2, 129, 10, 2)])
def test_error_for_another_shape_names_the_expected_shape(shape):
    with pytest.raises(ValueError, match=r"\[batch, 257, frames, 2\]"):
        GTCRN()(torch.zeros(shape))
