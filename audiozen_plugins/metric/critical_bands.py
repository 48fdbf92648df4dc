"""Segments and critical bands for several measures of Loizou, "Speech Enhancement: Theory and Practice".

The code follows the second edition of the book, CRC Press 2013.
"""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

# Centre frequencies and bandwidths, in hertz.
_CENTRES = (
    50.0, 120.0, 190.0, 260.0, 330.0, 400.0, 470.0, 540.0, 617.372, 703.378, 798.717, 904.128, 1020.38, 1148.30,
    1288.72, 1442.54, 1610.70, 1794.16, 1993.93, 2211.08, 2446.71, 2701.97, 2978.04, 3276.17, 3597.63,
)  # fmt: skip
_WIDTHS = (
    70.0, 70.0, 70.0, 70.0, 70.0, 70.0, 70.0, 77.3724, 86.0056, 95.3398, 105.411, 116.256, 127.914, 140.423, 153.823,
    168.154, 183.457, 199.776, 217.153, 235.631, 255.255, 276.072, 298.126, 321.465, 346.136,
)  # fmt: skip
_SEGMENT = 0.03
"""The length of a segment in seconds. A new segment begins every quarter of this length."""


def frames(signal: Tensor, sr: int) -> Tensor:
    """Returns the windowed segments [segments, samples] of a signal [time], in float64.

    As in the book, the last segment that fits is left out. If the signal is too short, there is no segment.
    """
    length = round(_SEGMENT * sr)
    hop = length // 4
    count = max(0, (signal.shape[-1] - length) // hop)
    if not count:
        return signal.new_zeros((0, length), dtype=torch.float64)
    window = torch.hann_window(length + 2, periodic=False, dtype=torch.float64)[1:-1]
    return signal.double().unfold(-1, length, hop)[:count] * window


def spectra(signal: Tensor, sr: int) -> Tensor:
    """Returns the magnitudes [segments, frequencies] of the segments of a signal [time], without the last frequency."""
    segments = frames(signal, sr)
    if not len(segments):  # torch can't transform an empty tensor
        return segments.new_zeros((0, _size(sr) // 2))
    magnitudes: Tensor = torch.fft.rfft(segments, _size(sr)).abs()
    return magnitudes[:, :-1]


@functools.cache
@torch.inference_mode(False)  # autograd could not use filters that were made in inference mode
def critical_band_filters(sr: int) -> Tensor:
    """Returns the Gaussian filters [25, frequencies] of the critical bands. Values below -30 dB are 0."""
    bins = _size(sr) // 2
    centres, widths = (torch.tensor(values, dtype=torch.float64)[:, None] for values in (_CENTRES, _WIDTHS))
    centres, scaled = (centres * bins / (sr / 2)).floor(), widths * bins / (sr / 2)
    logarithms = -11 * ((torch.arange(bins) - centres) / scaled).square() + (widths[0] / widths).log()
    filters = logarithms.exp()
    return filters * (filters > math.exp(-30 / (2 * 2.303)))


def _size(sr: int) -> int:
    """Returns the FFT size: the lowest power of two that is at least twice the length of a segment."""
    return int(2 ** math.ceil(math.log2(2 * round(_SEGMENT * sr))))
