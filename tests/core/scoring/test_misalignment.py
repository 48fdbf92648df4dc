"""Delays and inverted polarity are found by cross-correlation, and nothing is found where nothing is wrong."""

import pytest
import soundfile
import torch

from audiozen_core.scoring.misalignment import Misalignment, _fast_size, find_misalignment

RATE = 16_000


def noise(seed, length=RATE):
    return torch.randn(length, generator=torch.Generator().manual_seed(seed))


def delayed(signal, delay):
    return torch.roll(torch.nn.functional.pad(signal, (2000, 2000)), delay)[2000:-2000]


@pytest.mark.parametrize("delay", [-1500, -1, 1, 37, 1500])
@pytest.mark.parametrize("sign", [1, -1])
def test_delay_and_sign_are_found_in_noise(delay, sign):
    clean = noise(0)
    estimate = sign * delayed(clean, delay) + 0.5 * noise(1)
    assert find_misalignment(estimate, clean, RATE) == Misalignment(delay, sign < 0)


@pytest.mark.parametrize("sign", [1, -1])
def test_delay_of_more_than_a_second_is_not_taken_for_one_of_a_second(sign):
    smooth = torch.nn.functional.avg_pool1d(noise(0, 6 * RATE)[None], 9, 1)[0]
    for extra in (1, 3):
        assert find_misalignment(delayed(smooth, sign * (RATE + extra)), smooth, RATE) == Misalignment()
    assert find_misalignment(delayed(smooth, sign * RATE), smooth, RATE) == Misalignment(sign * RATE)


def test_noisy_signal_without_a_delay_is_aligned():
    clean = noise(0)
    assert find_misalignment(clean + noise(1), clean, RATE) == Misalignment()
    assert find_misalignment(0.1 - clean, clean, RATE) == Misalignment(0, True)


def test_unrelated_silent_and_short_signals_say_nothing():
    assert find_misalignment(noise(2), noise(3), RATE) == Misalignment()
    assert find_misalignment(torch.zeros(100), noise(3, 100), RATE) == Misalignment()
    assert find_misalignment(torch.ones(1), torch.ones(1), RATE) == Misalignment()


def test_delay_of_a_tone_is_not_reported_because_every_period_fits():
    tone = torch.sin(torch.arange(RATE) * 0.1)
    assert find_misalignment(tone + 0.1 * noise(1), tone, RATE) == Misalignment()


def test_real_noisy_speech_is_aligned_and_its_delayed_copy_is_not(reference):
    paths = sorted((reference / "vbdmd/clean").glob("*.wav"))
    assert paths
    for path in paths:
        clean, noisy = (
            torch.from_numpy(soundfile.read(reference / "vbdmd" / kind / path.name, dtype="float32")[0])
            for kind in ("clean", "noisy")
        )
        assert find_misalignment(noisy, clean, RATE) == Misalignment(), path.name
        assert find_misalignment(delayed(noisy, 320), clean, RATE) == Misalignment(320), path.name
        assert find_misalignment(-delayed(noisy, -5), clean, RATE) == Misalignment(-5, True), path.name


def test_lengths_of_transforms_are_at_most_an_eighth_longer_than_needed():
    sizes = {least: _fast_size(least) for least in (1, 2, 1000, 67_202, 65_537, 131_073, 976_001)}
    assert all(least <= size <= 1.13 * least for least, size in sizes.items())
    assert sizes[67_202] == 73_728
    # 2 ** 30 * 3 ** 20 * 5 ** 20 is a multiple of every such length, and of no other one.
    assert all(2**30 * 3**20 * 5**20 % size == 0 for size in sizes.values())
