"""Loss functions, and the functions that they are made of."""

from audiozen_plugins.loss.si_snr import SiSnrLoss, SiSnrMagnitudeLoss, si_snr
from audiozen_plugins.loss.soft_dtw import SoftDTWLoss

__all__ = ["SiSnrLoss", "SiSnrMagnitudeLoss", "SoftDTWLoss", "si_snr"]
