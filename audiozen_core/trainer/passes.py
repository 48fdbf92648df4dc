"""How a trainer gets the batches of an epoch: each epoch is a pass over the data, or it has a number of steps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from typing import Any

from audiozen_core.data.loader import BatchLoader
from audiozen_core.trainer.batch_training import BatchTraining

_END = object()


class Passes(BatchTraining):
    """The part of a trainer that reads the training data. The docstring of `BaseTrainer` explains the arguments.

    A pass is once through the training data, in the order that is drawn for it. With `steps_per_epoch`, an epoch goes
    on where the last one has ended, and a new pass begins wherever the data end. So each sample is used once in every
    pass, and neither workers nor streams have to start again at each epoch.
    """

    steps_per_epoch: int | None = None
    _endless: Iterator[Any] | None = None

    @property
    def data_seconds(self) -> float:
        """How long training has waited for its batches since the trainer was built."""
        return self.clock.seconds()["data"]

    @property
    def part_seconds(self) -> Mapping[str, float]:
        """Where the time of the training has gone since the trainer was built; see `Part`."""
        return self.clock.seconds()

    @property
    def gpu_part_seconds(self) -> tuple[Mapping[str, float], int]:
        """What a GPU has needed for the parts of the steps that were measured on it, and the number of these steps."""
        return self.clock.gpu_seconds()

    def _begin_epoch(self, loader: BatchLoader) -> Iterator[Any]:
        """Returns the batches of the epoch, from where the progress is."""
        progress = self.progress
        if self.steps_per_epoch is None:
            progress.passes, progress.pass_batch = progress.epoch, progress.batch
            batches = self._begin_pass(loader)
            progress.batch, progress.num_batches = progress.pass_batch, progress.pass_batches
        else:
            if self._endless is None:
                self._endless = self._pass_after_pass(loader, self._begin_pass(loader))
            progress.num_batches = self.steps_per_epoch * self.gradient_accumulation_steps
            batches = islice(self._endless, max(0, progress.num_batches - progress.batch))
        self.num_batches = progress.num_batches
        return self._timed(batches)

    def _timed(self, batches: Iterator[Any]) -> Iterator[Any]:
        """Yields the batches. The time until they are there is that of the data."""
        while True:
            self.clock.begin("data")
            item = next(batches, _END)
            self.clock.begin("rest")
            if item is _END:
                return
            yield item

    def _begin_pass(self, loader: BatchLoader) -> Iterator[Any]:
        """Returns the batches of the current pass, from where the progress is. With several ranks, those of this one.

        In a turn in which only other ranks have a batch, it is None.
        """
        progress, ranks = self.progress, self.ranks.size
        # A window may have batches of two passes, if an epoch has a number of steps.
        window = self.gradient_accumulation_steps if self.steps_per_epoch is None else 1
        start = progress.resumed_batch(ranks, window)
        # A sampler may give another number of batches in each pass, so it is told the pass first.
        may_lack = progress.ranks - 1 if progress.ranks != ranks else 0
        batches = self.batches(loader, progress.passes + 1, start=start, may_lack=may_lack)
        if self._turns:
            batches = self._turns.in_turns(batches, start, loader.num_batches, drop_last=loader.drop_last)
        is_epoch = self.steps_per_epoch is None
        progress.begin_pass(start, loader.num_batches, loader.stream_workers, ranks, is_epoch=is_epoch)
        return batches

    def _pass_after_pass(self, loader: BatchLoader, batches: Iterator[Any]) -> Iterator[Any]:
        """Yields the batches of a pass that has begun, and of all passes after it."""
        while True:
            yield from batches
            self.progress.complete_pass()
            batches = self._begin_pass(loader)

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Forgets the current pass at the end of the block, so that the next training reads the data anew."""
        try:
            yield
        finally:
            self._endless = None
