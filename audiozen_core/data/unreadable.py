"""Samples that can't be read: an error that names the file, or left out and counted up to a limit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from audiozen_core.data.unreadable_files import leaving_out
from audiozen_core.errors import DataError
from audiozen_core.logging import get_logger

BadDataPolicy = Literal["stop", "skip"]


@dataclass(frozen=True, slots=True)
class BadSample:
    """What comes in place of a sample that can't be read. A worker sends it as it is; an exception would lose its form.

    Attributes:
        message: what is wrong; it names the file.
        remedy: what to do about it.
        notes: further lines.
        final: whether nothing comes after it, so that it can't be left out: the iterator of a stream is dead.
    """

    message: str
    remedy: str = ""
    notes: tuple[str, ...] = ()
    final: bool = False

    @classmethod
    def of(cls, error: DataError | OSError, index: int | None) -> BadSample:
        """The same as data; `index` is the sample's place in the data set, None in a stream."""
        if isinstance(error, DataError):
            return cls(error.message, error.remedy, error.notes, final=index is None)
        what = "the next sample" if index is None else f"sample {index}"
        return cls(f"{what} of the data set can't be read: {error}", final=index is None)


@dataclass(frozen=True, slots=True)
class Gathered:
    """A batch with samples missing.

    Attributes:
        bad: those that can't be read.
        batch: the others, collated; None if there are none.
    """

    bad: tuple[BadSample, ...]
    batch: Any


class CollateReadable:
    """Collates the samples that could be read, and passes the others on beside them.

    Args:
        collate_fn: makes a batch of a list of samples.
    """

    def __init__(self, collate_fn: Callable[[list[Any]], Any]) -> None:
        self.collate_fn = collate_fn

    def __call__(self, samples: Any) -> Any:
        """The batch; a `Gathered` if a sample is missing."""
        bad = tuple(sample for sample in samples if isinstance(sample, BadSample))
        if not bad:
            return self.collate_fn(samples)
        good = [sample for sample in samples if not isinstance(sample, BadSample)]
        return Gathered(bad, self.collate_fn(good) if good else None)


class BadData:
    """Decides about samples that can't be read; its state, the samples left out so far, is kept in the checkpoints.

    Args:
        policy: `stop`: the first one is an error; `skip`: it is left out.
        limit: how many different ones may be left out in a run.
    """

    def __init__(self, policy: BadDataPolicy = "stop", limit: int = 0) -> None:
        self.policy = policy
        self.limit = limit
        self.left_out: set[str] = set()
        self._missing: list[str] | None = None
        self._left_out_building: set[str] = set()

    def readable(self, gathered: Gathered) -> Any:
        """What is left of the batch; None if nothing is.

        Raises:
            DataError: a sample that can't be read, or one too many.
        """
        for sample in gathered.bad:
            if self.policy == "stop" or sample.final:
                raise DataError(sample.message, remedy=sample.remedy, notes=sample.notes)
            self._leave_out(sample)
        return gathered.batch

    @contextmanager
    def from_building_on(self, role: str) -> Iterator[None]:
        """Data sets that are built within the block may leave out files too, under the same limit.

        Args:
            role: what they are for, such as `test`.
        """
        if self.policy == "stop":
            yield
            return
        self.collect_missing()
        with leaving_out(lambda error: self._leave_out(BadSample.of(error, 0))):
            yield
        self._left_out_building.update(self._missing or ())
        self.tell_missing(f"{role} data set")

    def collect_missing(self) -> None:
        """From now on what is left out is for `tell_missing`."""
        self._missing = []

    def tell_missing(self, what: str, *, nothing_left: bool = False) -> None:
        """Says what a data set or an evaluation has gone without: its numbers are those of fewer samples.

        Raises:
            DataError: nothing was left.
        """
        missing, self._missing = self._missing, None
        if missing and nothing_left:
            raise DataError(f"none of the samples of the {what} can be read; the first: {missing[0]}")
        if missing:
            get_logger().warning(f"{len(missing)} samples are missing from the {what}", reasons="; ".join(missing[:9]))

    def _leave_out(self, sample: BadSample) -> None:
        if self._missing is not None:
            self._missing.append(sample.message)
        if sample.message in self.left_out:
            return
        self.left_out.add(sample.message)
        if len(self.left_out) > self.limit:
            raise DataError(
                f"{len(self.left_out)} samples can't be read, more than `max_bad_data = {self.limit}`; "
                f"the last one: {sample.message}",
                remedy=sample.remedy,
                notes=sample.notes,
            )
        get_logger().warning("a sample is left out", reason=sample.message, so_far=len(self.left_out))

    def state_dict(self) -> dict[str, Any]:
        """What was left out, and what of it while the data sets were built."""
        return {"left_out": sorted(self.left_out), "building": sorted(self._left_out_building)}

    def load_state_dict(self, state_dict: dict[str, Any], /) -> None:
        """Takes back what `state_dict` gave, beside what has been left out while the data sets were built."""
        self.left_out |= set(state_dict["left_out"])
        if differing := self._left_out_building ^ set(state_dict["building"]):
            get_logger().warning(
                "other files are left out of the data sets than when the checkpoint was saved, so another training "
                "comes out",
                files="; ".join(sorted(differing)[:9]),
            )
