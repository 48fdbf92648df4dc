"""Loss functions, and the functions that they are made of."""

from audiozen_plugins.loss.compressed import CompressedMagnitudeLoss, CompressedSpectrumLoss
from audiozen_plugins.loss.multi_resolution_stft import MultiResolutionStftLoss
from audiozen_plugins.loss.si_snr import SiSnrLoss, SiSnrMagnitudeLoss, si_snr
from audiozen_plugins.loss.soft_dtw import SoftDTWLoss
from audiozen_plugins.loss.waveform import L1WaveformLoss, L2WaveformLoss, SnrLoss, snr
from audiozen_plugins.loss.weighted_sum import WeightedLoss, WeightedSumLoss

__all__ = [
    "CompressedMagnitudeLoss",
    "CompressedSpectrumLoss",
    "L1WaveformLoss",
    "L2WaveformLoss",
    "MultiResolutionStftLoss",
    "SiSnrLoss",
    "SiSnrMagnitudeLoss",
    "SnrLoss",
    "SoftDTWLoss",
    "WeightedLoss",
    "WeightedSumLoss",
    "si_snr",
    "snr",
]
