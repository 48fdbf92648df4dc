"""Functions that add speech and noise, or several speakers, at given levels. Waves are NumPy arrays."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from audiozen_core.errors import DataError

FloatArray = NDArray[np.float32]

PEAK = 0.99
"""The largest magnitude of a sample in a mixture. A mixture with a higher peak is scaled down, and never clipped."""


def decibel_range(name: str, value: Sequence[float]) -> tuple[float, float]:
    """Returns the lowest and the highest value of an argument that is a range in dB.

    Raises:
        DataError: the argument is not a range of two finite numbers.
    """
    if len(value) != 2 or not all(map(math.isfinite, value)) or value[0] > value[1]:
        raise DataError(f"`{name}` is {list(value)}", remedy="give the lowest and the highest in dB, such as [-5, 15]")
    return float(value[0]), float(value[1])


def rms(wave: FloatArray) -> float:
    """Computes the root mean square of a wave [time]; 0 for an empty wave."""
    return float(np.sqrt(np.vdot(wave, wave) / max(1, len(wave))))


def spoken_rms(wave: FloatArray) -> float:
    """Computes the root mean square of a wave [time] up to its last sample that is not 0."""
    sounding = np.flatnonzero(wave)
    return rms(wave[: sounding[-1] + 1]) if len(sounding) else 0.0


def mix(
    speech: FloatArray, noise: FloatArray, *, snr: float, level: float, loudness: tuple[float, float] | None = None
) -> tuple[FloatArray, FloatArray]:
    """Adds noise to speech. Both arrays are overwritten, because allocating a new array takes as long as adding.

    Args:
        speech: the speech [time], not silent. It is overwritten with the speech in the mixture.
        noise: the noise [time], not silent. It is overwritten with the mixture.
        snr: the mean power of the speech, including pauses, divided by the mean power of the noise, in dB. The SI-SDR
            of the mixture is about the same.
        level: the RMS of the mixture, in dBFS. The mixture is quieter if its peak would be above 0.99.
        loudness: the RMS of the speech and the RMS of the noise, if they are known.

    Returns:
        The mixture and the speech in it, each float32 [time].

    Example:
        >>> time = np.arange(1600, dtype=np.float32)
        >>> noisy, clean = mix(np.sin(time), np.sign(np.sin(3 * time)), snr=6.0, level=-26.0)
        >>> f"{20 * np.log10(rms(clean) / rms(noisy - clean)):.3f} {20 * np.log10(rms(noisy)):.3f}"
        '6.000 -26.000'
    """
    of_speech, of_noise = loudness or (rms(speech), rms(noise))
    noise *= np.float32(of_speech / (of_noise * 10 ** (snr / 20)))
    noise += speech
    gain = 10 ** (level / 20) / max(rms(noise), 1e-12)
    scale = np.float32(min(gain, PEAK / max(_peak(noise), _peak(speech))))
    noise *= scale
    speech *= scale
    return noise, speech


def mix_speakers(
    waves: Sequence[FloatArray], *, gains: Sequence[float], level: float
) -> tuple[FloatArray, list[FloatArray]]:
    """Makes the levels of speakers equal, applies a gain to each speaker, and adds the speakers.

    Silence after the end of a speaker does not count for the level of this speaker.

    Args:
        waves: a wave [time] for each speaker. All have the same length, and none is silent.
        gains: the gain of each speaker in dB. The levels of two speakers differ by the difference of their gains.
        level: the RMS of the mixture, in dBFS. The mixture is quieter if a peak would be above 0.99.

    Returns:
        The mixture and the speakers in it, each float32 [time].

    Example:
        >>> time = np.arange(1600, dtype=np.float32)
        >>> waves = [np.sin(time), 0.1 * np.sin(0.7 * time)]
        >>> mixture, (one, two) = mix_speakers(waves, gains=[1.0, -2.0], level=-26.0)
        >>> f"{20 * np.log10(rms(one) / rms(two)):.3f} {20 * np.log10(rms(mixture)):.3f}"
        '3.000 -26.000'
    """
    scaled = [wave * np.float32(10 ** (gain / 20) / spoken_rms(wave)) for wave, gain in zip(waves, gains, strict=True)]
    mixture: FloatArray = np.sum(scaled, axis=0, dtype=np.float32)
    peak = max(map(_peak, (mixture, *scaled)))
    scale = np.float32(min(10 ** (level / 20) / max(rms(mixture), 1e-12), PEAK / peak))
    return mixture * scale, [wave * scale for wave in scaled]


def _peak(wave: FloatArray) -> float:
    """Returns the largest magnitude, without allocating an array of magnitudes."""
    return max(float(wave.max()), -float(wave.min()))


def change_speed(waves: FloatArray, length: int) -> FloatArray:
    """Plays waves [count, time] faster or slower, so that they have the given length. Pitch and tempo change alike.

    The spectrum is cut off at the end, or extended with zeros. Frequencies that would be too high for the sample rate
    are lost.

    Example:
        >>> tone = np.sin(2 * np.pi * 100 * np.arange(1000, dtype=np.float32) / 1000)
        >>> faster = change_speed(tone[None], 800)[0]
        >>> float(np.abs(faster - np.sin(2 * np.pi * 125 * np.arange(800) / 1000)).max().round(3))
        0.0
    """
    # The FFT of torch computes in float32, and is several times as fast as that of NumPy, which computes in float64.
    spectrum = torch.fft.rfft(torch.from_numpy(waves))
    resampled: FloatArray = torch.fft.irfft(spectrum, length).numpy() * np.float32(length / waves.shape[1])
    return resampled


def loop(noise: FloatArray, length: int, *, start: int, fade: int) -> FloatArray:
    """Repeats a short noise without clicks, with an equal-power crossfade from its end to its beginning.

    Args:
        noise: the noise [time].
        length: the number of samples to return.
        start: the first sample of the loop.
        fade: the length of the crossfade in samples; at most half of the noise.

    Returns:
        The noise, float32 [length].
    """
    fade = min(fade, len(noise) // 2)
    unit = noise[: len(noise) - fade].copy()
    if fade:
        angle = np.linspace(0, np.pi / 2, fade, dtype=np.float32)
        unit[:fade] = unit[:fade] * np.sin(angle) + noise[len(noise) - fade :] * np.cos(angle)
    return np.resize(np.roll(unit, -start), length)
