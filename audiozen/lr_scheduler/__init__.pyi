from audiozen_plugins.lr_scheduler.warmup import InverseSqrt as InverseSqrt
from audiozen_plugins.lr_scheduler.warmup import Noam as Noam
from audiozen_plugins.lr_scheduler.warmup import WarmupCosine as WarmupCosine
from audiozen_plugins.lr_scheduler.warmup import WarmupLinear as WarmupLinear
