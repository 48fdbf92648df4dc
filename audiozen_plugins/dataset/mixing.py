"""Speech and noise added at a given signal-to-noise ratio. Pure functions on NumPy waves."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Wave = NDArray[np.float32]

PEAK = 0.99
"""The largest sample of a mixture: loud ones are turned down to it, never clipped."""


def rms(wave: Wave) -> float:
    """The root mean square of a wave; 0 for an empty one."""
    return float(np.sqrt(np.vdot(wave, wave) / max(1, len(wave))))


def mix(speech: Wave, noise: Wave, *, snr: float, level: float) -> tuple[Wave, Wave]:
    """Adds noise to speech.

    Args:
        speech: [time], not silent.
        noise: [time], not silent.
        snr: the power of all of the speech over that of all of the noise, pauses included, in dB. The SI-SDR of the
            mixture is about this number.
        level: the RMS of the mixture, in dBFS; less where a peak would pass 0.99.

    Returns:
        The mixture and the speech in it, float32 [time] each.

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
    """Repeats a short noise without a click: its end is faded into its beginning, with equal power.

    Args:
        noise: [time].
        length: how many samples to give.
        start: where in the loop to begin, in samples.
        fade: over how many samples to fade; at most half of the noise is used.
    """
    fade = min(fade, len(noise) // 2)
    unit = noise[: len(noise) - fade].copy()
    if fade:
        angle = np.linspace(0, np.pi / 2, fade, dtype=np.float32)
        unit[:fade] = unit[:fade] * np.sin(angle) + noise[len(noise) - fade :] * np.cos(angle)
    return np.resize(np.roll(unit, -start), length)
