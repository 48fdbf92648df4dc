"""Mel spectrograms like the ones of librosa, with which the networks of several metrics were trained."""

from __future__ import annotations

import functools

import numpy as np
import torch

_LINEAR_MEL = 15.0
"""The mel value of 1000 Hz. The mel scale is linear in hertz below it, and logarithmic above it."""


def mel_power(signal: np.ndarray, sr: int, *, n_fft: int, hop_length: int, n_mels: int) -> np.ndarray:
    """Returns the mel spectrogram of powers [mels, frames] of a signal [time], in float32.

    Frames are centred, padded with zeros, and have a periodic Hann window. The filters come from Slaney's Auditory
    Toolbox, and all have the same area. The result equals `librosa.feature.melspectrogram` up to rounding. Unlike with
    the filters of torchaudio, this is true even for an odd `n_fft`.
    """
    padded = torch.nn.functional.pad(torch.from_numpy(signal).double(), (n_fft // 2, n_fft // 2))
    window = torch.hann_window(n_fft, dtype=torch.float64)
    spectrum = torch.fft.rfft(padded.unfold(-1, n_fft, hop_length) * window)
    power = spectrum.abs().square().numpy()
    mels: np.ndarray = (_filters(sr, n_fft, n_mels) @ power.T).astype(np.float32)
    return mels


def decibels_below_peak(power: np.ndarray) -> np.ndarray:
    """Returns powers in dB relative to their maximum, at least -80 dB. Powers below 1e-10 count as 1e-10."""
    floor = 1e-10
    decibels = 10 * np.log10(np.maximum(power, floor) / max(floor, float(power.max())))
    limited: np.ndarray = np.maximum(decibels, decibels.max() - 80)
    return limited


@functools.cache
def _filters(sr: int, n_fft: int, n_mels: int) -> np.ndarray:
    """Returns the triangular filters [mels, frequencies]."""
    frequencies = np.fft.rfftfreq(n_fft, 1 / sr)
    corners = _hertz(np.linspace(0, _mels(sr / 2), n_mels + 2))
    widths = np.diff(corners)
    ramps = corners[:, None] - frequencies
    rising, falling = -ramps[:-2] / widths[:-1, None], ramps[2:] / widths[1:, None]
    filters: np.ndarray = np.maximum(0, np.minimum(rising, falling)) * (2 / (corners[2:] - corners[:-2]))[:, None]
    return filters


def _mels(hertz: float) -> float:
    return float(_LINEAR_MEL + np.log(hertz / 1000) * 27 / np.log(6.4)) if hertz >= 1000 else hertz * 3 / 200


def _hertz(mels: np.ndarray) -> np.ndarray:
    logarithmic = 1000 * np.exp((mels - _LINEAR_MEL) * np.log(6.4) / 27)
    return np.where(mels >= _LINEAR_MEL, logarithmic, mels * 200 / 3)
