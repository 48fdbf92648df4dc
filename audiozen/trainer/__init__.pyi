from audiozen_core.distributed.settings import Distributed as Distributed
from audiozen_core.hooks.progress import Progress as Progress
from audiozen_core.trainer.base_trainer import BaseTrainer as BaseTrainer
from audiozen_core.trainer.components import Components as Components
from audiozen_core.trainer.state import RandomState as RandomState
from audiozen_plugins.trainer.adversarial import AdversarialTrainer as AdversarialTrainer
from audiozen_plugins.trainer.enhancement import EnhancementTrainer as EnhancementTrainer
from audiozen_plugins.trainer.flow import FlowTrainer as FlowTrainer
from audiozen_plugins.trainer.separation import SeparationTrainer as SeparationTrainer

from . import base_trainer as base_trainer
