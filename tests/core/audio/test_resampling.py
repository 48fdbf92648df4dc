"""Resampling: no delay, exact lengths, and no aliases. The expected values are sines at the new rate."""

import math

import pytest
import torch

from audiozen_core.audio.resampling import _resampler, resampled, resampled_length
from audiozen_core.audio.resampling import resample as resample_whole
from audiozen_core.errors import DataError

RATES = [(44100, 16000), (16000, 44100), (48000, 16000), (16000, 48000), (22050, 16000), (8000, 16000), (11025, 8000)]


def sine(frequency, rate, length):
    return torch.sin(2 * math.pi * frequency * torch.arange(length, dtype=torch.float64) / rate).float()


def resample(wave, source, target, block=None):
    return torch.cat(list(resampled(wave.split(block or wave.shape[-1], dim=-1), source, target)), dim=-1)


def level(wave):
    return (10 * torch.log10(wave.square().mean() + 1e-20)).item()


@pytest.mark.parametrize(("source", "target"), RATES)
def test_sine_is_the_same_sine_at_the_new_rate(source, target):
    for frequency in (100, 1000, 0.4 * min(source, target)):
        found = resample(sine(frequency, source, source), source, target)
        assert len(found) == target
        middle = slice(target // 4, 3 * target // 4)
        error = (found - sine(frequency, target, target))[middle]
        assert level(error) < -95, frequency


@pytest.mark.parametrize(("source", "target"), [rates for rates in RATES if rates[0] > rates[1]])
def test_frequencies_that_the_new_rate_lacks_are_removed(source, target):
    found = resample(sine(0.52 * target, source, source), source, target)
    assert level(found[target // 4 : 3 * target // 4]) < -100


@pytest.mark.parametrize(("source", "target"), RATES)
def test_result_does_not_depend_on_the_blocks(source, target):
    wave = torch.randn(2, 25 * source // 100 * 100 + 17, generator=torch.Generator().manual_seed(0))
    whole = resample(wave, source, target)
    assert whole.shape[-1] == resampled_length(wave.shape[-1], source, target)
    assert (resample(wave, source, target, block=99_991) - whole).abs().max() < 1e-6
    one = torch.nn.functional.pad(wave[:, :1000], (0, 0))
    assert (resample(one, source, target, block=1) - resample(one, source, target)).abs().max() < 1e-6


def test_windows_of_a_stream_give_what_one_call_gives(monkeypatch):
    """A signal of 25 s has three windows. In one window of all samples nothing is joined."""
    from audiozen_core.audio import resampling

    wave = torch.randn(1, 25 * 44100, generator=torch.Generator().manual_seed(0))
    joined = resample(wave, 44100, 16000)
    monkeypatch.setattr(resampling, "_SECONDS", 100)
    assert (resample(wave, 44100, 16000) - joined).abs().max() < 1e-6


@pytest.mark.parametrize("length", [1, 2, 17, 440, 441, 442])
def test_there_and_back_has_no_fewer_samples_than_before(length):
    there = resample(torch.ones(length), 44100, 16000)
    assert len(there) == math.ceil(length * 160 / 441)
    assert len(resample(there, 16000, 44100)) >= length


@pytest.mark.parametrize("shape", [(25 * 44100,), (2, 3, 1000)])
def test_signal_in_memory_is_resampled_as_a_stream(shape):
    wave = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    whole = resample_whole(wave, 44100, 16000)
    assert torch.equal(whole, resample(wave, 44100, 16000))
    assert whole.shape == (*shape[:-1], resampled_length(shape[-1], 44100, 16000))
    assert resample_whole(wave.double(), 44100, 16000).dtype == torch.float32


def test_equal_rates_change_nothing():
    wave = torch.randn(1000)
    assert resample_whole(wave, 16000, 16000) is wave
    assert torch.equal(resample(wave, 16000, 16000), wave)


def test_rates_without_a_common_divisor_are_an_error():
    with pytest.raises(DataError, match="44101 Hz can't be resampled to 16000 Hz"):
        resample(torch.zeros(100), 44101, 16000)


def test_a_call_in_inference_mode_does_not_prevent_training_afterwards():
    _resampler.cache_clear()
    with torch.inference_mode():
        resample_whole(torch.randn(1000), 48000, 16000)
    wave = torch.randn(1000, requires_grad=True)
    resample_whole(wave, 48000, 16000).square().sum().backward()
    assert wave.grad is not None
    assert wave.grad.abs().sum() > 0


def test_filter_that_is_moved_in_inference_mode_can_still_be_used_in_training():
    _resampler.cache_clear()
    convert = _resampler(48000, 16000)
    with torch.inference_mode():
        convert(torch.zeros(1000, device="meta"))
    wave = torch.zeros(1000, device="meta", requires_grad=True)
    convert(wave).square().sum().backward()
    _resampler.cache_clear()  # a filter on the device `meta` has no values
