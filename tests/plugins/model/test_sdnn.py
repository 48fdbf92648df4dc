"""The complete sigma-delta network reproduces the published results with the published weights."""

from __future__ import annotations

import json

import pytest
import soundfile
import torch
from safetensors.torch import load_file
from torch import Tensor

from audiozen.model import SDNN

CLIPS = ["p232_003", "p257_003"]


@pytest.fixture(scope="module")
def published(reference_data) -> SDNN:
    network = SDNN()
    network.load_state_dict(load_file(reference_data / "sdnn" / "intel_ndns_baseline.safetensors"), strict=True)
    return network.eval()


def ratio_db(signal: Tensor, difference: Tensor) -> float:
    return float(10 * torch.log10(signal.square().sum() / difference.square().sum()))


def si_sdr(estimate: Tensor, reference: Tensor) -> float:
    estimate, reference = estimate - estimate.mean(), reference - reference.mean()
    target = (estimate @ reference) / (reference @ reference) * reference
    return ratio_db(target, estimate - target)


@pytest.mark.parametrize("clip", CLIPS)
def test_published_weights_give_the_reference_magnitudes(published, reference_data, clip):
    stored = load_file(reference_data / "sdnn" / f"{clip}.safetensors")
    with torch.inference_mode():
        enhanced = published(stored["noisy_magnitude"])
    assert ratio_db(stored["enhanced_magnitude"], enhanced - stored["enhanced_magnitude"]) >= 40


def test_published_weights_with_another_threshold_miss_the_reference(published, reference_data):
    stored = load_file(reference_data / "sdnn" / f"{CLIPS[0]}.safetensors")
    wrong = SDNN()
    wrong.load_state_dict(published.state_dict())
    wrong.blocks[1].neuron.delta.threshold.fill_(0.5)
    with torch.inference_mode():
        enhanced = wrong.eval()(stored["noisy_magnitude"])
    assert ratio_db(stored["enhanced_magnitude"], enhanced - stored["enhanced_magnitude"]) < 40


def scores_with(network: SDNN, reference_data) -> dict[str, tuple[float, float]]:
    """Computes the SI-SDR of every clip, in dB, for our output and for the reference output."""
    window = torch.ones(512)
    scores = {}
    for clip, expected in json.loads((reference_data / "numbers.json").read_text())["si_sdr_db"].items():
        noisy, clean = (
            torch.from_numpy(soundfile.read(reference_data / "vbdmd" / kind / f"{clip}.wav", dtype="float32")[0])
            for kind in ("noisy", "clean")
        )
        spectrogram = torch.stft(noisy, 512, 128, window=window, return_complex=True)
        with torch.inference_mode():
            magnitude = network(spectrogram.abs()[None])[0]
        wave = torch.istft(torch.polar(magnitude, spectrogram.angle()), 512, 128, window=window, length=len(noisy))
        scores[clip] = si_sdr(wave, clean), expected["sdnn"]
    return scores


def test_published_weights_reach_the_reference_scores_on_every_clip(published, reference_data):
    scores = scores_with(published, reference_data)
    assert len(scores) == 10
    for clip, (ours, expected) in scores.items():
        assert ours == pytest.approx(expected, abs=0.05), clip


def test_network_without_its_learned_delays_misses_the_reference_scores(published, reference_data):
    wrong = SDNN(max_delay=0)
    wrong.load_state_dict(published.state_dict())
    scores = scores_with(wrong.eval(), reference_data)
    assert min(abs(ours - expected) for ours, expected in scores.values()) > 0.05


def test_output_does_not_depend_on_later_frames():
    torch.manual_seed(0)
    network = SDNN(num_freqs=9, hidden_size=16, max_delay=3)
    noisy = torch.rand(2, 9, 30) * 4
    other = noisy.clone()
    other[..., 20:] = torch.rand(2, 9, 10) * 4
    ours, theirs = network(noisy), network(other)
    assert torch.equal(ours[..., :20], theirs[..., :20])
    assert not torch.equal(ours[..., 20:], theirs[..., 20:])


def test_out_delay_delays_the_magnitude_that_is_masked():
    torch.manual_seed(0)
    noisy = torch.rand(1, 9, 30)
    prompt = SDNN(num_freqs=9, hidden_size=16)
    late = SDNN(out_delay=4, num_freqs=9, hidden_size=16)
    late.load_state_dict(prompt.state_dict())
    mask = prompt(noisy) / noisy
    assert late(noisy)[..., :4].abs().max() == 0
    torch.testing.assert_close(late(noisy)[..., 4:], noisy[..., :-4] * mask[..., 4:])


def test_every_learned_parameter_gets_a_gradient():
    torch.manual_seed(0)
    network = SDNN(num_freqs=9, hidden_size=16, max_delay=3)
    network(torch.rand(2, 9, 30) * 4).square().sum().backward()
    learned = {name for name, parameter in network.named_parameters() if parameter.grad.abs().sum() > 0}
    assert learned == {
        "blocks.1.synapse.weight",
        "blocks.1.delay.delay",
        "blocks.2.synapse.weight",
        "blocks.2.delay.delay",
        "blocks.3.synapse.weight",
    }


def test_same_seed_gives_the_same_gradients():
    def gradients() -> list[Tensor]:
        torch.manual_seed(3)
        network = SDNN(num_freqs=9, hidden_size=16)
        network(torch.rand(2, 9, 30) * 4).square().sum().backward()
        return [parameter.grad for parameter in network.parameters()]

    assert all(torch.equal(one, two) for one, two in zip(gradients(), gradients(), strict=True))


def test_the_network_keeps_full_precision_under_autocast():
    torch.manual_seed(0)
    network, noisy = SDNN(num_freqs=9, hidden_size=16), torch.rand(2, 9, 30) * 4
    expected = network(noisy)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        enhanced = network(noisy)
    assert enhanced.dtype == torch.float32
    assert torch.equal(enhanced, expected)


@pytest.mark.parametrize("shape", [(2, 256, 10), (257, 10), (2, 1, 257, 10)])
def test_error_for_another_shape_names_the_expected_shape(shape):
    with pytest.raises(ValueError, match=r"\[batch, 257, frames\].*num_freqs"):
        SDNN()(torch.zeros(shape))


@pytest.mark.parametrize(
    "argument", [{"threshold": -0.1}, {"tau_grad": 0.0}, {"max_delay": -1}, {"out_delay": -1}, {"hidden_size": 0}]
)
def test_error_names_an_out_of_range_argument(argument):
    (name,) = argument
    with pytest.raises(ValueError, match=name):
        SDNN(**argument)
