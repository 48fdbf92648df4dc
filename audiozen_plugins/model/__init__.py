"""Networks, and the blocks that they are made of."""

from audiozen_plugins.model.discriminators import MetricDiscriminator, MultiResolutionDiscriminator
from audiozen_plugins.model.flow_net import FlowNet
from audiozen_plugins.model.sdnn import SDNN

__all__ = ["SDNN", "FlowNet", "MetricDiscriminator", "MultiResolutionDiscriminator"]
