"""Handles samples that can't be read: stops at the first such sample, or skips them up to a limit."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from audiozen_core.data.unreadable_files import skip_unreadable_files
from audiozen_core.distributed.ranks import Ranks
from audiozen_core.errors import AudioZenError, DataError
from audiozen_core.kinds import Mode
from audiozen_core.logging import get_logger

UnreadablePolicy = Literal["stop", "skip"]

_DATA: dict[Mode, str] = {"train": "training", "validate": "validation", "test": "test", "predict": "prediction"}


class WorkerTraceback(Exception):  # noqa: N818 (it is never raised, but provides the text for `--traceback`)
    """The traceback of an exception in a worker, as text. Tracebacks and some exceptions can't be pickled."""


@dataclass(frozen=True, slots=True)
class UnreadableSample:
    """Stands in for a sample that can't be loaded.

    A worker sends this object to the main process as ordinary data. If the worker raised the exception instead, the
    main process would get only its text, inside another exception.

    Attributes:
        message: what is wrong.
        remedy: what to do about it.
        notes: further lines of the error.
        final: whether the sample must not be skipped, because the code is at fault rather than a file, or because a
            stream can't continue.
        cause: the exception that was raised.
    """

    message: str
    remedy: str = ""
    notes: tuple[str, ...] = ()
    final: bool = False
    cause: BaseException | None = field(default=None, repr=False, compare=False)

    @classmethod
    def from_error(cls, error: BaseException, name: str, *, final: bool, notes: Sequence[str] = ()) -> UnreadableSample:
        """Converts an error that a data set raised when it loaded a sample.

        Args:
            error: the error. Any error other than a DataError or an OSError counts as a mistake in the code.
            name: the name of the sample for messages, such as "sample 3 of [dataset]".
            final: whether the sample must not be skipped, whatever the error is.
            notes: further lines to add if the code is at fault.
        """
        if isinstance(error, OSError):
            return cls(f"{name} can't be read: {error}", final=final, cause=error)
        if not isinstance(error, AudioZenError):
            error, cause = DataError.caused_by(error, f"{name} can't be loaded:", notes=notes), error
            return cls(error.message, error.remedy, error.notes, final=True, cause=cause)
        final = final or not isinstance(error, DataError)
        return cls(error.message, error.remedy, error.notes, final=final, cause=error)

    def __reduce__(self) -> tuple[Any, ...]:
        cause = None if self.cause is None else WorkerTraceback("".join(traceback.format_exception(self.cause)))
        return UnreadableSample, (self.message, self.remedy, self.notes, self.final, cause)

    def error(self) -> DataError:
        """Returns the error to raise for the sample."""
        raised = DataError(self.message, remedy=self.remedy, notes=self.notes)
        raised.__cause__ = self.cause
        return raised


@dataclass(frozen=True, slots=True)
class PartialBatch:
    """The collated readable samples of a batch (None if no sample is readable), and the unreadable samples."""

    unreadable: tuple[UnreadableSample, ...]
    batch: Any


class UnreadableSamples:
    """Stops at the first sample that can't be read, or skips and counts such samples.

    Checkpoints contain the skipped samples, so that the limit holds for the whole run.

    Args:
        policy: with `stop`, the first unreadable sample is an error; with `skip`, unreadable samples are skipped.
        limit: how many different samples can be skipped in a run.
    """

    def __init__(self, policy: UnreadablePolicy = "stop", limit: int = 0) -> None:
        self.policy = policy
        self.limit = limit
        self.skipped: set[str] = set()
        self._unreported: list[str] | None = None
        self._skipped_files: set[str] = set()

    def fresh_copy(self) -> UnreadableSamples:
        """Returns an object with the same policy and limit that has skipped nothing yet."""
        return UnreadableSamples(self.policy, self.limit)

    def apply_policy(self, partial: PartialBatch) -> Any:
        """Returns the readable part of a batch; None if no sample is readable.

        Raises:
            DataError: a sample is unreadable and the policy is `stop`, or more than `limit` samples are unreadable.
        """
        for sample in partial.unreadable:
            if self.policy == "stop" or sample.final:
                raise sample.error()
            self._skip(sample)
        return partial.batch

    @contextmanager
    def allow_unreadable_files(self, mode: Mode) -> Iterator[None]:
        """Applies the policy to files that can't be read while the block builds the data sets of a mode."""
        if self.policy == "stop":
            yield
            return
        self.collect_skipped()
        with skip_unreadable_files(lambda error: self._skip(UnreadableSample.from_error(error, "", final=False))):
            yield
        self._skipped_files.update(self._unreported or ())
        self.report_skipped(f"{_DATA[mode]} data")

    def collect_skipped(self) -> None:
        """Starts to collect skipped samples for `report_skipped`."""
        self._unreported = []

    def report_skipped(self, what: str) -> None:
        """Warns if samples were skipped since `collect_skipped`, because the scores then cover fewer samples.

        Args:
            what: the data, for the message, such as "validation data".
        """
        skipped, self._unreported = self._unreported, None
        if skipped:
            get_logger().warning(
                f"unreadable samples of the {what} are skipped", count=len(skipped), reasons="; ".join(skipped[:9])
            )

    def _skip(self, sample: UnreadableSample) -> None:
        if self._unreported is not None:
            self._unreported.append(sample.message)
        if sample.message in self.skipped:
            return
        self.skipped.add(sample.message)
        self._check_limit(sample.message, remedy=sample.remedy, notes=sample.notes)
        get_logger().warning("an unreadable sample is skipped", reason=sample.message, so_far=len(self.skipped))

    def _check_limit(self, last: str, *, remedy: str = "", notes: Sequence[str] = ()) -> None:
        if len(self.skipped) > self.limit:
            raise DataError(
                f"{len(self.skipped)} samples can't be read, more than `max_bad_data = {self.limit}`; "
                f"the last one: {last}",
                remedy=remedy,
                notes=notes,
            )

    def share(self, ranks: Ranks) -> None:
        """Adds the samples that other ranks have skipped, so that the limit applies to all ranks together.

        Raises:
            DataError: together, the ranks have skipped more samples than `limit`.
        """
        messages = [message for skipped in ranks.gather(sorted(self.skipped)) for message in skipped]
        self.skipped.update(messages)
        self._check_limit(messages[-1] if messages else "")

    def state_dict(self) -> dict[str, Any]:
        """Returns the skipped samples, and the files that were skipped while the data sets were built."""
        return {"samples": sorted(self.skipped), "files": sorted(self._skipped_files)}

    def load_state_dict(self, state_dict: dict[str, Any], /) -> None:
        """Adds a checkpoint's skipped samples. Warns if the data sets did not skip the same files as they do now."""
        self.skipped |= set(state_dict["samples"])
        if differing := self._skipped_files ^ set(state_dict["files"]):
            get_logger().warning(
                "the data sets don't skip the same files as when the checkpoint was saved, so the result will differ "
                "from an uninterrupted run",
                files="; ".join(sorted(differing)[:9]),
            )
