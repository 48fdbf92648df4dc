"""Which samples of a data set form which batch of an epoch."""

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

from audiozen_core.data.epochs import tell_epoch
from audiozen_core.data.seeding import derive_seeds, keep_generators, seed_from
from audiozen_core.errors import AudioZenError, DataError

Key = tuple[int, Any]
"""An epoch and an index of the data set."""


class _Batches(Sequence[list[Any]]):
    """Batches of an order, each made when it is used: lists of a million numbers take time and memory.

    Args:
        order: the indices of all items.
        starts: where each batch starts in it.
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
        """Returns a batch, or some of the batches."""
        if isinstance(index, slice):
            return _Batches(self._order, self._starts[index], self._size)
        some = self._order[self._starts[index] : self._starts[index] + self._size]
        return some if isinstance(some, list) else some.tolist()


class EpochBatches(Sampler[list[Key]]):
    """Yields the batches of one epoch as lists of keys (epoch, index), starting at any batch.

    The order is drawn from (seed, epoch), or is that of a sampler. A sampler is told the epoch, and it may draw from
    the global generators, which are seeded from (seed, epoch) for it.

    Args:
        size: the number of items of the data set.
        batch_size: the number of items in a batch.
        shuffle: whether to draw a new order for each epoch.
        drop_last: whether to drop the last batch if it is not full.
        sampler: yields the indices of an epoch, instead of `shuffle`.
        batch_sampler: yields the batches of an epoch as lists of indices, instead of all of these.
        seed: the seed of the run.
        name: the data set in messages.
        share: the rank of this process, and the number of ranks. The batches of an epoch are dealt out to the ranks, so
            the batches of one turn are together one batch of a single process that has a batch size so many times as
            large. In the last turn some ranks may have none; with `drop_last` such a turn is left out.
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
        """Tells the epoch to the sampler, and draws the whole order of the epoch.

        Raises:
            DataError: the sampler raised an error, or gave something that is not an index.
        """
        self.epoch, self.start = epoch, start
        # A sampler runs in the main process even if there are workers, so it must not change the generators there.
        with keep_generators():
            with self._naming("failed in `set_epoch`:"):
                seed_from(self.seed, epoch)
                tell_epoch(self._given, epoch, to_data=False)
            # Drawn once, because torch asks for the order twice when it starts workers, and a sampler may have a state.
            self._drawn = self._draw()
            if self.most is not None:
                self._drawn = self._drawn[: self.most * self.ranks]

    def unequal_use(self) -> str:
        """Says which items the epoch that has begun leaves out or repeats; "" if it has each item once."""
        if self._given is None or self._drawn is None:
            return ""
        drawn = Counter(index for batch in self._drawn for index in batch)
        again = sum(count > 1 for count in drawn.values())
        fewer = f"gives {len(drawn)} of {self.size} items" if len(drawn) < self.size else ""
        more = f"repeats {again} item{'s' * (again > 1)}" if again else ""
        found = " and ".join(filter(None, (fewer, more)))
        return f"{self._sampler_name} {found}" if found else ""

    @property
    def digest(self) -> int:
        """A number that depends on the order of the epoch, if a sampler has given it; 0 otherwise."""
        return 0 if self._given is None else zlib.crc32(repr(list(self._drawn or ())).encode())

    def __len__(self) -> int:
        """Returns the number of turns in the whole epoch: of batches, if there is one rank.

        Raises:
            TypeError: no epoch has begun, and the sampler has no length.
        """
        if self._drawn is not None:
            return self._turns(len(self._drawn))
        if self.batch_sampler is not None:
            return self._turns(len(self.batch_sampler))  # type: ignore[arg-type]
        items = self.size if self.sampler is None else len(self.sampler)  # type: ignore[arg-type]
        return self._turns(items // self.batch_size if self.drop_last else -(-items // self.batch_size))

    def __iter__(self) -> Iterator[list[Key]]:
        epoch = self.epoch
        return ([(epoch, index) for index in batch] for batch in self.own)

    @property
    def own(self) -> Sequence[list[Any]]:
        """The indices of each batch of this rank, from the turn `start`."""
        drawn = [] if self._drawn is None else self._drawn
        end = len(self) * self.ranks if self.drop_last else None
        return drawn[self.start * self.ranks + self.rank : end : self.ranks]

    def _turns(self, batches: int) -> int:
        turns = batches // self.ranks if self.drop_last else -(-batches // self.ranks)
        return turns if self.most is None else min(turns, self.most)

    @property
    def _given(self) -> Sampler[Any] | None:
        return self.sampler if self.batch_sampler is None else self.batch_sampler

    def _draw(self) -> Sequence[list[Any]]:
        order: list[Any] | np.ndarray
        if self._given is not None:
            with self._naming("failed:"):
                seed_from(self.seed, self.epoch)
                order = list(self._given)
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
        """Returns an index that means the same in every process and every run."""
        try:
            # `torch.randperm(n)` yields tensors. The text of a tensor would give another seed than the number.
            number = operator.index(index)
        except TypeError:
            if not _has_fixed_text(index):
                advice = "; a sampler that gives whole batches is a `batch_sampler`" if isinstance(index, list) else ""
                raise DataError(
                    f"{self._sampler_name} gives an index of the type {type(index).__name__}",
                    remedy=f"give integers, strings, or tuples of them: the random numbers of a sample depend on its "
                    f"index{advice}",
                ) from None
            return index
        if number < 0:
            raise DataError(
                f"{self._sampler_name} gives the index {number}, but indices count from 0",
                remedy=f"correct the sampler; the data set has the indices 0 to {self.size - 1}",
            )
        return number

    def _checked_batch(self, batch: Any) -> list[Any]:
        if isinstance(batch, list | tuple) and batch:
            return list(batch)
        raise DataError(
            f"{self._sampler_name} gives {'an empty batch' if isinstance(batch, list | tuple) else repr(batch)}",
            remedy="a `batch_sampler` gives lists of indices, one list for each batch",
        )

    @property
    def _sampler_name(self) -> str:
        return f"the sampler {type(self._given).__name__} of {self.name}"

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
