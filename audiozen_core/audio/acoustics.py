"""The section `[acoustics]`. All components of an experiment share its settings. This module does not import torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


def _number(default: int, doc: str) -> Any:
    return field(default=default, metadata={"minimum": 1, "doc": doc})


@dataclass(frozen=True, slots=True)
class Acoustics:
    """The section `[acoustics]`."""

    sr: int = _number(16000, "the sample rate, in hertz")
    n_fft: int = _number(512, "the FFT size, in samples")
    hop_length: int = _number(256, "the number of samples between successive frames")
    win_length: int = _number(512, "the length of the STFT window, in samples; at most `n_fft`")
    window: str = field(default="hann", metadata={"choices": ("hann", "rectangular"), "doc": "the window of the STFT"})
