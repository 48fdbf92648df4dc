"""SDR, the signal-to-distortion ratio of BSS Eval."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from torch import Tensor

from audiozen_core.binding.ranges import Range, check_ranges
from audiozen_plugins.metric.comparable import comparable


def bss_eval_sdr(estimate: Tensor, reference: Tensor, *, filter_length: int = 512) -> Tensor:
    """Computes the signal-to-distortion ratio of BSS Eval, which allows the estimate to be a filtered reference.

    Vincent, Gribonval and Févotte, "Performance Measurement in Blind Audio Source Separation", TASLP 2006. The
    reference is filtered so that it is as close as possible to the estimate, and the filtered reference is the target.
    So a gain, or a channel response that is not longer than the filter, does not count as distortion. The filter is
    computed from the autocorrelation of the reference (Scheibler, "SDR - Medium Rare with Fast Computations", ICASSP
    2022), in float64.

    Args:
        estimate: waveforms [..., time].
        reference: waveforms of the same shape.
        filter_length: the length of the filter in samples. Papers on separation use 512.

    Returns:
        The ratios in dB, [...], float64. NaN if a signal is silent.

    Raises:
        ValueError: the shapes differ.

    Example:
        >>> reference = torch.randn(4000, generator=torch.Generator().manual_seed(0))
        >>> noise = 0.1 * torch.randn(4000, generator=torch.Generator().manual_seed(1))
        >>> delayed = torch.nn.functional.pad(reference, (3, 0))[:4000]
        >>> bool(bss_eval_sdr(delayed + noise, reference, filter_length=16) > 19.5)
        True
    """
    if estimate.shape != reference.shape:
        raise ValueError(f"the shapes differ: {list(estimate.shape)} and {list(reference.shape)}")
    estimate, reference = (_unit(signal.double()) for signal in (estimate, reference))
    size = 1 << (reference.shape[-1] + filter_length - 2).bit_length()
    spectrum, other = torch.fft.rfft(reference, size), torch.fft.rfft(estimate, size)
    own = torch.fft.irfft(spectrum.abs().square(), size)[..., :filter_length]
    cross = torch.fft.irfft(spectrum.conj() * other, size)[..., :filter_length]
    lags = torch.arange(own.shape[-1], device=own.device)
    # The diagonal is 1. Adding a small number keeps the equations solvable if the reference has no high frequencies.
    matrix = own[..., (lags - lags[:, None]).abs()] + 1e-10 * torch.eye(len(lags), dtype=own.dtype, device=own.device)
    kept = (cross * torch.linalg.solve(matrix, cross)).sum(-1)
    return 10 * torch.log10(kept / (1 - kept))


def _unit(signal: Tensor) -> Tensor:
    """Returns the signal with an energy of 1; NaN if the signal is silent."""
    return signal / signal.square().sum(-1, keepdim=True).sqrt()


class Sdr:
    """`bss_eval_sdr` as a metric, over the whole file. It is NaN if a signal is silent, or not longer than the filter.

    Args:
        filter_length: the length of the filter in samples. If it is not 512, the name of the metric contains the
            length, such as `sdr_1`.
    """

    unit = "dB"
    higher_is_better = True

    def __init__(self, filter_length: Annotated[int, Range(least=1)] = 512) -> None:
        check_ranges(Sdr, locals())
        self.filter_length = filter_length
        self.name = "sdr" if filter_length == 512 else f"sdr_{filter_length}"
        self.label = "SDR" if filter_length == 512 else f"SDR ({filter_length})"

    def __call__(self, estimate: Tensor, reference: Tensor, *, sr: int) -> float:
        """Computes the ratio of the estimate [time] to the reference [time], in dB.

        Raises:
            ValueError: the shapes differ.
        """
        if not comparable(estimate, reference) or len(reference) <= self.filter_length:
            return math.nan
        return bss_eval_sdr(estimate, reference, filter_length=self.filter_length).item()
