"""Wraps data sets so that samples depend only on (seed, epoch, index), and errors in workers keep their message."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from torch.utils.data import ChainDataset, ConcatDataset, Dataset, IterableDataset, get_worker_info

from audiozen_core.data.epochs import propagate_epoch
from audiozen_core.data.sampling import SampleKey
from audiozen_core.data.seeding import seed_from
from audiozen_core.data.unreadable import UnreadableSample

_END: Any = object()


class NamedSample(NamedTuple):
    """A sample and its name for messages."""

    name: str
    sample: Any


class SeededDataset(Dataset[Any]):
    """A map-style data set that is indexed by (epoch, index) and seeds the generators before each item.

    If the data set, an object in it, or the collate function has `set_epoch`, this method is called before the first
    item of an epoch. Each worker calls it, because each worker has its own copy. If an item can't be loaded, an
    `UnreadableSample` is returned instead.

    Args:
        dataset: the data set.
        seed: the seed of the run.
        names: the name of the data set for messages; one name for each part of a `ConcatDataset`.
        sampler: the sampler that yields the indices, for messages; "" if the indices are drawn by AudioZEN.
        collate_fn: the collate function, whose `set_epoch` is called too. It must be the object that collates, so
            that it is the same object in each worker.
    """

    def __init__(
        self, dataset: Dataset[Any], seed: int, names: Sequence[str], sampler: str = "", collate_fn: object = None
    ) -> None:
        self.dataset = dataset
        self.collate_fn = collate_fn
        self.seed = seed
        self.names = names
        self.sampler = sampler
        self.epoch: int | None = None

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]

    def set_epoch(self, epoch: int) -> None:
        """Calls `set_epoch` of the data set and the collate function, with generators seeded from (seed, epoch)."""
        seed_from(self.seed, epoch)
        propagate_epoch([self.dataset, self.collate_fn], epoch)
        self.epoch = epoch

    def __getitem__(self, key: SampleKey) -> NamedSample | UnreadableSample:
        epoch, index = key
        try:
            if epoch != self.epoch:
                self.set_epoch(epoch)
            seed_from(self.seed, epoch, index)
            return NamedSample(self._name(index), self.dataset[index])
        except MemoryError:
            raise
        except (Exception, GeneratorExit) as error:
            notes = [f"index: comes from {self.sampler}"] if self.sampler else []
            if isinstance(error, IndexError):
                notes.append(f"length: the data set reports {len(self)} items")
            return UnreadableSample.from_error(error, self._name(index), final=False, notes=notes)

    def _name(self, index: Any) -> str:
        sizes = self.dataset.cumulative_sizes if isinstance(self.dataset, ConcatDataset) else []
        if len(sizes) == len(self.names) > 1 and isinstance(index, int) and index < sizes[-1]:
            part = bisect_right(sizes, index)
            return f"sample {index - (sizes[part - 1] if part else 0)} of {self.names[part]}"
        return f"sample {index!r} of {' and '.join(self.names)}"


class SeededStream(IterableDataset[Any]):
    """An iterable data set that seeds the generators from (seed, epoch, worker, part) at the start of each part.

    A `ChainDataset` has several parts. Any other stream is a single part. If a part, an object in it, or the collate
    function has `set_epoch`, this method is called before each epoch.

    With several ranks, each rank reads all samples, but yields only the samples of its own batches. The ranks take
    `batch_size` samples each, in turn.
    """

    def __init__(
        self,
        dataset: IterableDataset[Any],
        seed: int,
        names: Sequence[str],
        collate_fn: object = None,
        share: tuple[int, int] = (0, 1),
        batch_size: int = 1,
    ) -> None:
        self.rank, self.ranks = share
        self.batch_size = batch_size
        self.dataset = dataset
        self.collate_fn = collate_fn
        self.seed = seed
        self.names = names
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Calls `set_epoch` of the data set and the collate function, with generators seeded from (seed, epoch)."""
        # All workers get the same seed here, so that a stream that shuffles has the same order in each worker.
        seed_from(self.seed, epoch)
        propagate_epoch([self.dataset, self.collate_fn], epoch)
        self.epoch = epoch

    def __iter__(self) -> Iterator[NamedSample | UnreadableSample]:
        worker = get_worker_info()
        parts = stream_parts(self.dataset)
        names = self.names if len(self.names) == len(parts) else [" and ".join(self.names)] * len(parts)
        read = 0
        for number, (part, name) in enumerate(zip(parts, names, strict=True)):
            count = 0
            samples: Iterator[Any] | None = None
            while True:
                # The `yield` is outside the `try`, because it raises GeneratorExit when the consumer stops early.
                try:
                    if samples is None:
                        seed_from(self.seed, self.epoch, worker.id if worker else 0, number)
                        samples = iter(part)
                    sample = next(samples, _END)
                except MemoryError:
                    raise
                except (Exception, GeneratorExit) as error:
                    yield UnreadableSample.from_error(error, f"sample {count} of {name}", final=True)
                    return
                if sample is _END:
                    break
                if read // self.batch_size % self.ranks == self.rank:
                    yield NamedSample(f"sample {count} of {name}", sample)
                count += 1
                read += 1


def stream_parts(dataset: IterableDataset[Any]) -> list[IterableDataset[Any]]:
    """Returns the streams of a `ChainDataset`; for any other stream, a list with the stream itself."""
    return list(dataset.datasets) if isinstance(dataset, ChainDataset) else [dataset]  # type: ignore[arg-type]
