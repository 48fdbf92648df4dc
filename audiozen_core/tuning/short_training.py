"""Trains an experiment for a few steps in order to measure something. Nothing is saved."""

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
from audiozen_core.distributed.environment import read_rank_info
from audiozen_core.errors import RunError
from audiozen_core.experiment.experiment import Experiment
from audiozen_core.experiment.owners import name_owners
from audiozen_core.experiment.trial import Trial
from audiozen_core.hooks.lifecycle import Lifecycle, Plugin
from audiozen_core.hooks.watching import HookWatch
from audiozen_core.trainer.base_trainer import BaseTrainer

MEASURE = "audiozen tune"
"""The name of the hook plugin that makes the measurements."""


def check_single_process(command: str = "tune") -> None:
    """Checks that this process is not one of several processes of a run.

    Args:
        command: the `audiozen` command to name in the error.

    Raises:
        RunError: this process is one of several that `torchrun` or `srun` has started.
    """
    size = read_rank_info().size
    if size > 1:
        raise RunError(
            f"`audiozen {command}` needs a single process, but this is one of {size}",
            remedy="run the command without `torchrun` or `srun`",
        )


def check_batch_size_is_used(experiment: Experiment) -> None:
    """Checks that `batch_size` decides the size of the training batches.

    Raises:
        RunError: a `batch_sampler` decides the size of the batches.
    """
    for section in experiment.config.datasets["train"]:
        if section.dataloader.batch_sampler:
            raise RunError(
                f"{section.dataloader_header} has a `batch_sampler`, which decides how large batches are",
                remedy="change the arguments of the batch sampler, and compare the time and memory that "
                "`audiozen check --build` reports",
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
    """Builds an experiment whose training lasts until the hook plugin `measure` stops it.

    Training uses the data, networks, losses, optimisers and trainer of the experiment, but no schedulers and no
    validation. Hook plugins that declare that they do not affect training are left out, such as plugins that save
    checkpoints or write records. The run folder is a temporary folder, in case a hook writes files. If `watch` is
    given, hook plugins that declare `stays_in_folder = True`, because they write only into the run folder, are not left
    out.

    Args:
        experiment: the experiment.
        measure: a hook plugin, which must implement `stop_within_epoch_reason`.
        batch_size: the number of samples in a batch; None for the experiment's own batch size.
        num_workers: the number of processes that load items; None for the experiment's own number.
        watch: the object to call when a hook begins and when a hook ends; None if hooks are not watched.

    Yields:
        The trainer, and the loader to call `train` with.
    """
    if batch_size is None:
        # This value replaces `num_threads = "auto"`, as in a run. A comparison of batch sizes keeps the default of one
        # thread, because timing different numbers of threads would need memory, and the comparison measures the memory.
        with experiment.scope, name_owners(experiment.checked):
            experiment.settle_threads()
    with tempfile.TemporaryDirectory(prefix="audiozen-") as folder:
        settings = {"batch_size": batch_size, "num_workers": num_workers}
        changes = {name: value for name, value in settings.items() if value is not None}
        short = _ShortTraining(experiment, measure, Path(folder) / experiment.config.id, changes, watch)
        with short.scope, name_owners(short.checked):
            trainer, loaders = short.build()
            (loader,) = loaders["train"]
            trainer.max_epochs, trainer.max_steps = sys.maxsize, None
            # With any other value, the trainer could skip a step, and the measurement would have a gap.
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
        # The schedulers are left out, because they would change the learning rate or fail after their last step.
        components = {**config.components, "lr_scheduler": {}}
        config = dataclasses.replace(config, components=components, datasets=datasets)
        checked = dataclasses.replace(experiment.checked, config=config)
        super().__init__(checked, ("train",), trial=Trial(None, folder))
        self._measure = measure
        self._watch = watch

    def lifecycle(self) -> Lifecycle:
        """Returns the hook plugins that take part in training, and the hook plugin `measure`."""
        plugins = super().lifecycle().plugins
        if self._watch is None:
            kept = [plugin for plugin in plugins if plugin.affects_training]
        else:
            kept = [plugin for plugin in plugins if takes_part(plugin)]
        return Lifecycle([*kept, Plugin(MEASURE, self._measure, MEASURE)], watch=self._watch)


def takes_part(plugin: Plugin) -> bool:
    """Returns whether a hook plugin takes part in a short training whose hooks are watched."""
    return plugin.affects_training or bool(getattr(plugin.instance, "stays_in_folder", False))


def _changed(table: Dataloader, changes: Mapping[str, Any]) -> Dataloader:
    if changes.get("num_workers") == 0:  # torch rejects these settings without workers
        return dataclasses.replace(table, **changes, prefetch_factor=None, persistent_workers=None, timeout=0.0)
    return dataclasses.replace(table, **changes)
