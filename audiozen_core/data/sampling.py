"""Decides which samples of a data set form which batch of an epoch."""

from __future__ import annotations

import operator
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, overload

import numpy as np
import torch
from torch.utils.data import Sampler

from audiozen_core.data.epochs import propagate_epoch
from audiozen_core.data.seeding import derive_seeds, keep_generators, seed_from
from audiozen_core.errors import AudioZenError, DataError

SampleKey = tuple[int, Any]
"""An epoch and an index into the data set."""


class _Batches(Sequence[list[Any]]):
    """A lazy sequence of batches of indices. Building all lists in advance would take time and memory.

    Args:
        order: the indices of all items, in the order of the epoch.
        starts: the position in `order` where each batch starts.
        size: the largest size of a batch.
    """

    def __init__(self, order: list[Any] | np.ndarray, starts: range, size: int) -> None:
        self._order = order
        self._starts = starts
        self._size = size

    def __len__(self) -> int:
        return len(self._starts)

    @overload
    def __getitem__(self, index: int) -> list[Any]: ...
    @overload
    def __getitem__(self, index: slice) -> _Batches: ...
    def __getitem__(self, index: int | slice) -> list[Any] | _Batches:
        """Returns one batch, or a sequence of batches for a slice."""
        if isinstance(index, slice):
            return _Batches(self._order, self._starts[index], self._size)
        batch = self._order[self._starts[index] : self._starts[index] + self._size]
        return batch if isinstance(batch, list) else batch.tolist()


class EpochBatches(Sampler[list[SampleKey]]):
    """Yields the batches of one epoch as lists of keys (epoch, index), starting at any batch.

    The order is drawn from (seed, epoch), or a sampler decides it. If the sampler has `set_epoch`, this method is
    called. The sampler can draw from the global generators, which are seeded from (seed, epoch) before it runs.

    Args:
        size: the number of items in the data set.
        batch_size: the number of items in a batch.
        shuffle: whether to draw a new order for each epoch.
        drop_last: whether to drop the last batch if it is not full.
        sampler: yields the indices of an epoch; used instead of `shuffle`.
        batch_sampler: yields the batches of an epoch as lists of indices; used instead of `sampler`, `batch_size`,
            `shuffle` and `drop_last`.
        seed: the seed of the run.
        name: the name of the data set for messages.
        share: the rank of this process and the number of ranks. The batches of an epoch are dealt out to the ranks. The
            batches of one turn together have the samples of one batch of a single process whose batch size is
            `batch_size` times the number of ranks. In the last turn, some ranks can be without a batch; with
            `drop_last`, an incomplete turn is dropped.
        most: the number of turns after which each epoch ends; None for no limit.
    """

    def __init__(
        self,
        size: int,
        *,
        batch_size: int,
        shuffle: bool,
        drop_last: bool,
        sampler: Sampler[Any] | None,
        batch_sampler: Sampler[list[Any]] | None,
        seed: int,
        name: str,
        share: tuple[int, int] = (0, 1),
        most: int | None = None,
    ) -> None:
        self.size = size
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.drop_last = drop_last
        self.sampler = sampler
        self.batch_sampler = batch_sampler
        self.seed = seed
        self.name = name
        self.rank, self.ranks = share
        self.most = most
        self.epoch = 0
        self.start = 0
        self._drawn: Sequence[list[Any]] | None = None

    def begin(self, epoch: int, start: int) -> None:
        """Calls `set_epoch` of the sampler, and draws the order of the whole epoch.

        Args:
            epoch: the epoch.
            start: the turn to start at.

        Raises:
            DataError: the sampler raised an error, or yielded something that is not an index.
        """
        self.epoch, self.start = epoch, start
        # A sampler runs in the main process even if there are workers, so it must not change the generators of this
        # process.
        with keep_generators():
            with self._naming("failed in `set_epoch`:"):
                seed_from(self.seed, epoch)
                propagate_epoch(self._any_sampler, epoch, to_data=False)
            # The order is drawn only once. Torch iterates twice when it starts workers, and a sampler can have a state.
            self._drawn = self._draw()
            if self.most is not None:
                self._drawn = self._drawn[: self.most * self.ranks]

    def unequal_use(self) -> str:
        """Describes how many items the current epoch leaves out or repeats; "" if it has each item exactly once."""
        if self._any_sampler is None or self._drawn is None:
            return ""
        uses = Counter(index for batch in self._drawn for index in batch)
        repeated = sum(count > 1 for count in uses.values())
        fewer = f"yields only {len(uses)} of {self.size} items" if len(uses) < self.size else ""
        more = f"repeats {repeated} item{'s' * (repeated > 1)}" if repeated else ""
        difference = " and ".join(filter(None, (fewer, more)))
        return f"{self._sampler_name} {difference}" if difference else ""

    @property
    def digest(self) -> int:
        """A checksum of the order of the epoch if a sampler decides the order; 0 otherwise."""
        return 0 if self._any_sampler is None else zlib.crc32(repr(list(self._drawn or ())).encode())

    def __len__(self) -> int:
        """Returns the number of turns in the whole epoch. With one rank, each batch is a turn.

        Raises:
            TypeError: no epoch has begun, and the sampler has no length.
        """
        if self._drawn is not None:
            return self._turns(len(self._drawn))
        if self.batch_sampler is not None:
            return self._turns(len(self.batch_sampler))  # type: ignore[arg-type]
        items = self.size if self.sampler is None else len(self.sampler)  # type: ignore[arg-type]
        return self._turns(items // self.batch_size if self.drop_last else -(-items // self.batch_size))

    def __iter__(self) -> Iterator[list[SampleKey]]:
        epoch = self.epoch
        return ([(epoch, index) for index in batch] for batch in self.rank_batches)

    @property
    def rank_batches(self) -> Sequence[list[Any]]:
        """The batches of this rank as lists of indices, beginning with the turn `start`."""
        drawn = [] if self._drawn is None else self._drawn
        end = len(self) * self.ranks if self.drop_last else None
        return drawn[self.start * self.ranks + self.rank : end : self.ranks]

    def _turns(self, batches: int) -> int:
        turns = batches // self.ranks if self.drop_last else -(-batches // self.ranks)
        return turns if self.most is None else min(turns, self.most)

    @property
    def _any_sampler(self) -> Sampler[Any] | None:
        return self.sampler if self.batch_sampler is None else self.batch_sampler

    def _draw(self) -> Sequence[list[Any]]:
        order: list[Any] | np.ndarray
        if self._any_sampler is not None:
            with self._naming("failed:"):
                seed_from(self.seed, self.epoch)
                order = list(self._any_sampler)
            if self.batch_sampler is not None:
                return [[self._checked(index) for index in self._checked_batch(batch)] for batch in order]
            order = [self._checked(index) for index in order]
        elif self.shuffle:
            generator = torch.Generator().manual_seed(derive_seeds(self.seed, self.epoch)[0])
            order = torch.randperm(self.size, generator=generator).numpy()
        else:
            order = np.arange(self.size)
        batches = _Batches(order, range(0, len(order), self.batch_size), self.batch_size)
        return batches[:-1] if self.drop_last and len(batches) and len(batches[-1]) < self.batch_size else batches

    def _checked(self, index: Any) -> Any:
        """Returns an index as integers, strings or tuples of these, so that every process derives the same seed."""
        try:
            # `torch.randperm(n)` yields tensors. The seed of an item is derived from the `str` of its index, and the
            # `str` of a tensor differs from the `str` of its number.
            number = operator.index(index)
        except TypeError:
            if not _has_fixed_text(index):
                advice = "; a sampler that yields batches is a `batch_sampler`" if isinstance(index, list) else ""
                raise DataError(
                    f"{self._sampler_name} yields an index of the type {type(index).__name__}",
                    remedy=f"yield integers, strings, or tuples of them, because the random numbers of a sample depend "
                    f"on its index{advice}",
                ) from None
            return index
        if number < 0:
            raise DataError(
                f"{self._sampler_name} yields the index {number}, but indices count from 0",
                remedy=f"correct the sampler; the data set has the indices 0 to {self.size - 1}",
            )
        return number

    def _checked_batch(self, batch: Any) -> list[Any]:
        if isinstance(batch, list | tuple) and batch:
            return list(batch)
        raise DataError(
            f"{self._sampler_name} yields {'an empty batch' if isinstance(batch, list | tuple) else repr(batch)}",
            remedy="yield a list of indices for each batch",
        )

    @property
    def _sampler_name(self) -> str:
        return f"the sampler {type(self._any_sampler).__name__} of {self.name}"

    @contextmanager
    def _naming(self, what: str) -> Iterator[None]:
        try:
            yield
        except AudioZenError:
            raise
        except Exception as error:
            raise DataError.caused_by(
                error, f"{self._sampler_name} {what}", remedy="correct the sampler, or leave it out"
            ) from error


def _has_fixed_text(index: Any) -> bool:
    if isinstance(index, tuple):
        return all(map(_has_fixed_text, index))
    return index is None or isinstance(index, str | bytes | int | float)
