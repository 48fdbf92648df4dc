"""The small convolutional recurrent network is causal, does not depend on the level much, and trains."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from audiozen_core.testing.networks import check_model
from audiozen_plugins.model import CRN
from tests.plugins.model.conftest import noise_spectrum


def parts(*shape: int, seed: int = 0) -> Tensor:
    """Returns random spectra [batch, 2, frequencies, frames]."""
    return torch.view_as_real(noise_spectrum(*shape, seed=seed)).movedim(-1, 1).contiguous()


def small(**args) -> CRN:
    torch.manual_seed(0)
    return CRN(**{"num_freqs": 33, "channels": [4, 6], "hidden_size": 8, **args})


NOISY = parts(2, 33, 12)


def test_the_model_passes_the_conformance_check():
    check_model(small, NOISY)


@pytest.mark.parametrize("channels", [[4], [4, 6], [4, 6, 5]])
def test_output_has_the_shape_of_the_input_for_any_number_of_layers(channels):
    assert small(channels=channels)(NOISY).shape == NOISY.shape


def test_output_does_not_depend_on_later_frames():
    network, other = small().eval(), NOISY.clone()
    other[..., 8:] = parts(2, 33, 4, seed=1)
    with torch.inference_mode():
        ours, theirs = network(NOISY), network(other)
    torch.testing.assert_close(ours[..., :8], theirs[..., :8], rtol=0, atol=1e-6)
    assert (ours[..., 8:] - theirs[..., 8:]).abs().max() > 1e-3


def test_mask_turns_and_scales_the_spectrum():
    """With a mask of i, all phases turn by a right angle."""
    network = small().eval()
    with torch.no_grad():
        network.mask.weight.zero_()
        network.mask.bias.copy_(torch.tensor([0.0, 20.0]))
    real, imag = NOISY.unbind(1)
    torch.testing.assert_close(network(NOISY), torch.stack([-imag, real], dim=1))


def test_gradients_are_finite_for_silence_and_under_autocast():
    network = small()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        network(torch.cat([NOISY, torch.zeros_like(NOISY)])).float().square().mean().backward()
    assert all(torch.isfinite(weight.grad).all() for weight in network.parameters())


def test_error_names_an_argument_that_does_not_fit():
    with pytest.raises(ValueError, match="`num_freqs` is 31, but 8 must divide `num_freqs - 1`"):
        small(num_freqs=31)
    with pytest.raises(ValueError, match="`hidden_size` is 0"):
        small(hidden_size=0)


@pytest.mark.parametrize("shape", [(2, 33, 10), (2, 33, 10, 2), (2, 2, 17, 10)])
def test_error_for_another_shape_names_the_expected_shape(shape):
    with pytest.raises(ValueError, match=r"\[batch, 2, 33, frames\].*num_freqs"):
        small()(torch.zeros(shape))
