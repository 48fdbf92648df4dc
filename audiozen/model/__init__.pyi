from audiozen_plugins.model.conv_tasnet import ConvTasNet as ConvTasNet
from audiozen_plugins.model.dprnn import DPRNN as DPRNN
from audiozen_plugins.model.sdnn import SDNN as SDNN
from audiozen_plugins.model.sigma_delta import DenseBlock as DenseBlock
from audiozen_plugins.model.sigma_delta import InputBlock as InputBlock
from audiozen_plugins.model.sigma_delta import OutputBlock as OutputBlock
from audiozen_plugins.model.tf_gridnet import TFGridNet as TFGridNet
