"""The training that is replayed: that of the run, without the hooks that only watch, in a folder of its own."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tomli
from torch.utils.data import IterableDataset

from audiozen_core.checkpoint import LoadedCheckpoint
from audiozen_core.config.check import check_config
from audiozen_core.config.checked import CheckedConfig
from audiozen_core.config.load import load_config
from audiozen_core.config.overrides import written
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
    """An object with hooks that are called after those of all other plugins."""

    phase = "persist"
    after: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Built:
    """The parts of a training.

    Attributes:
        trainer: the trainer.
        loader: the training data.
        validation: the validation data; empty if only batches are made.
    """

    trainer: BaseTrainer
    loader: BatchLoader
    validation: Sequence[BatchLoader]


class ReplayedTraining(Experiment):
    """A training that is built as that of the run, and writes nothing into the folder of the run.

    Args:
        checked: the configuration.
        folder: a folder for what hooks write nevertheless.
        rank: the rank whose batches are made.
        ranks: the number of ranks.
        first_batches: for a trial, how many batches it uses.
        hook: an object with further hooks; None for none.
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
        """Returns the hooks that affect training, and the one of the replay."""
        plugins = super().lifecycle().plugins
        kept = [plugin for plugin in plugins if plugin.affects_training]
        if self._hook is None:
            return Lifecycle(kept)
        # It sees what all the others have made of a batch.
        self._hook.after = tuple(plugin.name for plugin in kept)
        return Lifecycle([*kept, Plugin("audiozen replay", self._hook, "audiozen replay")])

    @contextmanager
    def built(self, *, continues: bool) -> Iterator[Built]:
        """Builds the parts. The block runs within the scope of the experiment; the data is closed at its end."""
        with kept_generators(), self.scope, name_owners(self.checked):
            trainer, loaders = self.build(continues=continues)
            (loader,) = loaders["train"]
            validation = loaders.get("validate", [])
            try:
                yield Built(trainer, loader, validation)
            finally:
                for each in (loader, *validation):
                    each.close()


@contextmanager
def replayed_training(
    run: RunFolder, settings: Settings, *, rank: int, hook: ReplayHook | None = None, device: str | None = None
) -> Iterator[ReplayedTraining]:
    """Prepares the training of a run.

    Args:
        run: the run.
        settings: how it was set up.
        rank: the rank whose batches are made.
        hook: an object with further hooks, for a training. Without one, only batches are made: on the CPU, without the
            validation data, and without workers if the batches do not depend on them.
        device: the device; None for that of the run.

    Raises:
        RunError: the run had no such rank.
        ConfigError: the configuration no longer fits what is installed.
    """
    if not 0 <= rank < settings.ranks:
        last = settings.ranks - 1
        had = f"{settings.ranks} processes, ranks 0 to {last}" if last else "a single process"
        raise RunError(f"the run had {had}, so it has no rank {rank}", remedy="leave --rank out, or name one of these")
    name = run.folder.resolve().name
    # The folder of a run may have a name that the key in a TOML file can't have.
    place: dict[str, Any] = {"meta.save_dir": str(run.folder.resolve().parent), "meta.id": "replay"}
    if hook is None or device:
        place["meta.device"] = device or "cpu"
    changes = [*written(dict(settings.import_from)), *written(place)]
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
    """Returns the configuration without `compile`: modules that are compiled call no hooks.

    `text` is the configuration that checkpoints are compared with: that of the run, wherever it is now.
    """
    components = dict(checked.config.components)
    components["model"] = {
        suffix: dataclasses.replace(section, compile=False) if isinstance(section, ModelComponent) else section
        for suffix, section in components["model"].items()
    }
    return dataclasses.replace(checked, config=dataclasses.replace(checked.config, components=components, text=text))


def _only_batches(checked: CheckedConfig) -> CheckedConfig:
    """Returns the configuration without validation data, and without workers for data that does not depend on them.

    The samples of a stream do. A function may return a stream, so its workers stay.
    """
    datasets: dict[Any, Any] = {**checked.config.datasets, "validate": []}
    targets = [checked.component(section).target for section in datasets["train"]]
    if all(isinstance(target, type) and not issubclass(target, IterableDataset) for target in targets):
        alone = {"num_workers": 0, "prefetch_factor": None, "persistent_workers": None, "timeout": 0.0}
        datasets["train"] = [
            dataclasses.replace(section, dataloader=dataclasses.replace(section.dataloader, **alone))
            for section in datasets["train"]
        ]
    return dataclasses.replace(checked, config=dataclasses.replace(checked.config, datasets=datasets))


@contextmanager
def batches_before_a_run(experiment: Experiment) -> Iterator[Built]:
    """Builds the training data of an experiment that has not been run, as a run of one process would."""
    with tempfile.TemporaryDirectory(prefix="audiozen-") as folder:
        preview = ReplayedTraining(_only_batches(experiment.checked), Path(folder) / experiment.config.id)
        with preview.built(continues=True) as built:
            yield built


def restore_saved(training: ReplayedTraining, trainer: BaseTrainer, loaded: LoadedCheckpoint) -> None:
    """Restores a checkpoint of the run for the rank of the replay.

    Raises:
        CheckpointError: the state does not fit.
    """
    # Hooks that only watch are left out, and so are their states.
    kept = {*trainer.state.names(), EXTRA}
    state = {name: part for name, part in loaded.state.items() if name in kept}
    of_ranks = state["rng"].get("ranks")
    if of_ranks is not None:
        state["rng"] = of_ranks[training.rank]
    # The loader makes the batches of one of the ranks, and counts as that rank did.
    state["progress"] = {**state["progress"], "ranks": 1}
    checked = training.checked
    if before := loaded.state.get(EXTRA, {}).get("config"):
        text = _in_the_place_of(checked.config.text, before)
        checked = dataclasses.replace(checked, config=dataclasses.replace(checked.config, text=text))
    restore(trainer, dataclasses.replace(loaded, state=state), checked, allow_drift=True)


def _in_the_place_of(text: str, other: str) -> str:
    """Returns a configuration with the name and the folders of another one, so that these do not differ."""
    values, meta = tomli.loads(text), tomli.loads(other)["meta"]
    places = [key.removeprefix("meta.") for key in PLACES]
    values["meta"] = {name: value for name, value in values["meta"].items() if name not in places}
    values["meta"] |= {name: meta[name] for name in places if name in meta}
    return emit(values)


@contextmanager
def telling_the_folder() -> Iterator[None]:
    """Says from where relative paths are resolved, if the training can't be built or its data can't be read."""
    try:
        yield
    except (BuildError, DataError) as error:
        error.notes = (*error.notes, f"working directory: {Path.cwd()}; relative paths of the run are resolved from it")
        raise
