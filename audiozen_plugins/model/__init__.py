"""Networks, and the blocks that they are made of."""

from audiozen_plugins.model.crn import CRN
from audiozen_plugins.model.gtcrn import GTCRN
from audiozen_plugins.model.sdnn import SDNN
from audiozen_plugins.model.spiking_fullsubnet import SpikingFullSubNet
from audiozen_plugins.model.ul_unas import ULUNAS

__all__ = ["CRN", "GTCRN", "SDNN", "ULUNAS", "SpikingFullSubNet"]
