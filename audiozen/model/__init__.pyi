from audiozen_plugins.model.sdnn import SDNN as SDNN
from audiozen_plugins.model.sigma_delta import DenseBlock as DenseBlock
from audiozen_plugins.model.sigma_delta import InputBlock as InputBlock
from audiozen_plugins.model.sigma_delta import OutputBlock as OutputBlock
