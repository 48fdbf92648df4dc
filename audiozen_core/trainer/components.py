"""The components that a trainer works with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from audiozen_core.audio.acoustics import Acoustics
from audiozen_core.config.plugin_sections import PluginSections
from audiozen_core.distributed.ranks import ALONE, Ranks
from audiozen_core.distributed.settings import Distributed
from audiozen_core.hooks.lifecycle import Lifecycle
from audiozen_core.kinds import Mode
from audiozen_core.trainer.frozen_weights import FrozenWeights
from audiozen_core.trainer.scheduler import Scheduler


@dataclass(slots=True)
class Components:
    """Everything that a trainer works with. An experiment creates it from the TOML file, or you create it in Python.

    If there are several networks, each has a suffix: `models["g"]` belongs to the section `[model_g]`, and
    `optimizers["g"]` trains the parameters of `models["g"]`. The only network of an experiment has the suffix "".

    Attributes:
        models: the networks by suffix, on `device`.
        loss_functions: the loss functions by suffix.
        optimizers: the optimisers by suffix.
        lr_schedulers: the schedulers by suffix.
        others: all other components, as `others[kind][suffix]`.
        acoustics: the settings of `[acoustics]`.
        sections: the sections that plugins define, by name: see `PluginSections`.
        folder: the run's directory, such as `exp/baseline`.
        experiment: the experiment ID, such as `baseline`.
        device: the device of the networks.
        seed: the seed of the run.
        use_amp: whether to use automatic mixed precision.
        lifecycle: the hooks.
        config_text: the effective config as TOML, which checkpoints and logs record.
        dataset_names: the names of the data sets by mode, in order. A data set without a name is named by its index.
        ranks: the processes of the run.
        distributed: the settings of `[distributed]`.
        frozen_weights: the weights that groups of the optimisers freeze.
        only_enhances: whether the trainer is only used to enhance audio. It then does not need the parts for training
            and evaluation, such as metrics.
    """

    models: Mapping[str, nn.Module]
    loss_functions: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    optimizers: Mapping[str, Optimizer] = field(default_factory=dict)
    lr_schedulers: Mapping[str, Scheduler] = field(default_factory=dict)
    others: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    acoustics: Acoustics = field(default_factory=Acoustics)
    sections: PluginSections = field(default_factory=PluginSections)
    folder: Path = Path()
    experiment: str = "experiment"
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    seed: int = 0
    use_amp: bool = False
    lifecycle: Lifecycle = field(default_factory=Lifecycle)
    config_text: str = ""
    dataset_names: Mapping[Mode, Sequence[str]] = field(default_factory=dict)
    ranks: Ranks = ALONE
    distributed: Distributed = field(default_factory=Distributed)
    frozen_weights: FrozenWeights = field(default_factory=FrozenWeights)
    only_enhances: bool = False
