"""Spectrograms have the right levels at the right places, whatever the length, and share one scale in a picture."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from audiozen_core.audio.spectrogram import SILENCE_DB, decibel_spectrogram
from audiozen_core.audio.spectrogram_picture import draw_sheet, draw_spectrogram, png, ticks, top_level

SR = 16000


def sine(hertz, seconds, sr=SR, amplitude=1.0):
    return amplitude * np.sin(2 * np.pi * hertz * np.arange(round(seconds * sr)) / sr)


@pytest.mark.parametrize("sr", [8000, 16000, 22050, 44100, 48000])
def test_sine_has_its_level_and_its_frequency(sr):
    levels = decibel_spectrogram(sine(1000, 1, sr, amplitude=0.1), sr)
    middle = levels[:, levels.shape[1] // 2]
    hertz = np.linspace(0, sr / 2, len(levels))
    assert middle.max() == pytest.approx(-20, abs=1.5)  # a frequency between two bins loses up to 1.4 dB
    assert hertz[middle.argmax()] == pytest.approx(1000, abs=70)


def test_sine_on_a_bin_has_exactly_its_level():
    assert decibel_spectrogram(sine(1000, 1), SR)[:, 300].max() == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize(("row", "wave"), [(0, np.ones(SR)), (-1, np.tile([1.0, -1.0], SR // 2))])
def test_lowest_and_highest_frequency_have_their_level(row, wave):
    assert decibel_spectrogram(wave, SR)[row, 500] == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("seconds", [0.2, 2, 60])
def test_click_is_in_its_column(seconds):
    wave = np.zeros(round(seconds * SR))
    wave[wave.size * 3 // 4] = 1
    levels = decibel_spectrogram(wave, SR, columns=200)
    loud = np.flatnonzero(levels.max(axis=0) > SILENCE_DB)
    assert abs(loud.mean() - 150) < 2
    assert levels.shape[1] == 200


def test_long_waveform_is_the_mean_power_of_its_frames():
    noise = np.random.default_rng(0).standard_normal(40 * SR) * 0.1
    whole = 10 ** (decibel_spectrogram(noise, SR, columns=4000) / 10)
    joined = 10 ** (decibel_spectrogram(noise, SR, columns=10) / 10)
    assert joined.shape == (257, 10)
    np.testing.assert_allclose(joined.mean(), whole.mean(), rtol=0.02)


@pytest.mark.parametrize("samples", [1, 2, 7, 511, 513])
def test_short_waveform(samples):
    assert decibel_spectrogram(np.ones(samples), SR).shape == (257, samples)


def test_silence_has_the_lowest_level():
    assert (decibel_spectrogram(np.zeros(SR), SR) == SILENCE_DB).all()


def test_only_columns_near_a_nan_are_nan():
    wave = sine(1000, 2)
    wave[SR] = np.nan
    broken = np.flatnonzero(np.isnan(decibel_spectrogram(wave, SR, columns=500)).any(axis=0))
    assert 240 <= broken.min() <= broken.max() <= 260
    # The control: without the NaN all levels are finite.
    assert np.isfinite(decibel_spectrogram(sine(1000, 2), SR)).all()


@pytest.mark.parametrize("wave", [np.zeros((2, 100)), np.zeros(0)])
def test_anything_but_a_waveform_is_refused(wave):
    with pytest.raises(ValueError, match="needs a waveform"):
        decibel_spectrogram(wave, SR)


def test_tensors_are_taken():
    wave = sine(500, 0.5).astype(np.float32)
    np.testing.assert_array_equal(decibel_spectrogram(torch.from_numpy(wave), SR), decibel_spectrogram(wave, SR))


def test_a_quieter_signal_is_darker_on_the_common_scale():
    loud, quiet = (decibel_spectrogram(sine(1000, 0.5, amplitude=amplitude), SR) for amplitude in (1, 0.01))
    top = top_level([quiet, loud])
    assert top == pytest.approx(0, abs=1e-3)
    brightest = [np.asarray(draw_spectrogram(levels, top=top)).max() for levels in (loud, quiet)]
    assert brightest == [254, pytest.approx(254 / 2, abs=1)]  # 40 dB of the 80 that the picture shows
    # The control: on a scale of its own the quiet one would be as bright.
    assert np.asarray(draw_spectrogram(quiet, top=top_level([quiet]))).max() == 254


def test_low_frequencies_are_at_the_bottom_and_nan_has_a_colour_of_its_own():
    levels = np.full((10, 4), -100, np.float32)
    levels[0, 0], levels[:, 3] = 0, np.nan
    indices = np.asarray(draw_spectrogram(levels, top=0))
    assert indices[-1, 0] == 254
    assert (indices[:, 3] == 255).all()
    assert draw_spectrogram(levels, top=0).convert("RGB").getpixel((3, 0)) == (0, 214, 170)


def test_level_of_nothing_finite():
    assert top_level([np.full((3, 3), np.nan, np.float32)]) == 0


def test_sheet_has_a_panel_for_each_signal_and_a_shorter_one_ends_earlier():
    one = draw_sheet({"noisy": sine(1000, 1)}, SR)
    two = draw_sheet({"noisy": sine(1000, 1), "clean": sine(1000, 0.5)}, SR)
    assert two.width == one.width
    assert two.height > one.height
    right = np.asarray(two)[:, 900]
    assert (right[-150] == 255).all()  # behind the end of the second signal there is paper
    assert not (np.asarray(two)[-150, 300] == 255).all()
    assert Image.open(io.BytesIO(png(two))).size == two.size


@pytest.mark.parametrize(
    ("end", "count", "wanted"),
    [(8, 4, [0, 2, 4, 6, 8]), (3600, 10, list(range(0, 3600, 500))), (0.0625, 5, [0, 0.02, 0.04, 0.06])],
)
def test_ticks_are_round_numbers(end, count, wanted):
    assert ticks(end, count) == pytest.approx(wanted)
