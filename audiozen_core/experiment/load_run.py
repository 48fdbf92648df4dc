"""Loads a run from its folder, for notebooks and scripts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from audiozen_core.checkpoint.directory import follow_link
from audiozen_core.checkpoint.format.manifest import read_manifest, read_state
from audiozen_core.checkpoint.names import BEST, LATEST
from audiozen_core.checkpoint.store import CheckpointStore
from audiozen_core.config.check import check_config
from audiozen_core.config.load import load_config
from audiozen_core.config.overrides import Overrides, as_assignments
from audiozen_core.config.toml.document import Document
from audiozen_core.errors import RunError
from audiozen_core.experiment.experiment import Experiment
from audiozen_core.experiment.run_records import training_record
from audiozen_core.trainer.base_trainer import BaseTrainer


@dataclass(frozen=True, slots=True)
class LoadedRun:
    """A loaded run. Its networks have the weights of a checkpoint, and are in evaluation mode.

    Attributes:
        experiment: the experiment, with the configuration of the run. It has no modes, so its `run` raises a
            `RunError`.
        trainer: the trainer; `trainer.models` has the networks by suffix.
        checkpoint: the folder of the checkpoint, or the file of weights.
    """

    experiment: Experiment
    trainer: BaseTrainer
    checkpoint: Path

    @property
    def model(self) -> nn.Module:
        """The network, if the experiment has exactly one."""
        return self.trainer.model


def load_run(folder: Path | str, checkpoint: str = "best", *, overrides: Overrides = ()) -> LoadedRun:
    """Loads a run from its folder, with the configuration in the checkpoint. Does not build data sets.

    If the checkpoint has no configuration, like a file of weights, the configuration with which the run last trained is
    used.

    The caller's random generators do not change. Settings in `[meta]` that affect the whole process, such as
    `num_threads`, are applied as in the run. Hook plugins are built, because they may change the networks or restore
    their own state. `on_setup` is the only hook that is called.

    Args:
        folder: the run folder, such as `exp/baseline`. It may have been moved.
        checkpoint: `best`, `latest`, the name of a checkpoint of this run, such as `epoch_0012`, or a path that
            contains a `/`, such as `./weights.safetensors`.
        overrides: changes to the configuration, as in `Experiment.load`, such as `{"meta.device": "cpu"}`.

    Raises:
        RunError: the folder is not a run folder, or neither the checkpoint nor the run has a configuration.
        ConfigError: the configuration does not fit the installed packages, or the overrides do not fit the
            configuration.
        BuildError: a component can't be built, or this machine does not have the device of the run.
        CheckpointError: the checkpoint does not exist or is damaged, or its weights do not fit the networks.
    """
    folder = Path(folder).expanduser().resolve()
    store = CheckpointStore(folder / "checkpoints")
    if not store.folder.is_dir():
        raise RunError(
            f"`{folder}` is not a run folder, because it has no folder `checkpoints`",
            remedy="give the folder of a run that has saved a checkpoint, such as `exp/baseline`",
        )
    path = locate_checkpoint(store, checkpoint)
    config, import_from = checkpoint_config(path, folder)
    # The run folder may have been moved, or the run may have been started from another working directory.
    place = {"meta.save_dir": folder.parent, "meta.id": folder.name}
    changes = [*as_assignments(import_from), *as_assignments(overrides), *as_assignments(place)]
    experiment = Experiment(check_config(load_config(config, changes, ())), modes=())
    trainer, path = experiment.load_trainer(checkpoint if checkpoint in (BEST, LATEST) else str(path))
    return LoadedRun(experiment, trainer, path)


def locate_checkpoint(store: CheckpointStore, checkpoint: str) -> Path:
    """Returns the folder of a checkpoint, or a file of weights."""
    if checkpoint in (BEST, LATEST):
        return store.locate(checkpoint)  # type: ignore[arg-type]
    if Path(checkpoint).name == checkpoint:
        return store.locate(store.folder / checkpoint)
    return follow_link(Path(checkpoint).expanduser().absolute())


def checkpoint_config(path: Path, folder: Path) -> tuple[Document, dict[str, list[str]]]:
    """Returns the configuration for a checkpoint, and an override with the folders of the run's own modules.

    Args:
        path: the folder of the checkpoint, or a file of weights.
        folder: the folder of the run.

    Raises:
        RunError: neither the checkpoint nor the run folder has a configuration.
    """
    record = training_record(folder)
    recorded = Document.read(record) if record else None
    config = _saved_config(path) or recorded
    if config is None:
        raise RunError(
            f"{path} has no configuration, and {folder} has no record `config__….toml` of a training run",
            remedy="give a checkpoint that a training run has saved",
        )
    # Only the record contains the folders from which the run imported its own modules. A checkpoint does not contain
    # them.
    return config, {"meta.import_from": recorded.values["meta"]["import_from"]} if recorded else {}


def _saved_config(path: Path) -> Document | None:
    """Returns the configuration in a checkpoint, or None. Findings about the configuration name the checkpoint."""
    if not path.is_dir() or "extra" not in read_state(path, read_manifest(path)):
        return None
    text = CheckpointStore(path.parent).load(path, owners=("extra",)).state["extra"].get("config")
    return Document.parse(text, path) if text else None
