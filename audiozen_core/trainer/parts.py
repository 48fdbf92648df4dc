"""The attributes of every trainer: its components, its log, and its progress."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from audiozen_core.audio.stft import Stft
from audiozen_core.hooks.progress import Progress
from audiozen_core.kinds import Mode
from audiozen_core.logging import get_logger
from audiozen_core.trainer.components import Components


class Parts:
    """Unpacks the components: all of a kind by suffix (`models`), and the only one by a short name (`model`)."""

    def __init__(self, components: Components) -> None:
        self.models = components.models
        self.loss_functions = components.loss_functions
        self.optimizers = components.optimizers
        self.lr_schedulers = components.lr_schedulers
        self.others = components.others
        self.hooks = components.lifecycle
        self.device = components.device
        self.folder = components.folder
        self.experiment = components.experiment
        self.seed = components.seed
        self.use_amp = components.use_amp
        self.config_text = components.config_text
        self.acoustics = components.acoustics
        self.sr, self.n_fft = self.acoustics.sr, self.acoustics.n_fft
        self.hop_length, self.win_length = self.acoustics.hop_length, self.acoustics.win_length
        transform = Stft(self.acoustics)
        self.stft, self.istft = transform.transform, transform.inverse
        self.log = get_logger()
        self.progress = Progress()
        self.batch_size: int | None = None
        self.start_is_unsaved = False
        self.checkpoint_name = ""
        self._dataset_names = components.dataset_names

    def dataset_name(self, mode: Mode, dataloader_idx: int) -> str:
        """Returns the name of a data set: its `name` in the TOML file, or else its index."""
        names = self._dataset_names.get(mode, ())
        return names[dataloader_idx] if dataloader_idx < len(names) else str(dataloader_idx)

    @property
    def model(self) -> nn.Module:
        """The network of an experiment that has one."""
        return self.models[""]

    @property
    def loss_function(self) -> Callable[..., Any]:
        """The loss function of an experiment that has one."""
        return self.loss_functions[""]

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """The optimiser of an experiment that has one."""
        return self.optimizers[""]

    @property
    def lr_scheduler(self) -> Any:
        """The learning-rate scheduler of an experiment that has one network; None without a scheduler."""
        return self.lr_schedulers[""].scheduler if "" in self.lr_schedulers else None
