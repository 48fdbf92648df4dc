"""Recreates batches of a run without training, because a batch depends only on the seed, the epoch and its index."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from audiozen_core.data.loader import BatchLoader
from audiozen_core.errors import DataError, RunError
from audiozen_core.hooks.progress import Progress
from audiozen_core.replay.target import BatchPosition, batch_counts
from audiozen_core.trainer.base_trainer import BaseTrainer


def make_batch(
    trainer: BaseTrainer,
    loader: BatchLoader,
    place: BatchPosition,
    start: Progress,
    *,
    on_begin: Callable[[int], object] = lambda count: None,
    on_batch: Callable[[int], object] = lambda count: None,
) -> Any:
    """Recreates one batch as `training_step` gets it, on the device of the trainer.

    Changes that hooks make to a batch are not included, because these changes may depend on the training so far.

    Args:
        trainer: the trainer.
        loader: the training data.
        place: the position of the batch.
        start: the progress of the training at a point before the batch, such as a checkpoint. With `steps_per_epoch`,
            it determines where the epochs begin in the data.
        on_begin: called with the number of earlier batches that a stream has to make first, unless this number is 0.
        on_batch: called after each earlier batch, with the number of batches that have been made.

    Raises:
        RunError: this rank has no such batch.
        DataError: a sample can't be read.
    """
    batches, skipped = _from_place(trainer, loader, place, start)
    if skipped:
        on_begin(skipped)
    for count in range(skipped):
        if next(batches, _END) is _END:
            raise _beyond(loader, place, ended=count)
        on_batch(count + 1)
    item = next(batches, _END)
    if item is _END:
        raise _beyond(loader, place)
    if item is None:
        raise DataError(
            f"{place} has no sample, because none of its samples can be read",
            remedy="the warnings above give the reasons; the training skipped this batch too",
        )
    return trainer.load_batch(item, "train", place.batch)


def first_batches(trainer: BaseTrainer, loader: BatchLoader) -> Iterator[Any]:
    """Yields the batches of the first epoch as `training_step` gets them. Batches that can't be read are skipped."""
    for index, item in enumerate(trainer.batches(loader, 1)):
        if item is not None:
            yield trainer.load_batch(item, "train", index)


_END: Any = object()


def _from_place(
    trainer: BaseTrainer, loader: BatchLoader, place: BatchPosition, start: Progress
) -> tuple[Iterator[Any], int]:
    """Returns an iterator of batches, and the number of batches in it that come before the batch at `place`."""
    batches_per_epoch = batch_counts(trainer).per_epoch
    if batches_per_epoch is None:
        if loader.stream_workers is None:
            return trainer.batches(loader, place.epoch, start=place.batch), 0
        return trainer.batches(loader, place.epoch), place.batch
    # With `steps_per_epoch`, an epoch continues in the data where the previous epoch ended.
    passes = start.passes
    between = (place.epoch - 1 - start.epoch) * batches_per_epoch + place.batch - start.batch
    index = start.resumed_batch(loader.ranks, 1) + between
    while loader.stream_workers is None:
        loader.epoch(passes + 1)  # a sampler may give a different number of batches in each pass
        count = loader.num_batches
        assert count is not None  # it is known for a map-style data set once `epoch` was called
        if index < count:
            return trainer.batches(loader, passes + 1, start=index), 0
        passes, index = passes + 1, index - count
    return _pass_after_pass(trainer, loader, passes), index


def _pass_after_pass(trainer: BaseTrainer, loader: BatchLoader, passes: int) -> Iterator[Any]:
    """Yields the batches of a stream, pass after pass, because the number of batches in a pass is unknown."""
    while True:
        passes += 1
        yield from trainer.batches(loader, passes)


def _beyond(loader: BatchLoader, place: BatchPosition, *, ended: int | None = None) -> RunError:
    if loader.ranks > 1 and ended is None:
        return RunError(
            f"this rank has no {place}, because only some of the ranks have a batch at the end of the epoch",
            remedy="choose another --rank or an earlier batch",
        )
    return RunError(
        f"epoch {place.epoch} only has {place.batch if ended is None else ended} batches, so it has no batch "
        f"{place.batch}",
        remedy="choose an earlier batch; batches are counted from 0, as in error messages",
    )
