"""Provides the batches of an epoch, which is either a pass over the data or a fixed number of steps."""

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

    A pass goes once through the training data, and has its own order. With `steps_per_epoch`, an epoch continues in
    the data where the previous epoch ended, and a new pass begins whenever the data end. So each sample is used once in
    every pass, and workers and streams don't restart at each epoch.
    """

    steps_per_epoch: int | None = None
    _endless: Iterator[Any] | None = None

    @property
    def data_seconds(self) -> float:
        """How long the training has waited for batches since the trainer was built, in seconds."""
        return self.clock.seconds()["data"]

    @property
    def part_seconds(self) -> Mapping[str, float]:
        """The time that each part of the training has taken since the trainer was built, in seconds; see `StepPart`."""
        return self.clock.seconds()

    @property
    def gpu_part_seconds(self) -> tuple[Mapping[str, float], int]:
        """The time that a GPU has needed for each part in the measured steps, in seconds, and the number of steps."""
        return self.clock.gpu_seconds()

    def _begin_epoch(self, loader: BatchLoader) -> Iterator[Any]:
        """Returns the remaining batches of the epoch, from the position in `progress`."""
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
        """Yields the batches, and counts the time until each batch arrives as `data`."""
        while True:
            self.clock.begin("data")
            item = next(batches, _END)
            self.clock.begin("rest")
            if item is _END:
                return
            yield item

    def _begin_pass(self, loader: BatchLoader) -> Iterator[Any]:
        """Returns the remaining batches of the current pass for this rank, from the position in `progress`.

        In a turn, each rank gets one batch. If only other ranks have a batch left, the batch of this rank is None.
        """
        progress, ranks = self.progress, self.ranks.size
        # With `steps_per_epoch`, a window can contain batches of two passes.
        window = self.gradient_accumulation_steps if self.steps_per_epoch is None else 1
        start = progress.resumed_batch(ranks, window)
        allowed_missing = progress.ranks - 1 if progress.ranks != ranks else 0
        # The pass begins before `num_batches` is read, because a sampler can yield a different number in each pass.
        batches = self.batches(loader, progress.passes + 1, start=start, allowed_missing=allowed_missing)
        if self._turns:
            batches = self._turns.in_turns(batches, start, loader.num_batches, drop_last=loader.drop_last)
        is_epoch = self.steps_per_epoch is None
        progress.begin_pass(start, loader.num_batches, loader.stream_workers, ranks, is_epoch=is_epoch)
        return batches

    def _pass_after_pass(self, loader: BatchLoader, batches: Iterator[Any]) -> Iterator[Any]:
        """Yields the batches of a pass that has begun, and then of all following passes."""
        while True:
            yield from batches
            self.progress.complete_pass()
            batches = self._begin_pass(loader)

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Drops the current pass at the end of the block, so that the next training starts a new iterator."""
        try:
            yield
        finally:
            self._endless = None
