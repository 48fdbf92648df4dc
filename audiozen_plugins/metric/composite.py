"""The composite measures CSIG, CBAK and COVL."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from audiozen_plugins.metric.comparable import comparable
from audiozen_plugins.metric.critical_bands import critical_band_filters, frames, spectra
from audiozen_plugins.metric.pesq import Pesq
from audiozen_plugins.metric.rates import check_rate, resampled
from audiozen_plugins.metric.shared_result import SharedResult
from audiozen_plugins.metric.snr import segmental_snr

_RATE = 16_000
_KEPT = 0.95
"""The fraction of the segments over which a distance is averaged: the segments with the lowest distances."""
_ORDER = 16
"""The order of linear prediction."""
_FULL_SCALE = 32768
"""Samples are divided by this before their spectral slopes are computed; see `weighted_slope`."""


class CompositeTerms(NamedTuple):
    """The terms of the composite measures: PESQ, the distances LLR and WSS, and the segmental SNR in dB."""

    pesq: float
    llr: float
    slope: float
    ssnr: float


class Composite:
    """A composite measure, from 1 to 5: a linear combination of PESQ, segmental SNR and two distances.

    The distances are the log-likelihood ratio (LLR) and the weighted spectral slope (WSS). Hu and Loizou, "Evaluation
    of Objective Quality Measures for Speech Enhancement", TASLP 2008. This is the variant that papers report for
    VoiceBank+DEMAND. It uses wide-band PESQ, although the coefficients were fitted to narrow-band PESQ. LLR and WSS are
    averaged over the 95 % of the segments with the lowest distances. For WSS, the samples, although already scaled to
    -1 … 1, are divided by 32768. The MATLAB program of Loizou's book and `compute_metrics.py` of CMGAN do the same, and
    the values equal the values of CMGAN. pysepm does not divide the samples for WSS, and has lower values; see
    docs/metrics.md.

    The value is NaN if PESQ is NaN, or if a signal is silent or shorter than a segment. Segments in which a signal is
    digitally silent have no LLR, and are left out of its mean.

    Args:
        resample: whether to accept audio of any sample rate, and to rate copies that are resampled to 16 kHz. The
            metric then has another name, such as `covl_16k`.

    Raises:
        MissingExtraError: pesq is not installed.
    """

    unit = ""
    higher_is_better = True
    packages = ("pesq",)
    modules = ("pesq",)

    def __init__(self, resample: bool = False) -> None:
        self._pesq = Pesq()
        self.resample = resample
        self.path = type(self).__name__.lower()
        self.name, self.label = self.path, self.path.upper()
        if resample:
            self.name, self.label = f"{self.name}_16k", f"{self.label} at 16 kHz"
            self.computed_at = _RATE
        else:
            self.sample_rates = (_RATE,)

    def __call__(self, estimate: Tensor, reference: Tensor, *, sr: int) -> float:
        """Computes the measure of the estimate [time] against the reference [time].

        Raises:
            DataError: the sample rate is not 16 kHz.
            ValueError: the shapes differ.
        """
        if not self.resample:
            check_rate(self.label, self.path, sr, self.sample_rates, resamples=True)
        if not comparable(estimate, reference):
            return math.nan
        estimate, reference = (resampled(signal, sr, _RATE) for signal in (estimate, reference))
        parts = _PARTS.get_or_compute((estimate, reference), None, lambda: _parts(self._pesq, estimate, reference))
        value = self.combined(parts)
        return min(5.0, max(1.0, value)) if math.isfinite(value) else math.nan

    def combined(self, parts: CompositeTerms) -> float:
        """Returns the linear combination, which is not yet limited to 1 … 5."""
        raise NotImplementedError


class Csig(Composite):
    """CSIG, from 1 to 5: how natural the speech signal is.

    `Composite` says which other implementations give the same values.

    Args:
        resample: whether to accept audio of any sample rate, and to rate copies that are resampled to 16 kHz. The
            metric is then called `csig_16k`.

    Raises:
        MissingExtraError: pesq is not installed.
    """

    def combined(self, parts: CompositeTerms) -> float:
        """Returns the linear combination for the speech signal."""
        return 3.093 - 1.029 * parts.llr + 0.603 * parts.pesq - 0.009 * parts.slope


class Cbak(Composite):
    """CBAK, from 1 to 5: how little the background noise disturbs.

    `Composite` says which other implementations give the same values.

    Args:
        resample: whether to accept audio of any sample rate, and to rate copies that are resampled to 16 kHz. The
            metric is then called `cbak_16k`.

    Raises:
        MissingExtraError: pesq is not installed.
    """

    def combined(self, parts: CompositeTerms) -> float:
        """Returns the linear combination for the background."""
        return 1.634 + 0.478 * parts.pesq - 0.007 * parts.slope + 0.063 * parts.ssnr


class Covl(Composite):
    """COVL, from 1 to 5: the overall quality.

    `Composite` says which other implementations give the same values.

    Args:
        resample: whether to accept audio of any sample rate, and to rate copies that are resampled to 16 kHz. The
            metric is then called `covl_16k`.

    Raises:
        MissingExtraError: pesq is not installed.
    """

    def combined(self, parts: CompositeTerms) -> float:
        """Returns the linear combination for the overall quality."""
        return 1.594 + 0.805 * parts.pesq - 0.512 * parts.llr - 0.007 * parts.slope


_PARTS: SharedResult[CompositeTerms] = SharedResult()


def _parts(pesq: Pesq, estimate: Tensor, reference: Tensor) -> CompositeTerms:
    return CompositeTerms(
        pesq(estimate, reference, sr=_RATE),
        log_likelihood_ratio(estimate, reference, _RATE),
        weighted_slope(estimate, reference, _RATE),
        segmental_snr(estimate, reference, _RATE),
    )


def log_likelihood_ratio(estimate: Tensor, reference: Tensor, sr: int) -> float:
    """Computes the mean log-likelihood ratio between the linear predictors of all segments; NaN without segments."""
    of_clean, of_estimate = (_autocorrelation(frames(signal, sr)) for signal in (reference, estimate))
    sounding = (of_clean[:, 0] > 0) & (of_estimate[:, 0] > 0)
    of_clean, of_estimate = of_clean[sounding], of_estimate[sounding]
    lags = torch.arange(_ORDER + 1)
    matrices = of_clean[:, (lags - lags[:, None]).abs()]
    energies = []
    for correlation in (of_estimate, of_clean):
        predictor = _predictor(correlation)
        energies.append(torch.einsum("si,sij,sj->s", predictor, matrices, predictor))
    return _mean_of_lowest((energies[0] / energies[1]).log())


def _autocorrelation(segments: Tensor) -> Tensor:
    """Returns the autocorrelation [segments, order + 1]."""
    length = segments.shape[-1]
    products = [(segments[:, : length - lag] * segments[:, lag:]).sum(-1) for lag in range(_ORDER + 1)]
    return torch.stack(products, dim=-1)


def _predictor(correlation: Tensor) -> Tensor:
    """Computes the error filter of linear prediction [segments, order + 1] with the Levinson-Durbin recursion."""
    filters = torch.zeros_like(correlation)
    filters[:, 0] = 1
    error = correlation[:, 0].clone()
    for order in range(1, _ORDER + 1):
        reflection = -(filters[:, :order] * correlation[:, 1 : order + 1].flip(-1)).sum(-1) / error
        extended = filters[:, : order + 1]
        filters[:, : order + 1] = extended + reflection[:, None] * extended.flip(-1)
        error = error * (1 - reflection.square())
    return filters


def weighted_slope(estimate: Tensor, reference: Tensor, sr: int) -> float:
    """Computes the mean weighted distance between spectral slopes (WSS, Klatt 1982); NaN without segments.

    The samples, although already scaled to -1 … 1, are divided by 32768, as in the program of Loizou's book. Energies
    below -100 dB count as -100 dB, so quiet parts have no influence after the division.
    """
    filters = critical_band_filters(sr)
    slopes, weights = [], []
    for signal in (reference, estimate):
        energies = spectra(signal.double() / _FULL_SCALE, sr).square() @ filters.T
        decibels = 10 * energies.clamp(min=1e-10).log10()
        slope = decibels.diff(dim=-1)
        bands = decibels[:, :-1]
        peaks = decibels.gather(-1, _nearest_peaks(slope))
        slopes.append(slope)
        weights.append(20 / (20 + decibels.amax(-1, keepdim=True) - bands) / (1 + peaks - bands))
    weight = (weights[0] + weights[1]) / 2
    distances = (weight * (slopes[0] - slopes[1]).square()).sum(-1) / weight.sum(-1)
    return _mean_of_lowest(distances)


def _nearest_peaks(slope: Tensor) -> Tensor:
    """Returns the index of the peak that each slope belongs to, [segments, slopes].

    For a falling slope, this is the peak on its left. For a rising slope, it is the last band from which the same rise
    goes up, one band before the peak, as in the program of Loizou's book.
    """
    bands = slope.shape[-1]
    peaks = torch.zeros(slope.shape, dtype=torch.int64)
    end = torch.full(slope.shape[:1], bands)
    for band in reversed(range(bands)):
        end = torch.where(slope[:, band] > 0, end, band)
        peaks[:, band] = end - 1
    start = torch.full(slope.shape[:1], -1)
    for band in range(bands):
        rises = slope[:, band] > 0
        start = torch.where(rises, band, start)
        peaks[:, band] = torch.where(rises, peaks[:, band], start + 1)
    return peaks


def _mean_of_lowest(distances: Tensor) -> float:
    return float(distances.sort().values[: round(_KEPT * len(distances))].mean())
