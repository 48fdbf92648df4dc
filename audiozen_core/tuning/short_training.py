"""A training that only measures: the steps are those of the experiment, and nothing of it is kept."""

from __future__ import annotations

import dataclasses
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from audiozen_core.config.sections import Dataloader
from audiozen_core.data.loader import BatchLoader
from audiozen_core.distributed.environment import find_place
from audiozen_core.errors import RunError
from audiozen_core.experiment.experiment import Experiment
from audiozen_core.experiment.owners import name_owners
from audiozen_core.experiment.trial import Trial
from audiozen_core.hooks.lifecycle import Lifecycle, Plugin
from audiozen_core.hooks.watching import HookWatch
from audiozen_core.trainer.base_trainer import BaseTrainer

MEASURE = "audiozen tune"
"""The name of the hook that measures."""


def check_single_process(command: str = "tune") -> None:
    """Checks that this process is not one of several. `command` is the one that needs it.

    Raises:
        RunError: it is, because `torchrun` or `srun` has started it.
    """
    size = find_place().size
    if size > 1:
        raise RunError(
            f"`audiozen {command}` needs a single process, but this is one of {size}",
            remedy="start it without `torchrun` or `srun`",
        )


def check_batch_size_is_used(experiment: Experiment) -> None:
    """Checks that the training data is made into batches by `batch_size`.

    Raises:
        RunError: a `batch_sampler` makes them.
    """
    for section in experiment.config.datasets["train"]:
        if section.dataloader.batch_sampler:
            raise RunError(
                f"{section.dataloader_header} has a `batch_sampler`, which decides how large batches are",
                remedy="change its arguments, and compare `audiozen check --build`, which tells time and memory",
            )


@contextmanager
def short_training(
    experiment: Experiment,
    measure: object,
    *,
    batch_size: int | None = None,
    num_workers: int | None = None,
    watch: HookWatch | None = None,
) -> Iterator[tuple[BaseTrainer, BatchLoader]]:
    """Builds an experiment for a training that lasts until the hook `measure` stops it.

    The training has the data, networks, losses, optimisers and trainer of the experiment. It has no schedulers, no
    validation, and none of the hooks that say that they do not affect training, such as those that save checkpoints or
    write records. Its folder is a temporary one, for hooks that write nevertheless. If hooks are watched, those that
    write only into this folder, and say so by `stays_in_folder = True`, take part too.

    Args:
        experiment: the experiment.
        measure: an object with hooks. One of them must be `stop_within_epoch_reason`.
        batch_size: the number of samples in a batch; by default that of the experiment.
        num_workers: the number of processes that make items; by default that of the experiment.
        watch: is told when a hook begins and ends, but not of those of `measure`; None for nobody.

    Yields:
        The trainer, and the loader to call `train` with.
    """
    if batch_size is None:
        # As in a run. Sizes are compared with one thread, because a measurement would need memory, which is measured.
        with experiment.scope, name_owners(experiment.checked):
            experiment.settle_threads()
    with tempfile.TemporaryDirectory(prefix="audiozen-") as folder:
        given = {"batch_size": batch_size, "num_workers": num_workers}
        changes = {name: value for name, value in given.items() if value is not None}
        short = _ShortTraining(experiment, measure, Path(folder) / experiment.config.id, changes, watch)
        with short.scope, name_owners(short.checked):
            trainer, loaders = short.build()
            (loader,) = loaders["train"]
            trainer.max_epochs, trainer.max_steps = sys.maxsize, None
            # A step that is left out would leave a gap in what is measured.
            trainer.on_nonfinite = "stop"
            try:
                yield trainer, loader
            finally:
                loader.close()


class _ShortTraining(Experiment):
    def __init__(
        self,
        experiment: Experiment,
        measure: object,
        folder: Path,
        dataloader: Mapping[str, Any],
        watch: HookWatch | None,
    ) -> None:
        config = experiment.config
        datasets = {**config.datasets, "validate": []}
        datasets["train"] = [
            dataclasses.replace(section, dataloader=_changed(section.dataloader, dataloader))
            for section in config.datasets["train"]
        ]
        # Without their sections, schedulers can't change the rates when they are built, or fail at their end.
        components = {**config.components, "lr_scheduler": {}}
        config = dataclasses.replace(config, components=components, datasets=datasets)
        checked = dataclasses.replace(experiment.checked, config=config)
        super().__init__(checked, ("train",), trial=Trial(None, folder))
        self._measure = measure
        self._watch = watch

    def lifecycle(self) -> Lifecycle:
        """Returns the hooks that affect training, and the one that measures."""
        plugins = super().lifecycle().plugins
        if self._watch is None:
            kept = [plugin for plugin in plugins if plugin.affects_training]
        else:
            kept = [plugin for plugin in plugins if takes_part(plugin)]
        return Lifecycle([*kept, Plugin(MEASURE, self._measure, MEASURE)], watch=self._watch)


def takes_part(plugin: Plugin) -> bool:
    """Whether a hook is part of a short training whose hooks are watched."""
    return plugin.affects_training or bool(getattr(plugin.instance, "stays_in_folder", False))


def _changed(table: Dataloader, changes: Mapping[str, Any]) -> Dataloader:
    if changes.get("num_workers") == 0:  # these are for workers
        return dataclasses.replace(table, **changes, prefetch_factor=None, persistent_workers=None, timeout=0.0)
    return dataclasses.replace(table, **changes)
