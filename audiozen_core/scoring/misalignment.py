"""Finds the delay of a signal relative to its reference, and whether the polarity of the signal is inverted."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from torch import Tensor

LONGEST_SECONDS = 1.0
"""The longest delay that is searched for, in either direction."""

_SECONDS = 60.0  # the longest part of a signal to compare; an hour would need gigabytes of memory
_LEAST_CORRELATION = 0.3  # below this value, the highest correlation may be at a random lag
_LEAST_GAIN = 1.0  # a shift is a delay only if it raises the SI-SDR by this many dB

_ODD_FACTORS = (1, 3, 5, 9, 15, 25, 27, 45, 75, 81, 125)


@dataclass(frozen=True, slots=True)
class Misalignment:
    """The delay and the polarity of a signal relative to its reference.

    Attributes:
        delay: the number of samples by which the signal is late; negative if the signal is early.
        inverted: whether the polarity of the signal is inverted.
    """

    delay: int = 0
    inverted: bool = False


def find_misalignment(estimate: Tensor, reference: Tensor, sr: int) -> Misalignment:
    """Compares a signal with its reference by their cross-correlation. Only the first minute is compared.

    A shift by at most a second counts as a delay if removing the shift would raise the SI-SDR by 1 dB or more. If the
    correlation is below 0.3 at every lag, the signals are treated as aligned, because their delay can't be determined.

    Args:
        estimate: the signal, [time].
        reference: the reference, [time]. If the lengths differ, the end of the longer signal is ignored.
        sr: the sample rate, in hertz.

    Example:
        >>> import torch
        >>> clean = torch.randn(4000, generator=torch.Generator().manual_seed(0))
        >>> find_misalignment(-torch.nn.functional.pad(clean, (3, 0))[:4000], clean, sr=16000)
        Misalignment(delay=3, inverted=True)
    """
    count = min(len(estimate), len(reference), int(_SECONDS * sr))
    first, second = (_centred(signal[:count].float()) for signal in (estimate, reference))
    energy = math.sqrt(float(first @ first) * float(second @ second))
    if count < 2 or not 0 < energy < math.inf:
        return Misalignment()
    most = min(int(LONGEST_SECONDS * sr), count // 2)
    # Search one more lag on each side. If the maximum is at one of these two lags, the true peak lies beyond the
    # longest delay.
    size = _fast_size(count + most + 2)
    product = np.fft.rfft(first, size) * np.fft.rfft(second, size).conj()
    lags = np.fft.irfft(product, size) / energy
    near = np.concatenate([lags[size - most - 1 :], lags[: most + 2]])
    delay = int(np.abs(near).argmax()) - most - 1
    peak, at_zero = float(lags[delay]), float(lags[0])
    if abs(peak) < _LEAST_CORRELATION or abs(delay) > most:
        return Misalignment()
    if _decibels(peak) - _decibels(at_zero) < _LEAST_GAIN:
        return Misalignment(0, at_zero < 0)
    return Misalignment(delay, peak < 0)


def _decibels(correlation: float) -> float:
    """Returns the SI-SDR, in dB, of two signals with this correlation coefficient."""
    kept = min(correlation**2, 1 - 1e-9)
    return 10 * math.log10(max(kept, 1e-12) / (1 - kept))


def _centred(signal: Tensor) -> np.ndarray:
    centred: np.ndarray = (signal - signal.mean()).numpy()
    return centred


def _fast_size(least: int) -> int:
    """Returns a length of at least `least` for which an FFT is fast: a power of two times a small odd number.

    The next power of two may be nearly twice as long as needed, and its strides cause conflicts in the CPU cache.
    """
    return min(odd << (-(-least // odd) - 1).bit_length() for odd in _ODD_FACTORS)
