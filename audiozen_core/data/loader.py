"""Turns a data set into batches whose content depends only on (seed, epoch, sample index).

The generators of Python, NumPy and torch are seeded from these three numbers before each item. So the batches are the
same for any number of workers, and an epoch can start at any batch without loading the earlier batches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, Sampler, default_collate

from audiozen_core.data.collating import CountedBatch, PartialCollate, name_of
from audiozen_core.data.sampling import EpochBatches
from audiozen_core.data.seeded import SeededDataset, SeededStream, stream_parts
from audiozen_core.data.seeding import (
    OwnGenerators,
    forget_half_pairs,
    generator_states,
    keep_generators,
    set_generator_states,
)
from audiozen_core.data.streams import SHARDS_ITSELF, stream_errors
from audiozen_core.data.tensors import map_tensors
from audiozen_core.data.unreadable import PartialBatch, UnreadableSample, UnreadableSamples
from audiozen_core.data.workers import start_worker, starting_workers, stop_workers_with
from audiozen_core.diagnostics.run_options import CKPT_PATH
from audiozen_core.errors import AudioZenError, DataError
from audiozen_core.logging import get_logger


class BatchLoader:
    """Makes the batches of a data set, epoch by epoch.

    Args:
        dataset: a map-style or an iterable data set.
        batch_size: the number of samples in a batch.
        shuffle: whether to draw a new order for each epoch.
        num_workers: the number of processes that load items; with 0, the main process loads them.
        drop_last: whether to drop the last batch if it is not full.
        pin_memory: whether to put batches in page-locked memory, which makes copies to a GPU faster.
        collate_fn: makes a batch from a list of items; by default the `collate_fn` of the data set, or torch's default
            if the data set has none.
        sampler: yields the indices of an epoch; used instead of `shuffle`.
        batch_sampler: yields the batches of an epoch as lists of indices; used instead of `batch_size`, `shuffle`,
            `drop_last` and `sampler`.
        seed: the seed of the run.
        evaluates: whether the batches are for an evaluation. If so, a sampler that leaves out or repeats items causes a
            warning.
        names: the names of the data set for messages, such as `[dataset]`; several names for a `ConcatDataset` or a
            `ChainDataset`.
        place: the name of the table with these arguments, for messages.
        share: the rank of this process and the number of ranks. The batches are dealt out to the ranks in turn.
        first_batches: the number of batches per epoch, for a trial run. Each epoch then repeats the first batches of
            epoch 1. None for all batches.
        options: further arguments of `torch.utils.data.DataLoader`, such as `prefetch_factor` or `timeout`.

    Attributes:
        origin: names the data set, and the collate function if it is not torch's, in messages about a batch.
        size: the number of samples in the data set; None for a stream.
        samples: the number of samples in the latest batch. It is set only with several ranks or after `count_samples`.

    Raises:
        DataError: the data set is empty or has no length; `drop_last` would drop its only batch; a stream has a sampler
            or `shuffle`; or a stream has several workers, but its class does not set `shards_itself = True`.

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
        sampler: Sampler[Any] | None = None,
        batch_sampler: Sampler[list[Any]] | None = None,
        seed: int = 0,
        evaluates: bool = False,
        names: Sequence[str] = (),
        place: str = "its `dataloader` table",
        share: tuple[int, int] = (0, 1),
        first_batches: int | None = None,
        **options: Any,
    ) -> None:
        self.dataset = dataset
        self.batch_size = batch_size if batch_sampler is None else None
        self.names = tuple(names) or (f"the data set {type(dataset).__name__}",)
        self._name = " and ".join(self.names)
        self.origin = self._name
        self._evaluates = evaluates and first_batches is None
        self._first_batches = first_batches
        self.ranks = share[1]
        self.samples = 1
        self.drop_last = drop_last
        self._is_first = share[0] == 0
        self._running: Any = None
        self._stop_workers: Callable[[], object] = _no_workers
        if num_workers:
            options.setdefault("persistent_workers", True)
            options.setdefault("worker_init_fn", start_worker)
        self.size: int | None = None
        self._batches: EpochBatches | None = None
        self._source: SeededDataset | SeededStream
        collate = collate_fn or getattr(dataset, "collate_fn", None) or default_collate
        if collate is not default_collate:
            self.origin += f", made by `{name_of(collate)}`"
        if isinstance(dataset, IterableDataset):
            samplers = (("sampler", sampler), ("batch_sampler", batch_sampler))
            for _, error in stream_errors(
                self._name,
                shards_itself=all(getattr(part, SHARDS_ITSELF, False) for part in stream_parts(dataset)),
                num_workers=num_workers,
                shuffle=shuffle,
                sampler=next((key for key, value in samplers if value is not None), ""),
            ):
                raise error
            self._source = SeededStream(dataset, seed, self.names, collate, share, batch_size)
            # A worker has a copy of the stream from when it started, so each epoch needs new workers.
            options.pop("persistent_workers", None)
            options |= {"batch_size": batch_size, "drop_last": drop_last}
        else:
            self.size = self._count()
            if drop_last and self.size < batch_size * self.ranks:
                per_rank = f" for each of {self.ranks} processes" if self.ranks > 1 else ""
                raise DataError(
                    f"{self._name} has {self.size} items, fewer than one batch of {batch_size}{per_rank}, "
                    "and `drop_last` drops incomplete batches",
                    remedy="set a smaller `batch_size`, or `drop_last = false`",
                )
            if sampler is not None and batch_sampler is not None:
                raise DataError(f"{self._name} has a `sampler` and a `batch_sampler`", remedy="leave one of them out")
            used = sampler if batch_sampler is None else batch_sampler
            named = "" if used is None else f"the sampler {type(used).__name__}"
            self._source = SeededDataset(dataset, seed, self.names, named, collate)  # type: ignore[arg-type]
            self._batches = EpochBatches(
                self.size,
                batch_size=batch_size,
                shuffle=shuffle,
                drop_last=drop_last,
                sampler=sampler,
                batch_sampler=batch_sampler,
                seed=seed,
                name=self._name,
                share=share,
                most=first_batches,
            )
            options["batch_sampler"] = self._batches
        self._collate = PartialCollate(collate, place, counts=share[1] > 1)
        self._loader: DataLoader[Any] = DataLoader(
            self._source,
            num_workers=num_workers,
            pin_memory=pin_memory,
            collate_fn=self._collate,
            # By default, the loader would draw a number from the run's generator in each epoch.
            generator=torch.Generator(),
            **options,
        )

    @property
    def datasets(self) -> Sequence[Any]:
        """The data sets in the order of `names`. In training, several data sets are joined into one."""
        parts: Any = self.dataset
        return list(parts.datasets) if len(self.names) > 1 else [parts]

    def count_samples(self) -> None:
        """Makes the loader store the number of samples of each batch in `samples`. Call it before the first epoch."""
        self._collate.counts = True

    def _count(self) -> int:
        """Returns the number of items.

        Raises:
            DataError: the data set is empty, or its length is unknown.
        """
        try:
            size = len(self.dataset)  # type: ignore[arg-type]
        except AudioZenError:
            raise
        except Exception as error:
            raise DataError.caused_by(
                error,
                f"the length of {self._name} is unknown:",
                remedy="define `__len__`, or derive the data set from `torch.utils.data.IterableDataset`",
            ) from error
        if size == 0:
            raise DataError(f"{self._name} is empty", remedy="check its arguments")
        return size

    @property
    def stream_workers(self) -> int | None:
        """The number of workers of a stream, which affects the samples; None for a map-style data set."""
        return self._loader.num_workers if self._batches is None else None

    @property
    def order_digest(self) -> int:
        """A checksum of the order of the epoch if a sampler decides the order; 0 otherwise."""
        return 0 if self._batches is None else self._batches.digest

    @property
    def num_batches(self) -> int | None:
        """The number of batches in the whole epoch; None for a stream, or if the sampler has no length.

        With several ranks, this is the number of turns. In each turn, every rank gets one batch, except that some ranks
        can be without a batch in the last turn.
        """
        try:
            return len(self)
        except TypeError:
            return None

    def __len__(self) -> int:
        """Returns the number of batches in the whole epoch.

        Raises:
            TypeError: the number is unknown, because the data set is a stream or the sampler has no length.
        """
        if self._batches is None:
            raise TypeError("the number of batches of a stream is not known before it ends")
        return len(self._batches)

    def epoch(
        self, epoch: int, *, start: int = 0, allowed_missing: int = 0, unreadable: UnreadableSamples | None = None
    ) -> Iterator[Any]:
        """Yields the batches of one epoch, after calling `set_epoch` of the data set and the sampler.

        Args:
            epoch: the epoch. The same epoch always gives the same batches.
            start: the index of the first batch. Earlier batches are not loaded, except from a stream.
            allowed_missing: how many batches fewer than `start` the data may have without an error. `start` counts
                turns, and a rank may have no batch in the last turn of an epoch.
            unreadable: decides what happens with samples that can't be read. By default, the first such sample is an
                error. With the policy `skip`, a batch without a readable sample is yielded as None.

        Raises:
            DataError: a sample can't be read, and the policy is not to skip it; no sample of the epoch can be read; or
                the code of the data set, the sampler or the collate function raised an error.
        """
        if self._first_batches is not None:
            epoch = 1  # each epoch repeats the same samples with the same random numbers
        with keep_generators():
            try:
                self._source.set_epoch(epoch)
            except AudioZenError:
                raise
            except Exception as error:
                raise DataError.caused_by(error, f"{self._name} failed in `set_epoch({epoch})`:") from error
        if self._batches is not None:
            if (size := self._count()) != self.size:
                raise DataError(
                    f"{self._name} had {self.size} items when it was built, but has {size} in epoch {epoch}",
                    remedy="return the same length in every epoch",
                )
            self._batches.begin(epoch, start)
            if self._evaluates and (unequal_use := self._batches.unequal_use()):
                get_logger().warning(f"{unequal_use}, so the results are not those of the whole data set")
                self._evaluates = False  # warns only once
        return self._load(start, allowed_missing, unreadable or UnreadableSamples())

    def _load(self, start: int, allowed_missing: int, unreadable: UnreadableSamples) -> Iterator[Any]:
        """Yields the batches of the epoch that was set last."""
        if self.ranks > 1 and self._batches is not None and not self._batches.rank_batches:
            return  # the other ranks have all batches
        self._begin()
        batches = self._running
        if self._loader.num_workers:
            batches = _without_half_pairs(batches)
        elif self._batches is None:
            batches = _with_kept_generators(batches)
        else:
            batches = _with_own_generators(batches)
        # A stream has to load the batches before `start` too, because only the stream knows where they end.
        number = 0 if self._batches is None else start
        usable = start > 0
        first: UnreadableSample | None = None
        # Neither this loop nor its caller keeps a batch while the next one loads, because a batch can hold an hour of
        # audio.
        for item in batches:
            number += 1
            if number <= start:
                continue
            batch = item
            if isinstance(item, PartialBatch):
                first = first or item.unreadable[0]
                batch = unreadable.apply_policy(item)
            if isinstance(batch, CountedBatch):
                self.samples, batch = batch
            usable = usable or batch is not None
            del item
            yield batch
            del batch
            if number == self._first_batches:
                return
        # The first rank has at least as many batches as every other rank, so the check on the first rank is enough.
        if not self._is_first or (self.ranks > 1 and number > start):
            return
        if number < start - allowed_missing:
            raise DataError(
                f"{self._name} ended after {number} batches, but the resumed epoch continues after batch {start}",
                remedy=f"restore the data, or resume from a checkpoint at the end of an epoch with {CKPT_PATH}",
            )
        if not usable:
            reason = f"none of its samples can be read; the first error: {first.message}" if first else "it is empty"
            raise DataError(
                f"{self._name} has no batches: {reason}",
                remedy=first.remedy if first else "check the data set, its sampler and `drop_last`",
                notes=first.notes if first else (),
            )

    def close(self) -> None:
        """Stops the workers. The next epoch starts new ones."""
        self._stop_workers()
        self._running = self._loader._iterator = None

    def _begin(self) -> None:
        """Starts an epoch. With persistent workers, all epochs share one iterator."""
        # Signals are blocked only while workers start. Running workers can take long to finish the batches of the
        # previous epoch, and signals must not wait for that.
        starts = self._loader.num_workers and self._loader._iterator is None
        with starting_workers() if starts else nullcontext():
            iterator = iter(self._loader)
        if iterator is not self._running:
            self._stop_workers()
            self._running, self._stop_workers = iterator, stop_workers_with(self, iterator)


_END: Any = object()


def _no_workers() -> None:
    return None


def _with_own_generators(batches: Iterator[Any]) -> Iterator[Any]:
    """Loads batches in the main process. Restores the run's generators after each, because loading seeds them."""
    generators = OwnGenerators()
    while True:
        with generators:
            batch = next(batches, _END)
        if batch is _END:
            return
        yield batch
        del batch  # frees its memory before the next batch is loaded


def _with_kept_generators(batches: Iterator[Any]) -> Iterator[Any]:
    """Loads batches of a stream in the main process without changing the run's generators.

    A stream is seeded only once per epoch, so each batch continues with the generator states after the previous batch.
    """
    stream_states = None
    while True:
        forget_half_pairs()
        training = generator_states()
        if stream_states is not None:
            set_generator_states(stream_states)
        try:
            batch = next(batches)
        except StopIteration:
            return
        finally:
            stream_states = generator_states()
            set_generator_states(training)
        yield batch
        del batch  # frees its memory before the next batch is loaded


def _without_half_pairs(batches: Iterator[Any]) -> Iterator[Any]:
    """Yields the batches of workers. Discards NumPy's cached normal number, as loading without workers does."""
    while True:
        forget_half_pairs()
        batch = next(batches, _END)
        if batch is _END:
            return
        yield batch
        del batch


def to_device(batch: Any, device: torch.device) -> Any:
    """Moves every tensor of a batch to a device, at any depth of mappings, lists, tuples and dataclasses."""
    if device.type == "cpu":
        return map_tensors(batch, _to_cpu)
    return map_tensors(batch, lambda tensor: tensor.to(device, non_blocking=True))


def _to_cpu(tensor: torch.Tensor) -> torch.Tensor:
    return tensor if tensor.is_cpu else tensor.cpu()  # a `to` that changes nothing takes a while
