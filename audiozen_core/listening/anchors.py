"""The anchors of a listening test: recordings of a known quality beside the systems."""

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

_TRANSITION = 500.0  # Hz: from the end of the pass band to the stop band
_ATTENUATION = 60.0  # dB in the stop band


@dataclass(frozen=True, slots=True)
class LowPass:
    """An anchor that is the reference without high frequencies.

    Attributes:
        name: its name on the command line and in tables.
        cutoff: the end of the pass band in Hz.
    """

    name: str
    cutoff: int


LOW_PASSES = {anchor.name: anchor for anchor in (LowPass("lowpass3500", 3500), LowPass("lowpass7000", 7000))}
ANCHORS = (NOISY, *LOW_PASSES, NONE)


def default_anchors(*, noisy: bool, reference: bool, sr: int) -> tuple[str, ...]:
    """Returns the anchors if the user has chosen none.

    The noisy recording is what the systems were given, so it is always one of them. The low anchor of BS.1534 is the
    other one, where the rate leaves something to remove. Its mid anchor, at 7 kHz, is for audio of full band.

    Args:
        noisy: whether the noisy recordings are known.
        reference: whether the test has a reference, of which a low-pass anchor can be made.
        sr: the lowest sample rate of the reference in Hz.
    """
    low = ("lowpass3500",) * (reference and sr > 8000)
    mid = ("lowpass7000",) * (reference and not noisy and sr >= 32000)
    return (*(NOISY,) * noisy, *low, *mid)


def check_anchors(names: Sequence[str], *, noisy: bool, reference: bool, sr: int) -> tuple[str, ...]:
    """Checks the anchors that the user has chosen, and returns each once.

    Raises:
        RunError: an anchor can't be made from these recordings.
    """
    chosen = tuple(dict.fromkeys(names))
    if NONE in chosen:
        if len(chosen) > 1:
            raise RunError(f"the anchors are {', '.join(chosen)}", remedy="give `none` alone, or leave it out")
        return ()
    for name in chosen:
        if name not in ANCHORS:
            raise RunError(f"`{name}` is not an anchor", remedy=f"choose from {', '.join(ANCHORS)}")
        if name == NOISY:
            if not noisy:
                raise RunError(
                    "the anchor `noisy` needs the noisy recordings", remedy="name their folder with `--noisy`"
                )
        elif not reference:
            raise RunError(f"the anchor `{name}` needs the clean recordings", remedy="name their folder with `--clean`")
        elif sr <= 2 * LOW_PASSES[name].cutoff:
            raise RunError(
                f"the anchor `{name}` is not possible: audio of {sr} Hz has nothing above {sr / 2000:g} kHz that a "
                "low-pass could remove",
                remedy=f"choose another one from {', '.join(other for other in ANCHORS if other != name)}",
            )
    return chosen


def low_pass(wave: NDArray[Any], sr: int, cutoff: float) -> NDArray[np.float64]:
    """Removes the frequencies above a cut-off, without a delay.

    A windowed sinc, flat to 0.1 dB up to the cut-off, and at least 50 dB lower from 500 Hz above it: BS.1534-3 asks for
    25 dB at 4 kHz and 50 dB at 4.5 kHz, for the cut-off 3.5 kHz.

    Args:
        wave: the waveform [time].
        sr: its sample rate in Hz, more than twice the cut-off.
        cutoff: the end of the pass band in Hz.

    Returns:
        The waveform, [time], of the same length.

    Raises:
        ValueError: the waveform has nothing above the cut-off.
    """
    if sr <= 2 * cutoff:
        raise ValueError(f"audio of {sr} Hz has nothing above {cutoff} Hz")
    half = math.ceil((_ATTENUATION - 8) / (2.285 * 2 * math.pi * _TRANSITION / sr) / 2)
    times = np.arange(-half, half + 1)
    middle = (cutoff + _TRANSITION / 2) / sr
    taps = 2 * middle * np.sinc(2 * middle * times) * np.kaiser(len(times), 0.1102 * (_ATTENUATION - 8.7))
    size = 1 << (len(wave) + len(taps) - 2).bit_length()
    filtered = np.fft.irfft(np.fft.rfft(wave, size) * np.fft.rfft(taps / taps.sum(), size), size)
    return filtered[half : half + len(wave)]
