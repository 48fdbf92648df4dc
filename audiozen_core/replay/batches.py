"""Makes the batches of a training again, without training: they depend on (seed, epoch, index) alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from audiozen_core.data.loader import BatchLoader
from audiozen_core.errors import DataError, RunError
from audiozen_core.hooks.progress import Progress
from audiozen_core.replay.target import Place, counted
from audiozen_core.trainer.base_trainer import BaseTrainer


def make_batch(
    trainer: BaseTrainer,
    loader: BatchLoader,
    place: Place,
    start: Progress,
    *,
    on_begin: Callable[[int], object] = lambda count: None,
    on_batch: Callable[[int], object] = lambda count: None,
) -> Any:
    """Makes one batch as `training_step` gets it, on the device of the trainer.

    What hooks change in a batch is not in it, because that may depend on the training so far.

    Args:
        trainer: the trainer.
        loader: its training data.
        place: the batch.
        start: the progress of a training that comes to the batch; with `steps_per_epoch` it says where in the data the
            epochs are.
        on_begin: called with the number of earlier batches that a stream has to make again, if there are any.
        on_batch: called with the number of them that have been made.

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
            remedy="the warnings above say why; the training has left the batch out, too",
        )
    return trainer.load_batch(item, "train", place.batch)


def first_batches(trainer: BaseTrainer, loader: BatchLoader) -> Iterator[Any]:
    """Yields the batches of the first epoch as `training_step` gets them, without those that can't be read."""
    for index, item in enumerate(trainer.batches(loader, 1)):
        if item is not None:
            yield trainer.load_batch(item, "train", index)


_END: Any = object()


def _from_place(trainer: BaseTrainer, loader: BatchLoader, place: Place, start: Progress) -> tuple[Iterator[Any], int]:
    """Returns batches, and how many of them come before the one at the place."""
    of_epoch = counted(trainer).of_epoch
    if of_epoch is None:
        if loader.stream_workers is None:
            return trainer.batches(loader, place.epoch, start=place.batch), 0
        return trainer.batches(loader, place.epoch), place.batch
    # An epoch with a number of steps goes on in the data where the last one has ended.
    passes = start.passes
    between = (place.epoch - 1 - start.epoch) * of_epoch + place.batch - start.batch
    index = start.resumed_batch(loader.ranks, 1) + between
    while loader.stream_workers is None:
        loader.epoch(passes + 1)  # a sampler may give another number of batches in each pass
        count = loader.num_batches
        assert count is not None  # data that is not a stream has drawn its order
        if index < count:
            return trainer.batches(loader, passes + 1, start=index), 0
        passes, index = passes + 1, index - count
    return _pass_after_pass(trainer, loader, passes), index


def _pass_after_pass(trainer: BaseTrainer, loader: BatchLoader, passes: int) -> Iterator[Any]:
    """Yields the batches of a stream, read as often as needed: only its end tells how many it has."""
    while True:
        passes += 1
        yield from trainer.batches(loader, passes)


def _beyond(loader: BatchLoader, place: Place, *, ended: int | None = None) -> RunError:
    if loader.ranks > 1 and ended is None:
        return RunError(
            f"this rank has no {place}, because only other ranks have a batch in the last turn of the epoch",
            remedy="name another --rank, or an earlier batch",
        )
    return RunError(
        f"epoch {place.epoch} has {place.batch if ended is None else ended} batches, and no batch {place.batch}",
        remedy="batches count from 0, as in errors",
    )
