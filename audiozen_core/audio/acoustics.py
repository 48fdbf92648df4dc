"""The section `[acoustics]` of an experiment, which all its components share. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Acoustics:
    """The section `[acoustics]`.

    Attributes:
        sr: the sample rate, in hertz.
        n_fft: the number of FFT points, in samples.
        hop_length: the number of samples between successive frames.
        win_length: the length of the STFT window, in samples; at most `n_fft`.
        window: `hann` or `rectangular`.
    """

    sr: int = 16000
    n_fft: int = 512
    hop_length: int = 256
    win_length: int = 512
    window: str = "hann"
