"""LSD, the log-spectral distance."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from torch import Tensor

from audiozen_core.binding.ranges import Range, check_ranges
from audiozen_plugins.metric.comparable import comparable


class Lsd:
    """Log-spectral distance: 0 for equal signals, and about 1 for good bandwidth extension. It has no upper limit.

    Gray and Markel, "Distance Measures for Speech Processing", TASSP 1976. The distance of a frame is the root mean
    square, over the frequencies, of the difference of log10 powers. The value is the mean over the frames, as in papers
    on bandwidth extension. Papers on speech coding use dB, which is ten times this value. A difference in level
    increases the distance. The value is NaN if a signal is silent, or shorter than a frame.

    Args:
        n_fft: the length of a frame and its Hann window, in samples. Papers use 2048, at 44.1 or 48 kHz, and also at
            16 kHz. The result depends on this length.
        hop_length: the number of samples between successive frames.
        floor: the lowest power. Lower powers are raised to it, so that digital silence has a finite distance. It is the
            squared magnitude of an STFT bin, for a signal within -1 … 1.
    """

    unit = ""
    higher_is_better = False

    def __init__(
        self,
        n_fft: Annotated[int, Range(least=2)] = 2048,
        hop_length: Annotated[int, Range(least=1)] = 512,
        floor: Annotated[float, Range(above=0)] = 1e-8,
    ) -> None:
        check_ranges(Lsd, locals())
        self.n_fft, self.hop_length, self.floor = n_fft, hop_length, floor
        usual = (n_fft, hop_length) == (2048, 512)
        self.name = "lsd" if usual else f"lsd_{n_fft}_{hop_length}"
        self.label = "LSD" if usual else f"LSD ({n_fft}, {hop_length})"

    def __call__(self, estimate: Tensor, reference: Tensor, *, sr: int) -> float:
        """Computes the distance of the estimate [time] from the reference [time].

        Raises:
            ValueError: the shapes differ.
        """
        if not comparable(estimate, reference) or len(reference) < self.n_fft:
            return math.nan
        window = torch.hann_window(self.n_fft, dtype=torch.float64)
        logarithms = []
        for signal in (estimate, reference):
            spectrum = torch.stft(signal.double(), self.n_fft, self.hop_length, window=window, return_complex=True)
            logarithms.append(spectrum.abs().square().clamp(min=self.floor).log10())
        return float((logarithms[0] - logarithms[1]).square().mean(0).sqrt().mean())
