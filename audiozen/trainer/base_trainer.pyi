from audiozen_core.trainer.base_trainer import BaseTrainer as BaseTrainer
from audiozen_core.trainer.components import Components as Components
