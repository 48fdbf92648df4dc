"""Loss functions, and the functions that they are made of."""

from audiozen_plugins.loss.adversarial import (
    AdversarialLoss,
    GanLoss,
    HingeGanLoss,
    JudgedSignals,
    LeastSquaresGanLoss,
)
from audiozen_plugins.loss.compressed import CompressedMagnitudeLoss, CompressedSpectrumLoss
from audiozen_plugins.loss.metric_gan import MetricGanLoss
from audiozen_plugins.loss.multi_resolution_stft import MultiResolutionStftLoss
from audiozen_plugins.loss.permutations import best_permutation, reordered
from audiozen_plugins.loss.pit import PitSiSnrLoss, pairwise_si_snr
from audiozen_plugins.loss.si_snr import SiSnrLoss, SiSnrMagnitudeLoss, si_snr
from audiozen_plugins.loss.soft_dtw import SoftDTWLoss
from audiozen_plugins.loss.waveform import L1WaveformLoss, L2WaveformLoss, SnrLoss, snr
from audiozen_plugins.loss.weighted_sum import WeightedLoss, WeightedSumLoss

__all__ = [
    "AdversarialLoss",
    "CompressedMagnitudeLoss",
    "CompressedSpectrumLoss",
    "GanLoss",
    "HingeGanLoss",
    "JudgedSignals",
    "L1WaveformLoss",
    "L2WaveformLoss",
    "LeastSquaresGanLoss",
    "MetricGanLoss",
    "MultiResolutionStftLoss",
    "PitSiSnrLoss",
    "SiSnrLoss",
    "SiSnrMagnitudeLoss",
    "SnrLoss",
    "SoftDTWLoss",
    "WeightedLoss",
    "WeightedSumLoss",
    "best_permutation",
    "pairwise_si_snr",
    "reordered",
    "si_snr",
    "snr",
]
