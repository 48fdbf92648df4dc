"""Loads a run from its folder, for notebooks and scripts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from audiozen_core.errors import RunError
from audiozen_core.experiment.experiment import Experiment
from audiozen_core.trainer.base_trainer import BaseTrainer


@dataclass(frozen=True, slots=True)
class LoadedRun:
    """A run that has been loaded: its networks have the weights of a checkpoint, and are in evaluation mode.

    Attributes:
        experiment: the experiment, with the configuration of the run.
        trainer: the trainer; `trainer.models` has the networks by suffix.
        checkpoint: the folder of the checkpoint.
    """

    experiment: Experiment
    trainer: BaseTrainer
    checkpoint: Path

    @property
    def model(self) -> nn.Module:
        """The network, if the experiment has exactly one."""
        return self.trainer.model


def load_run(folder: Path | str, checkpoint: str = "best") -> LoadedRun:
    """Loads a run from its folder, with the configuration that the run has saved there. Builds no data sets.

    Args:
        folder: the run folder, such as `exp/baseline`. It may have been moved.
        checkpoint: `best`, `latest`, or the name of a checkpoint, such as `epoch_0012`.

    Raises:
        RunError: the folder is not that of a run.
        ConfigError: the configuration no longer fits what is installed.
        CheckpointError: there is no such checkpoint, it is damaged, or its weights do not fit the networks.
    """
    folder = Path(folder).expanduser().resolve()
    configs = sorted(folder.glob("config__*.toml"))
    if not configs:
        raise RunError(
            f"`{folder}` is not the folder of a run, because it has no `config__….toml`",
            remedy="name the folder of a run, such as `exp/baseline`",
        )
    # The run may have been moved, or started from another working directory.
    place = {"meta.save_dir": folder.parent, "meta.id": folder.name}
    experiment = Experiment.load(configs[-1], overrides=place, modes=[])
    trainer, path = experiment.restore(checkpoint)
    return LoadedRun(experiment, trainer, path)
