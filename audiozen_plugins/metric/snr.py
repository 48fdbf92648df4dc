"""Signal-to-noise ratios: over the whole file, as a mean over segments, and weighted in critical bands."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from audiozen_plugins.metric.comparable import comparable
from audiozen_plugins.metric.critical_bands import critical_band_filters, frames, spectra

_LOWEST, _HIGHEST = -10.0, 35.0
"""The limits for the SNR of a segment, in dB."""
_EPSILON = torch.finfo(torch.float64).eps


class SignalToNoiseRatio:
    """SNR over the whole file in dB: the energy of the clean signal divided by the energy of the estimate's error.

    Any difference counts as noise, even a difference in level, polarity or delay. The value is NaN if a signal is
    silent. It equals `SignalNoiseRatio` of torchmetrics with `zero_mean=False`.
    """

    name = "snr"
    label = "SNR"
    unit = "dB"
    higher_is_better = True

    def __call__(self, estimate: Tensor, reference: Tensor, *, sr: int) -> float:
        """Computes the ratio of the estimate [time] to the reference [time], in dB.

        Raises:
            ValueError: the shapes differ.
        """
        if not comparable(estimate, reference):
            return math.nan
        noise = (reference.double() - estimate.double()).square().sum()
        return float(10 * torch.log10(reference.double().square().sum() / noise))


class SegmentalSnr:
    """Segmental SNR: the mean over segments of the SNR, limited to -10 … 35 dB in each segment.

    Hansen and Pellom, "An Effective Quality Evaluation Protocol for Speech Enhancement Algorithms", ICSLP 1998. As in
    Loizou, "Speech Enhancement: Theory and Practice", 2nd edition 2013, a segment has a Hann window of 30 ms, and a new
    segment begins every 7.5 ms. Papers report this value as SSNR for VoiceBank+DEMAND. It equals the values of CMGAN
    and pysepm. Pauses also count; their SNR is about -10 dB. The value is NaN if a signal is silent, or too short for
    two segments.
    """

    name = "segmental_snr"
    label = "SSNR"
    unit = "dB"
    higher_is_better = True

    def __call__(self, estimate: Tensor, reference: Tensor, *, sr: int) -> float:
        """Computes the mean ratio of the estimate [time] to the reference [time], in dB.

        Raises:
            ValueError: the shapes differ.
        """
        if not comparable(estimate, reference):
            return math.nan
        return segmental_snr(estimate, reference, sr)


def segmental_snr(estimate: Tensor, reference: Tensor, sr: int) -> float:
    """Computes the segmental SNR of signals [time], in dB; NaN if they are shorter than a segment."""
    of_clean = frames(reference, sr)
    signal = of_clean.square().sum(-1)
    noise = (of_clean - frames(estimate, sr)).square().sum(-1)
    ratios = 10 * torch.log10(signal / (noise + _EPSILON) + _EPSILON)
    return float(ratios.clamp(_LOWEST, _HIGHEST).mean())


class FrequencyWeightedSnr:
    """Frequency-weighted segmental SNR: the mean over segments of a weighted mean over 25 critical bands, in dB.

    Hu and Loizou, "Evaluation of Objective Quality Measures for Speech Enhancement", TASLP 2008. In each band, the
    metric compares the magnitudes of spectra that are normalised in each segment, so it ignores the level. A band is
    weighted by the magnitude of the clean speech to the power 0.2. Each segment is limited to -10 … 35 dB. The segments
    are the same as in `SegmentalSnr`. The bands end at 3.8 kHz at any sample rate. The value equals `fwSNRseg` of
    pysepm. Other implementations weight the bands by the articulation index, or compare spectra without normalisation.
    The value is NaN if a signal is silent, or shorter than a segment.
    """

    name = "frequency_weighted_snr"
    label = "fwSSNR"
    unit = "dB"
    higher_is_better = True

    def __call__(self, estimate: Tensor, reference: Tensor, *, sr: int) -> float:
        """Computes the mean ratio of the estimate [time] to the reference [time], in dB.

        Raises:
            ValueError: the shapes differ.
        """
        if not comparable(estimate, reference):
            return math.nan
        filters = critical_band_filters(sr)
        # The small offset avoids a division by 0 for a segment of zeros.
        magnitudes = [spectra(signal.double() + _EPSILON, sr) for signal in (reference, estimate)]
        of_clean, of_estimate = (one / one.sum(-1, keepdim=True) @ filters.T for one in magnitudes)
        error = (of_clean - of_estimate).square().clamp(min=_EPSILON)
        weights = of_clean**0.2
        ratios = (weights * 10 * torch.log10(of_clean.square() / error)).sum(-1) / weights.sum(-1)
        return float(ratios.clamp(_LOWEST, _HIGHEST).mean())
