from audiozen_plugins.model.gated_spiking import GatedSpikingLayer as GatedSpikingLayer
from audiozen_plugins.model.gtcrn import GTCRN as GTCRN
from audiozen_plugins.model.sdnn import SDNN as SDNN
from audiozen_plugins.model.sigma_delta import DenseBlock as DenseBlock
from audiozen_plugins.model.sigma_delta import InputBlock as InputBlock
from audiozen_plugins.model.sigma_delta import OutputBlock as OutputBlock
from audiozen_plugins.model.spiking_fullsubnet import SpikingFullSubNet as SpikingFullSubNet
from audiozen_plugins.model.ul_unas import ULUNAS as ULUNAS
