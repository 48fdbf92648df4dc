"""Networks for speech enhancement and separation."""

from audiozen_plugins.model.conv_tasnet import ConvTasNet
from audiozen_plugins.model.discriminators import MetricDiscriminator, MultiResolutionDiscriminator
from audiozen_plugins.model.dprnn import DPRNN
from audiozen_plugins.model.flow_net import FlowNet
from audiozen_plugins.model.sdnn import SDNN
from audiozen_plugins.model.tf_gridnet import TFGridNet

__all__ = ["DPRNN", "SDNN", "ConvTasNet", "FlowNet", "MetricDiscriminator", "MultiResolutionDiscriminator", "TFGridNet"]
