"""Builds the training of a run again for a replay, in a temporary folder and without hooks that only observe."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tomli
from torch.utils.data import IterableDataset

from audiozen_core.checkpoint.info import LoadedCheckpoint
from audiozen_core.config.check import check_config
from audiozen_core.config.checked import CheckedConfig
from audiozen_core.config.load import load_config
from audiozen_core.config.overrides import as_assignments
from audiozen_core.config.sections import ModelComponent
from audiozen_core.config.toml.emit import emit
from audiozen_core.data.loader import BatchLoader
from audiozen_core.errors import BuildError, DataError, RunError
from audiozen_core.experiment.config_diff import PLACES
from audiozen_core.experiment.experiment import Experiment
from audiozen_core.experiment.owners import name_owners
from audiozen_core.experiment.resume import restore
from audiozen_core.experiment.trial import Trial
from audiozen_core.hooks.lifecycle import Lifecycle, Plugin
from audiozen_core.replay.run_folder import RunFolder, Settings
from audiozen_core.trainer.base_trainer import BaseTrainer
from audiozen_core.trainer.state import EXTRA, kept_generators


class ReplayHook:
    """The base class of a hook plugin that is called after all other hook plugins."""

    phase = "persist"
    after: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class BuiltTraining:
    """The parts that a training run needs.

    Attributes:
        trainer: the trainer.
        loader: the training data.
        validation: the validation data; empty if the replay only makes batches.
    """

    trainer: BaseTrainer
    loader: BatchLoader
    validation: Sequence[BatchLoader]


class ReplayedTraining(Experiment):
    """The training of a run, built again. It writes nothing into the run folder.

    Args:
        checked: the configuration.
        folder: a temporary folder for files that hooks write.
        rank: the rank whose batches are made.
        ranks: the number of ranks.
        first_batches: the number of batches in an epoch, if the run was only tried out; None for all batches.
        hook: a hook plugin for the replay; None for no additional hooks.
    """

    def __init__(
        self,
        checked: CheckedConfig,
        folder: Path,
        *,
        rank: int = 0,
        ranks: int = 1,
        first_batches: int | None = None,
        hook: ReplayHook | None = None,
    ) -> None:
        super().__init__(checked, ("train",), trial=Trial(first_batches, folder))
        self.rank, self.rank_count = rank, ranks
        self._hook = hook

    def _share(self) -> tuple[int, int]:
        return self.rank, self.rank_count

    def lifecycle(self) -> Lifecycle:
        """Returns the hook plugins that affect training, and the hook plugin of the replay."""
        plugins = super().lifecycle().plugins
        kept = [plugin for plugin in plugins if plugin.affects_training]
        if self._hook is None:
            return Lifecycle(kept)
        # The hook comes last, because it needs the batch after all changes by other hooks.
        self._hook.after = tuple(plugin.name for plugin in kept)
        return Lifecycle([*kept, Plugin("audiozen replay", self._hook, "audiozen replay")])

    @contextmanager
    def built(self, *, continues: bool) -> Iterator[BuiltTraining]:
        """Builds the parts of the training for a `with` block, and closes the data at the end of the block.

        The block can import the experiment's own modules. `continues` is False if the initial weights are needed.
        """
        with kept_generators(), self.scope, name_owners(self.checked):
            trainer, loaders = self.build(continues=continues)
            (loader,) = loaders["train"]
            validation = loaders.get("validate", [])
            try:
                yield BuiltTraining(trainer, loader, validation)
            finally:
                for each in (loader, *validation):
                    each.close()


@contextmanager
def replayed_training(
    run: RunFolder, settings: Settings, *, rank: int, hook: ReplayHook | None = None, device: str | None = None
) -> Iterator[ReplayedTraining]:
    """Prepares the training of a run for a replay.

    Args:
        run: the run.
        settings: the settings of the training.
        rank: the rank whose batches are made.
        hook: a hook plugin, for a replay that trains. If it is None, the replay only makes batches: on the CPU, without
            validation data, and without workers if the batches do not depend on the number of workers.
        device: the device; None for the device of the run.

    Raises:
        RunError: the run had no such rank.
        ConfigError: the configuration does not fit the installed packages.
    """
    if not 0 <= rank < settings.ranks:
        last = settings.ranks - 1
        ranks = f"{settings.ranks} processes, ranks 0 to {last}" if last else "a single process"
        raise RunError(
            f"the run had {ranks}, so it has no rank {rank}", remedy="omit --rank, or choose one of these ranks"
        )
    name = run.folder.resolve().name
    # The name of the run folder may not be a valid `meta.id`, so a fixed ID is used and replaced below.
    overrides: dict[str, Any] = {"meta.save_dir": str(run.folder.resolve().parent), "meta.id": "replay"}
    if hook is None or device:
        overrides["meta.device"] = device or "cpu"
    changes = [*as_assignments(dict(settings.import_from)), *as_assignments(overrides)]
    checked = check_config(load_config(settings.config, changes, ("train",)))
    checked = dataclasses.replace(checked, config=dataclasses.replace(checked.config, id=name))
    with tempfile.TemporaryDirectory(prefix="audiozen-") as folder:
        yield ReplayedTraining(
            _without_compiling(checked, emit(settings.config.values)) if hook else _only_batches(checked),
            Path(folder) / name,
            rank=rank,
            ranks=settings.ranks,
            first_batches=settings.first_batches,
            hook=hook,
        )


def _without_compiling(checked: CheckedConfig, text: str) -> CheckedConfig:
    """Returns the configuration without `compile`, because compiled modules do not call module hooks.

    `text` is the configuration of the run, as TOML. Checkpoints are compared with this text.
    """
    components = dict(checked.config.components)
    components["model"] = {
        suffix: dataclasses.replace(section, compile=False) if isinstance(section, ModelComponent) else section
        for suffix, section in components["model"].items()
    }
    return dataclasses.replace(checked, config=dataclasses.replace(checked.config, components=components, text=text))


def _only_batches(checked: CheckedConfig) -> CheckedConfig:
    """Returns the configuration without validation data, and without workers unless the training data needs them.

    The samples of a stream depend on the number of workers. If the data set is made by a function, it may be a stream,
    so its workers are kept.
    """
    datasets: dict[Any, Any] = {**checked.config.datasets, "validate": []}
    targets = [checked.component(section).target for section in datasets["train"]]
    if all(isinstance(target, type) and not issubclass(target, IterableDataset) for target in targets):
        no_workers = {"num_workers": 0, "prefetch_factor": None, "persistent_workers": None, "timeout": 0.0}
        datasets["train"] = [
            dataclasses.replace(section, dataloader=dataclasses.replace(section.dataloader, **no_workers))
            for section in datasets["train"]
        ]
    return dataclasses.replace(checked, config=dataclasses.replace(checked.config, datasets=datasets))


@contextmanager
def batches_before_a_run(experiment: Experiment) -> Iterator[BuiltTraining]:
    """Builds the training data of an experiment before it is run, as a run with one process would."""
    with tempfile.TemporaryDirectory(prefix="audiozen-") as folder:
        preview = ReplayedTraining(_only_batches(experiment.checked), Path(folder) / experiment.config.id)
        with preview.built(continues=True) as built:
            yield built


def restore_saved(training: ReplayedTraining, trainer: BaseTrainer, loaded: LoadedCheckpoint) -> None:
    """Restores a checkpoint of the run for the rank of the replay.

    Raises:
        CheckpointError: the state does not fit the training.
    """
    # The replay has no hooks that only observe, so the states of these hooks are dropped, too.
    kept = {*trainer.state.names(), EXTRA}
    state = {name: part for name, part in loaded.state.items() if name in kept}
    states_of_ranks = state["rng"].get("ranks")
    if states_of_ranks is not None:
        state["rng"] = states_of_ranks[training.rank]
    # The loader makes the batches of a single rank, and counts them like a run with one process.
    state["progress"] = {**state["progress"], "ranks": 1}
    checked = training.checked
    if saved_config := loaded.state.get(EXTRA, {}).get("config"):
        text = _with_places_of(checked.config.text, saved_config)
        checked = dataclasses.replace(checked, config=dataclasses.replace(checked.config, text=text))
    restore(trainer, dataclasses.replace(loaded, state=state), checked, allow_drift=True)


def _with_places_of(text: str, other: str) -> str:
    """Returns a configuration with the ID and folders of another configuration, so that these settings are equal."""
    values, meta = tomli.loads(text), tomli.loads(other)["meta"]
    places = [key.removeprefix("meta.") for key in PLACES]
    values["meta"] = {name: value for name, value in values["meta"].items() if name not in places}
    values["meta"] |= {name: meta[name] for name in places if name in meta}
    return emit(values)


@contextmanager
def with_working_directory_note() -> Iterator[None]:
    """Adds the working directory to an error if the training can't be built or its data can't be read.

    Relative paths in the configuration start from the working directory.
    """
    try:
        yield
    except (BuildError, DataError) as error:
        error.notes = (
            *error.notes,
            f"working directory: {Path.cwd()}; relative paths in the configuration start there",
        )
        raise
