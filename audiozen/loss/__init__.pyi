from audiozen_plugins.loss.si_snr import SiSnrLoss as SiSnrLoss
from audiozen_plugins.loss.si_snr import SiSnrMagnitudeLoss as SiSnrMagnitudeLoss
from audiozen_plugins.loss.si_snr import si_snr as si_snr
from audiozen_plugins.loss.soft_dtw import SoftDTWLoss as SoftDTWLoss
