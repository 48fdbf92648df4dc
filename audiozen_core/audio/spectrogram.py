"""Computes spectrograms for display: levels in decibels, for waveforms of any length, in bounded memory."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

WINDOW_SECONDS = 0.032
"""The length of the window: long enough to separate the harmonics of a voice, short enough to show its syllables."""

SILENCE_DB = -200.0
"""The level of digital silence, and the lowest level that is returned."""

_ROWS = 400  # the most rows; if there are more frequencies, neighbours are merged
_FRAMES_AT_ONCE = 4096


def decibel_spectrogram(wave: Any, sr: int, *, columns: int = 1000) -> NDArray[np.float32]:
    """Returns the levels of a waveform over frequency and time.

    If a column covers several frames, the column shows the mean power of these frames. If a row covers several
    frequencies, the row shows the strongest frequency, so that a pure tone keeps its level.

    Args:
        wave: samples [time] between -1 and 1, as an array or a tensor on the CPU.
        sr: the sample rate in hertz.
        columns: the largest number of columns.

    Returns:
        Levels [frequency, column] in decibels, from 0 Hz in row 0 to half the sample rate in the last row. A sine at
        full scale has 0 dB. Columns with samples that are not finite are NaN.

    Raises:
        ValueError: the waveform has no samples, or more dimensions than time.

    Example:
        >>> import numpy as np
        >>> sine = np.sin(2 * np.pi * 1000 * np.arange(16000) / 16000)
        >>> levels = decibel_spectrogram(sine, 16000)
        >>> levels.shape, round(float(levels[32].max())), int(levels[:, 500].argmax())
        ((257, 1000), 0, 32)
    """
    samples = np.asarray(wave)
    if samples.ndim != 1 or not samples.size:
        raise ValueError(f"a spectrogram needs a waveform [time] with samples, not {list(samples.shape)}")
    n_fft = 2 * max(8, round(WINDOW_SECONDS * sr / 2))
    columns = min(columns, samples.size)
    # Frames overlap by three quarters or more. A column covers several frames if the waveform is long, otherwise one.
    in_column = math.ceil(samples.size / columns / (n_fft // 4))
    hop = samples.size / columns / in_column
    window = np.hanning(n_fft + 1)[:-1].astype(np.float32)
    scale = np.full(n_fft // 2 + 1, 2 / window.sum(), np.float32)
    scale[[0, -1]] /= 2  # at all other frequencies, a sine has half of its amplitude at the negative frequency
    group = math.ceil((n_fft // 2 + 1) / _ROWS)
    found = []
    columns_at_once = max(1, _FRAMES_AT_ONCE // in_column)
    for first in range(0, columns, columns_at_once):
        count = min(columns_at_once, columns - first)
        # The window of a frame is centred on the middle of its part of the waveform.
        centres = (np.arange(first * in_column, (first + count) * in_column) + 0.5) * hop
        begins = centres.astype(np.int64) - n_fft // 2
        frames = _stretch(samples, int(begins[0]), int(begins[-1]) + n_fft)
        frames = np.lib.stride_tricks.sliding_window_view(frames, n_fft)[begins - begins[0]]
        with np.errstate(invalid="ignore", over="ignore"):
            power = np.abs(np.fft.rfft(frames * window) * scale) ** 2
            power = power.reshape(count, in_column, -1).mean(axis=1)
        found.append(np.maximum.reduceat(power, np.arange(0, power.shape[1], group), axis=1))
    power = np.concatenate(found).T
    power[:, ~np.isfinite(power).all(axis=0)] = np.nan
    levels: NDArray[np.float32] = (10 * np.log10(np.maximum(power, 10 ** (SILENCE_DB / 10)))).astype(np.float32)
    return levels


def _stretch(samples: NDArray[Any], begin: int, end: int) -> NDArray[np.float32]:
    """Returns a part of a waveform, with zeros where the part reaches beyond an end of the waveform."""
    inside = samples[max(0, begin) : max(0, end)].astype(np.float32)
    return np.pad(inside, (max(0, -begin), end - max(0, begin) - inside.size))
