from __future__ import annotations

import numpy as np
import pytest

from audiozen_plugins.dataset.mixing import PEAK, loop, mix, rms


@pytest.fixture
def waves():
    rng = np.random.default_rng(0)
    return rng.standard_normal((2, 8000)).astype(np.float32) * np.array([[0.1], [0.003]], np.float32)


def decibel(ratio):
    return 20 * np.log10(ratio)


@pytest.mark.parametrize("snr", [-10.0, 0.0, 17.5])
def test_the_mixture_has_the_given_snr_and_level(waves, snr):
    noisy, clean = mix(*waves, snr=snr, level=-30.0)

    assert decibel(rms(clean) / rms(noisy - clean)) == pytest.approx(snr, abs=1e-3)
    assert decibel(rms(noisy)) == pytest.approx(-30.0, abs=1e-3)


def test_mixing_only_scales_speech_and_noise(waves):
    noisy, clean = mix(*waves.copy(), snr=3.0, level=-30.0)

    assert np.corrcoef(clean, waves[0])[0, 1] == pytest.approx(1.0, abs=1e-6)
    assert np.corrcoef(noisy - clean, waves[1])[0, 1] == pytest.approx(1.0, abs=1e-6)


def test_a_known_loudness_changes_nothing(waves):
    expected = mix(*waves.copy(), snr=3.0, level=-30.0)
    loudness = rms(waves[0]), rms(waves[1])

    assert np.array_equal(mix(*waves.copy(), snr=3.0, level=-30.0, loudness=loudness), expected)
    assert not np.array_equal(mix(*waves, snr=3.0, level=-30.0, loudness=(1.0, 1.0)), expected)


def test_mixture_that_would_clip_is_scaled_down_as_a_whole(waves):
    noisy, clean = mix(*waves, snr=5.0, level=0.0)

    assert max(np.abs(noisy).max(), np.abs(clean).max()) == pytest.approx(PEAK)
    assert decibel(rms(clean) / rms(noisy - clean)) == pytest.approx(5.0, abs=1e-3)


def test_a_loop_repeats_with_its_period_and_has_no_click():
    time = np.arange(1000, dtype=np.float32)
    # 999 samples are not a multiple of the period, so the wave would jump without the crossfade.
    noise = np.sin(time * 0.1 * np.pi + 0.4)

    looped = loop(noise[:-1], 3000, start=123, fade=100)
    plain = loop(noise[:-7], 3000, start=123, fade=0)

    assert looped.shape == (3000,)
    assert np.array_equal(looped[: 3000 - 899], looped[899:])
    assert np.abs(np.diff(looped)).max() < 0.5
    assert np.abs(np.diff(plain)).max() > 0.5


def test_crossfade_keeps_the_power_of_the_noise():
    noise = np.random.default_rng(0).standard_normal(100_000).astype(np.float32)

    assert rms(loop(noise, 60_000, start=0, fade=50_000)[:50_000]) == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize("length", [1, 2, 3])
def test_a_noise_of_a_few_samples_can_be_looped(length):
    assert loop(np.ones(length, np.float32), 10, start=0, fade=320).shape == (10,)
