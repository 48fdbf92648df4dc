"""UL-UNAS reproduces its published output with its published weights, and is causal."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from audiozen.model import ULUNAS
from audiozen_core.testing.networks import check_model
from tests.plugins.model.conftest import noise_spectrum, read_wave, signal_to_difference

NOISY = noise_spectrum(2, 257, 12).abs()


@pytest.fixture(scope="module")
def repository(reference_data) -> Path:
    """Returns `ul_unas` in the folder that AUDIOZEN_REFERENCE_DATA names: a clone of github.com/Xiaobin-Rong/ul-unas.

    It is not part of the reference data, so these tests are skipped unless you put it there.
    """
    folder = reference_data / "ul_unas"
    if not (folder / "checkpoints").is_dir():
        pytest.skip("the folder that AUDIOZEN_REFERENCE_DATA names has no clone of Xiaobin-Rong/ul-unas in `ul_unas`")
    return folder


def enhance(network: ULUNAS, wave: Tensor) -> Tensor:
    options = {"hop_length": 256, "window": torch.hann_window(512)}
    with torch.inference_mode():
        spectrum = torch.stft(wave, 512, return_complex=True, **options)
        return torch.istft(torch.polar(network(spectrum.abs()), spectrum.angle()), 512, **options)


@pytest.mark.parametrize("clip", ["0119", "0174"])
def test_published_weights_give_the_published_output(repository, clip):
    stored = torch.load(repository / "checkpoints/model_trained_on_dns3.tar", map_location="cpu", weights_only=True)
    network = ULUNAS()
    network.load_state_dict(stored["model"], strict=True)
    noisy, expected = (read_wave(repository / "audio" / kind / f"{clip}.wav") for kind in ("noisy", "enhanced"))
    enhanced = enhance(network.eval(), noisy)
    expected = expected[:, : enhanced.shape[-1]]
    # The published files, which were made on another device, differ as much from the output of the published code.
    assert signal_to_difference(expected, enhanced) >= 60
    assert signal_to_difference(expected, noisy[:, : enhanced.shape[-1]]) < 20


def test_weights_have_the_published_number():
    assert sum(weight.numel() for weight in ULUNAS().parameters()) == 146_752


def test_the_model_passes_the_conformance_check():
    check_model(ULUNAS, NOISY)


def test_output_does_not_depend_on_later_frames():
    torch.manual_seed(0)
    network, other = ULUNAS().eval(), NOISY.clone()
    other[..., 8:] = noise_spectrum(2, 257, 4, seed=1).abs()
    with torch.inference_mode():
        ours, theirs = network(NOISY), network(other)
    torch.testing.assert_close(ours[..., :8], theirs[..., :8], rtol=0, atol=1e-6)
    assert (ours[..., 8:] - theirs[..., 8:]).abs().max() > 1e-3


def test_the_network_trains_on_silence_and_under_autocast():
    network = ULUNAS()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        network(torch.cat([NOISY, torch.zeros_like(NOISY)])).float().square().mean().backward()
    assert all(torch.isfinite(weight.grad).all() for weight in network.parameters())


@pytest.mark.parametrize("shape", [(257, 10), (2, 129, 10), (2, 1, 257, 10)])
def test_error_for_another_shape_names_the_expected_shape(shape):
    with pytest.raises(ValueError, match=r"\[batch, 257, frames\]"):
        ULUNAS()(torch.zeros(shape))
