"""Networks, and the blocks that they are made of."""

from audiozen_plugins.model.gtcrn import GTCRN
from audiozen_plugins.model.sdnn import SDNN
from audiozen_plugins.model.spiking_fullsubnet import SpikingFullSubNet

__all__ = ["GTCRN", "SDNN", "SpikingFullSubNet"]
