"""Adds speech and noise at a given signal-to-noise ratio. Pure functions on NumPy waves."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Wave = NDArray[np.float32]

PEAK = 0.99
"""The largest magnitude of a sample in a mixture. A louder mixture is scaled down to this peak, and never clipped."""


def rms(wave: Wave) -> float:
    """Computes the root mean square of a wave [time]; 0 for an empty wave."""
    return float(np.sqrt(np.vdot(wave, wave) / max(1, len(wave))))


def mix(speech: Wave, noise: Wave, *, snr: float, level: float) -> tuple[Wave, Wave]:
    """Adds noise to speech.

    Args:
        speech: [time], not silent.
        noise: [time], not silent.
        snr: the ratio of the mean power of the speech, pauses included, to that of the noise, in dB. The SI-SDR of the
            mixture is about equal to it.
        level: the RMS of the mixture, in dBFS. The mixture is quieter if its peak would be above 0.99.

    Returns:
        The mixture and the speech in it, each float32 [time].

    Example:
        >>> time = np.arange(1600, dtype=np.float32)
        >>> noisy, clean = mix(np.sin(time), np.sign(np.sin(3 * time)), snr=6.0, level=-26.0)
        >>> f"{20 * np.log10(rms(clean) / rms(noisy - clean)):.3f} {20 * np.log10(rms(noisy)):.3f}"
        '6.000 -26.000'
    """
    noisy = speech + noise * np.float32(rms(speech) / (rms(noise) * 10 ** (snr / 20)))
    gain = 10 ** (level / 20) / max(rms(noisy), 1e-12)
    peak = max(float(np.abs(noisy).max()), float(np.abs(speech).max()))
    scale = np.float32(min(gain, PEAK / peak))
    return noisy * scale, speech * scale


def loop(noise: Wave, length: int, *, start: int, fade: int) -> Wave:
    """Repeats a short noise without clicks, by an equal-power crossfade from its end to its beginning.

    Args:
        noise: [time].
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
