"""Turns a data set into batches whose content depends only on (seed, epoch, sample index).

The generators of Python, NumPy and Torch are seeded from these three numbers before each item. So the batches are the
same for any number of workers, and an epoch can start at any batch without making the earlier ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, Sampler, default_collate, get_worker_info

from audiozen_core.data.seeding import derive_seeds, generator_states, seed_from, set_generator_states
from audiozen_core.data.unreadable import PartialBatch, PartialCollate, UnreadableSample, UnreadableSamples
from audiozen_core.data.workers import start_worker, starting_workers, stop_workers_with
from audiozen_core.errors import DataError

Key = tuple[int, int]


class SeededDataset(Dataset[Any]):
    """A map-style data set that is indexed by (epoch, index) and seeds the generators before each item.

    An item that can't be read is returned as an `UnreadableSample`.
    """

    def __init__(self, dataset: Dataset[Any], seed: int) -> None:
        self.dataset = dataset
        self.seed = seed

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]

    def __getitem__(self, key: Key) -> Any:
        epoch, index = key
        seed_from(self.seed, epoch, index)
        try:
            return self.dataset[index]
        except (DataError, OSError) as error:
            return UnreadableSample.from_error(error, index)


class SeededStream(IterableDataset[Any]):
    """An iterable data set that seeds the generators from (seed, epoch, worker) at the start of each epoch.

    If the data set has `set_epoch`, that is called before each epoch.
    """

    def __init__(self, dataset: IterableDataset[Any], seed: int) -> None:
        self.dataset = dataset
        self.seed = seed
        self.epoch = 0

    def __iter__(self) -> Iterator[Any]:
        worker = get_worker_info()
        if hasattr(self.dataset, "set_epoch"):
            self.dataset.set_epoch(self.epoch)
        seed_from(self.seed, self.epoch, worker.id if worker else 0)
        try:
            yield from self.dataset
        except (DataError, OSError) as error:
            yield UnreadableSample.from_error(error, None)


class EpochSampler(Sampler[Key]):
    """Yields the keys (epoch, index) of one epoch, starting at any item, in an order drawn from (seed, epoch).

    `indices` is the number of items, or a sampler that yields the indices in an order of its own.
    """

    def __init__(self, indices: int | Sampler[int], *, shuffle: bool, seed: int) -> None:
        self.indices = indices
        self.shuffle = shuffle
        self.seed = seed
        self.epoch = 0
        self.start = 0

    def __len__(self) -> int:
        return self.indices if isinstance(self.indices, int) else len(self.indices)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[Key]:
        if not isinstance(self.indices, int):
            # A sampler runs in the main process even if there are workers, so it must not change the generators there.
            before = generator_states()
            try:
                seed_from(self.seed, self.epoch)
                order = list(self.indices)
            finally:
                set_generator_states(before)
        elif self.shuffle:
            generator = torch.Generator().manual_seed(derive_seeds(self.seed, self.epoch)[0])
            order = torch.randperm(self.indices, generator=generator).tolist()
        else:
            order = list(range(self.indices))
        return iter([(self.epoch, index) for index in order[self.start :]])


class BatchLoader:
    """Makes the batches of a data set, epoch by epoch.

    Args:
        dataset: a map-style or an iterable data set.
        batch_size: the number of samples in a batch.
        shuffle: whether to draw a new order for each epoch; ignored for an iterable data set.
        num_workers: the number of processes that make items; 0 makes them in the main process.
        drop_last: whether to drop the last batch if it is not full.
        pin_memory: whether to put batches in page-locked memory, which makes copies to a GPU faster.
        collate_fn: makes a batch from a list of items; by default the `collate_fn` of the data set, or that of Torch if
            the data set has none.
        sampler: yields the indices of an epoch, instead of `shuffle`.
        seed: the seed of the run.
        options: further arguments of `torch.utils.data.DataLoader`, such as `prefetch_factor` or `timeout`.

    Raises:
        DataError: the data set is empty, or `drop_last` drops its only batch.

    Example:
        >>> loader = BatchLoader([10, 20, 30, 40], batch_size=2, shuffle=True, seed=0)
        >>> first = [batch.tolist() for batch in loader.epoch(1)]
        >>> first == [batch.tolist() for batch in loader.epoch(1)]
        True
        >>> first[1:] == [batch.tolist() for batch in loader.epoch(1, start=1)]
        True
    """

    def __init__(
        self,
        dataset: Dataset[Any] | Sequence[Any],
        *,
        batch_size: int = 1,
        shuffle: bool = False,
        num_workers: int = 0,
        drop_last: bool = False,
        pin_memory: bool = False,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        sampler: Sampler[int] | None = None,
        seed: int = 0,
        **options: Any,
    ) -> None:
        self.dataset = dataset
        self.batch_size = batch_size
        self._sampler: EpochSampler | None = None
        self._stream: SeededStream | None = None
        self._running: Any = None
        self._stop_workers: Callable[[], object] = _no_workers
        if num_workers:
            options.setdefault("persistent_workers", True)
            options.setdefault("worker_init_fn", start_worker)
        if isinstance(dataset, IterableDataset):
            self._stream = SeededStream(dataset, seed)
            source: Any = self._stream
            # A worker has a copy of the stream from the time when it started, so each epoch needs new workers.
            options.pop("persistent_workers", None)
        else:
            size = len(dataset)  # type: ignore[arg-type]
            if size == 0:
                raise DataError(f"the data set {type(dataset).__name__} is empty", remedy="check its arguments")
            if drop_last and size < batch_size:
                raise DataError(
                    f"{type(dataset).__name__} has {size} items, fewer than one batch of {batch_size}, "
                    "and `drop_last` drops incomplete batches",
                    remedy="set a smaller `batch_size`, or `drop_last = false`",
                )
            source = SeededDataset(dataset, seed)  # type: ignore[arg-type]
            self._sampler = EpochSampler(size if sampler is None else sampler, shuffle=shuffle, seed=seed)
        self._loader: DataLoader[Any] = DataLoader(
            source,
            batch_size=batch_size,
            sampler=self._sampler,
            num_workers=num_workers,
            drop_last=drop_last,
            pin_memory=pin_memory,
            collate_fn=PartialCollate(collate_fn or getattr(dataset, "collate_fn", None) or default_collate),
            # Otherwise each epoch would draw a number from the run's generator.
            generator=torch.Generator(),
            **options,
        )

    @property
    def stream_workers(self) -> int | None:
        """An iterable data set's number of workers, because its samples depend on it; None for a map-style data set."""
        return self._loader.num_workers if self._stream is not None else None

    @property
    def num_batches(self) -> int | None:
        """The number of batches in a whole epoch; None for an iterable data set without a length."""
        try:
            return len(self)
        except TypeError:
            return None

    def __len__(self) -> int:
        """Returns the number of batches in a whole epoch.

        Raises:
            TypeError: the data set is iterable and has no length.
        """
        if self._sampler is not None:
            self._sampler.start = 0
        return len(self._loader)

    def epoch(self, epoch: int, *, start: int = 0, unreadable: UnreadableSamples | None = None) -> Iterator[Any]:
        """Makes the batches of one epoch.

        Args:
            epoch: any number. The same number leads to the same batches.
            start: the index of the first batch. Earlier batches are not made, except by an iterable data set.
            unreadable: decides about samples that can't be read. By default the first of them is an error. With the
                policy `skip`, a batch without any readable sample is None.

        Raises:
            DataError: a sample can't be read, and the policy is not to skip it.
        """
        unreadable = unreadable or UnreadableSamples()
        skipped = 0
        if self._sampler is not None:
            self._sampler.epoch, self._sampler.start = epoch, start * self.batch_size
        elif self._stream is not None:
            self._stream.epoch, skipped = epoch, start
        self._begin()
        batches = self._running
        if not self._loader.num_workers:
            batches = _with_own_generators(batches, keep=self._stream is not None)
        for batch_idx, batch in enumerate(batches):
            if batch_idx >= skipped:
                yield unreadable.apply_policy(batch) if isinstance(batch, PartialBatch) else batch

    def close(self) -> None:
        """Stops the workers. The next epoch starts new ones."""
        self._stop_workers()
        self._running = self._loader._iterator = None

    def _begin(self) -> None:
        """Starts an epoch. Persistent workers keep one iterator for all epochs."""
        # Signals are blocked only while workers start. Running workers may take long to finish the batches of the last
        # epoch, and signals must not wait for them.
        starts = self._loader.num_workers and self._loader._iterator is None
        with starting_workers() if starts else nullcontext():
            iterator = iter(self._loader)
        if iterator is not self._running:
            self._stop_workers()
            self._running, self._stop_workers = iterator, stop_workers_with(self, iterator)


def _no_workers() -> None:
    return None


def _with_own_generators(batches: Iterator[Any], *, keep: bool) -> Iterator[Any]:
    """Makes batches in the main process without disturbing the run's generators.

    Saving and restoring the states takes 0.1 ms, so it happens once per batch and not once per item. With `keep`, a
    batch continues with the generators as the previous batch left them, because a stream is seeded only once per epoch.
    """
    own = None
    while True:
        training = generator_states()
        if own is not None:
            set_generator_states(own)
        try:
            batch = next(batches)
        except StopIteration:
            return
        finally:
            own = generator_states() if keep else None
            set_generator_states(training)
        yield batch


def to_device(batch: Any, device: torch.device) -> Any:
    """Moves every tensor of a batch to a device, at any depth of dicts, lists and tuples."""
    if isinstance(batch, Tensor):
        return batch.to(device, non_blocking=True)
    if isinstance(batch, Mapping):
        return {key: to_device(value, device) for key, value in batch.items()}
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(to_device(value, device) for value in batch))
    if isinstance(batch, list | tuple):
        return type(batch)(to_device(value, device) for value in batch)
    return batch
