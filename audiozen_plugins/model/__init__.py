"""Networks for speech enhancement and separation."""

from audiozen_plugins.model.bsrnn import BSRNN
from audiozen_plugins.model.conv_tasnet import ConvTasNet
from audiozen_plugins.model.crn import CRN
from audiozen_plugins.model.discriminators import MetricDiscriminator, MultiResolutionDiscriminator
from audiozen_plugins.model.dprnn import DPRNN
from audiozen_plugins.model.flow_net import FlowNet
from audiozen_plugins.model.gtcrn import GTCRN
from audiozen_plugins.model.sdnn import SDNN
from audiozen_plugins.model.spiking_fullsubnet import SpikingFullSubNet
from audiozen_plugins.model.tf_gridnet import TFGridNet
from audiozen_plugins.model.ul_unas import ULUNAS

__all__ = [
    "BSRNN",
    "CRN",
    "DPRNN",
    "GTCRN",
    "SDNN",
    "ULUNAS",
    "ConvTasNet",
    "FlowNet",
    "MetricDiscriminator",
    "MultiResolutionDiscriminator",
    "SpikingFullSubNet",
    "TFGridNet",
]
