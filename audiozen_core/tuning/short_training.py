"""A training that only measures: the steps are those of the experiment, and nothing of it is kept."""

from __future__ import annotations

import dataclasses
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from audiozen_core.data.loader import BatchLoader
from audiozen_core.distributed.environment import find_place
from audiozen_core.errors import RunError
from audiozen_core.experiment.experiment import Experiment
from audiozen_core.experiment.owners import name_owners
from audiozen_core.experiment.trial import Trial
from audiozen_core.hooks.lifecycle import Lifecycle, Plugin
from audiozen_core.trainer.base_trainer import BaseTrainer


def check_single_process() -> None:
    """Checks that this process is not one of several.

    Raises:
        RunError: it is, because `torchrun` or `srun` has started it.
    """
    size = find_place().size
    if size > 1:
        raise RunError(
            f"`audiozen tune` needs a single process, but this is one of {size}",
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
    experiment: Experiment, measure: object, *, batch_size: int | None = None
) -> Iterator[tuple[BaseTrainer, BatchLoader]]:
    """Builds an experiment for a training that lasts until the hook `measure` stops it.

    The training has the data, networks, losses, optimisers and trainer of the experiment. It has no schedulers, no
    validation, and none of the hooks that say that they do not affect training, such as those that save checkpoints or
    write records. Its folder is a temporary one, for hooks that write nevertheless.

    Args:
        experiment: the experiment.
        measure: an object with hooks. One of them must be `stop_within_epoch_reason`.
        batch_size: the number of samples in a batch; by default that of the experiment.

    Yields:
        The trainer, and the loader to call `train` with.
    """
    with tempfile.TemporaryDirectory(prefix="audiozen-") as folder:
        short = _ShortTraining(experiment, measure, Path(folder) / experiment.config.id, batch_size)
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
    def __init__(self, experiment: Experiment, measure: object, folder: Path, batch_size: int | None) -> None:
        config = experiment.config
        datasets = {**config.datasets, "validate": []}
        if batch_size is not None:
            datasets["train"] = [
                dataclasses.replace(section, dataloader=dataclasses.replace(section.dataloader, batch_size=batch_size))
                for section in config.datasets["train"]
            ]
        # Without their sections, schedulers can't change the rates when they are built, or fail at their end.
        components = {**config.components, "lr_scheduler": {}}
        config = dataclasses.replace(config, components=components, datasets=datasets)
        checked = dataclasses.replace(experiment.checked, config=config)
        super().__init__(checked, ("train",), trial=Trial(None, folder))
        self._measure = measure

    def lifecycle(self) -> Lifecycle:
        """Returns the hooks that affect training, and the one that measures."""
        affecting = [plugin for plugin in super().lifecycle().plugins if plugin.affects_training]
        return Lifecycle([*affecting, Plugin("audiozen tune", self._measure, "audiozen tune")])
