from audiozen_plugins.model.discriminators import MetricDiscriminator as MetricDiscriminator
from audiozen_plugins.model.discriminators import MultiResolutionDiscriminator as MultiResolutionDiscriminator
from audiozen_plugins.model.flow_net import FlowNet as FlowNet
from audiozen_plugins.model.sdnn import SDNN as SDNN
from audiozen_plugins.model.sigma_delta import DenseBlock as DenseBlock
from audiozen_plugins.model.sigma_delta import InputBlock as InputBlock
from audiozen_plugins.model.sigma_delta import OutputBlock as OutputBlock
