"""Networks for speech enhancement and separation."""

from audiozen_plugins.model.conv_tasnet import ConvTasNet
from audiozen_plugins.model.dprnn import DPRNN
from audiozen_plugins.model.sdnn import SDNN
from audiozen_plugins.model.tf_gridnet import TFGridNet

__all__ = ["DPRNN", "SDNN", "ConvTasNet", "TFGridNet"]
