"""The anchors of a listening test: recordings of known quality that are rated together with the systems."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audiozen_core.errors import RunError

REFERENCE = "reference"
NOISY = "noisy"
NONE = "none"

_TRANSITION = 500.0  # Hz, the width of the transition band
_ATTENUATION = 60.0  # dB in the stop band


@dataclass(frozen=True, slots=True)
class LowPass:
    """An anchor that is a low-pass filtered version of the reference.

    Attributes:
        name: the name on the command line and in tables.
        cutoff: the end of the pass band in Hz.
    """

    name: str
    cutoff: int


LOW_PASSES = {anchor.name: anchor for anchor in (LowPass("lowpass3500", 3500), LowPass("lowpass7000", 7000))}
ANCHORS = (NOISY, *LOW_PASSES, NONE)


def default_anchors(*, noisy: bool, reference: bool, sr: int) -> tuple[str, ...]:
    """Returns the default anchors.

    The noisy recordings, the input of the systems, are always an anchor if they are known. The low anchor of BS.1534,
    with a cut-off of 3.5 kHz, is added if the sample rate is above 8 kHz. The mid anchor, with a cut-off of 7 kHz, is
    only added for sample rates of at least 32 kHz, and only if the noisy recordings are unknown.

    Args:
        noisy: whether the noisy recordings are known.
        reference: whether the test has a reference, from which low-pass anchors can be made.
        sr: the lowest sample rate of the reference in Hz.
    """
    low = ("lowpass3500",) * (reference and sr > 8000)
    mid = ("lowpass7000",) * (reference and not noisy and sr >= 32000)
    return (*(NOISY,) * noisy, *low, *mid)


def check_anchors(names: Sequence[str], *, noisy: bool, reference: bool, sr: int) -> tuple[str, ...]:
    """Checks the anchors that the user chose, and removes duplicates.

    Args:
        names: the chosen anchors.
        noisy: whether the noisy recordings are known.
        reference: whether the clean recordings are known.
        sr: the lowest sample rate of the clean recordings in Hz.

    Raises:
        RunError: an anchor can't be made from these recordings.
    """
    chosen = tuple(dict.fromkeys(names))
    if NONE in chosen:
        if len(chosen) > 1:
            raise RunError(
                f"`none` can't be combined with other anchors: {', '.join(chosen)}",
                remedy="either give only `none`, or leave it out",
            )
        return ()
    for name in chosen:
        if name not in ANCHORS:
            raise RunError(f"`{name}` is not an anchor", remedy=f"choose from {', '.join(ANCHORS)}")
        if name == NOISY:
            if not noisy:
                raise RunError(
                    "the anchor `noisy` needs the noisy recordings", remedy="give their folder with `--noisy`"
                )
        elif not reference:
            raise RunError(f"the anchor `{name}` needs the clean recordings", remedy="give their folder with `--clean`")
        elif sr <= 2 * LOW_PASSES[name].cutoff:
            raise RunError(
                f"the anchor `{name}` is not possible: audio with a sample rate of {sr} Hz has no frequencies above "
                f"{sr / 2000:g} kHz, so the low-pass filter would not remove anything",
                remedy=f"choose another anchor from {', '.join(other for other in ANCHORS if other != name)}",
            )
    return chosen


def low_pass(wave: NDArray[Any], sr: int, cutoff: float) -> NDArray[np.float64]:
    """Applies a low-pass filter without delay.

    The filter is a windowed sinc. It is flat within 0.1 dB up to the cut-off, and attenuates by at least 50 dB from
    500 Hz above the cut-off. For a cut-off of 3.5 kHz, BS.1534-3 requires 25 dB at 4 kHz and 50 dB at 4.5 kHz.

    Args:
        wave: the waveform [time].
        sr: the sample rate in Hz, more than twice the cut-off.
        cutoff: the end of the pass band in Hz.

    Returns:
        The filtered waveform [time], with the same length.

    Raises:
        ValueError: the sample rate is too low, so there are no frequencies above the cut-off.
    """
    if sr <= 2 * cutoff:
        raise ValueError(f"audio with a sample rate of {sr} Hz has no frequencies above {cutoff} Hz")
    half = math.ceil((_ATTENUATION - 8) / (2.285 * 2 * math.pi * _TRANSITION / sr) / 2)
    times = np.arange(-half, half + 1)
    middle = (cutoff + _TRANSITION / 2) / sr
    taps = 2 * middle * np.sinc(2 * middle * times) * np.kaiser(len(times), 0.1102 * (_ATTENUATION - 8.7))
    size = 1 << (len(wave) + len(taps) - 2).bit_length()
    filtered = np.fft.irfft(np.fft.rfft(wave, size) * np.fft.rfft(taps / taps.sum(), size), size)
    return filtered[half : half + len(wave)]
