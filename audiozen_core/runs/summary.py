"""Reads the state and the results of a run from the files in its folder. This module does not import torch."""

from __future__ import annotations

import math
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Literal, NamedTuple

from audiozen_core.checkpoint.directory import CheckpointDirectory
from audiozen_core.checkpoint.errors import DamagedCheckpointError
from audiozen_core.checkpoint.format.manifest import read_manifest
from audiozen_core.checkpoint.names import BEST
from audiozen_core.experiment.lock import LockHolder, lock_holder
from audiozen_core.experiment.session_file import SESSIONS, ModeRecord, SessionRecord, read_sessions
from audiozen_core.kinds import TRAINING
from audiozen_core.results.metric_records import FILE, newest_records
from audiozen_core.storage.atomic import process_exists

RunState = Literal["running", "finished", "stopped", "interrupted", "failed", "killed", "unknown"]
"""What a run is doing, or how it ended.

- `running`: a process is working on the run.
- `finished`: the training has reached `max_epochs` or `max_steps`.
- `stopped`: a hook ended the training, such as `patience`.
- `interrupted`: a signal ended the run.
- `failed`: an error ended the run.
- `killed`: no process is working on the run, and no ending was recorded.
- `unknown`: the state can't be determined, for example because an older version wrote the files.
"""

# On some file systems, locks work only between processes of one machine. On such a file system, a run on another
# machine counts as running if it has written something recently.
_RECENTLY = timedelta(minutes=5)

# The search for the last validation stops after this many records, because a run without a validation set has none.
_MOST_RECORDS = 20_000


@dataclass(frozen=True, slots=True)
class EpochScore:
    """The score of a validation, and the epoch of the validation."""

    score: float
    epoch: int


@dataclass(frozen=True, slots=True)
class TestSummary:
    """A finished test of a run.

    Attributes:
        scalars: the scalars by their names in records, such as `test/si_sdr`. Infinite scalars are NaN.
        folder: the result folder, relative to the run folder; "" if there is none or if it is unknown.
        ended: the time when the test ended, in ISO 8601; "" if it is unknown.
    """

    scalars: Mapping[str, float]
    folder: str = ""
    ended: str = ""


@dataclass(frozen=True, slots=True)
class RunSummary:
    """The state and the results of a run.

    Attributes:
        folder: the run folder.
        state: what the run is doing, or how it ended.
        reason: the reason why the run ended; "" while it is running.
        sessions: the starts of the run, oldest first. Empty if an older version wrote the run.
        holder: the process that holds the run lock, or that held the run lock when it was killed; None if no such
            process is known.
        epoch: the epoch of the last training record; 0 before the first record.
        step: the optimiser step of the last training record.
        max_epochs: the epoch after which the training ends; None if it is unknown.
        monitor: the name of the score; "" if it is unknown.
        higher_is_better: whether a higher score is better; None if it is unknown.
        best: the best score; None if there is none.
        last: the score of the last validation, which may be NaN; None if there is none.
        training_seconds: the total training time over all starts; None if it is unknown. If the last start that trained
            was killed, its time is counted until its last write.
        is_time_partial: whether `training_seconds` is too small. This happens if a start was killed while it trained,
            and the run was started again. The new start wrote to the same files, so the end of the killed start is
            unknown.
        written: when a file in the run folder was last written.
        tests: the finished tests, oldest first.
    """

    folder: Path
    state: RunState
    reason: str
    sessions: Sequence[SessionRecord]
    holder: LockHolder | None
    epoch: int
    step: int
    max_epochs: int | None
    monitor: str
    higher_is_better: bool | None
    best: EpochScore | None
    last: EpochScore | None
    training_seconds: float | None
    is_time_partial: bool
    written: datetime | None
    tests: Sequence[TestSummary]


def read_run(folder: Path, *, now: datetime | None = None) -> RunSummary:
    """Reads the state and the results of a run without changing its folder. The run may be active.

    Args:
        folder: the run folder.
        now: the current time, with a time zone; None reads the clock.

    Raises:
        OSError: the folder can't be read.
    """
    now = now or datetime.now(timezone.utc)
    sessions = read_sessions(folder)
    holder = lock_holder(folder)
    written = _last_written(folder)
    trainings = [session for session in sessions if _trains(session)]
    state, reason = _state(sessions, trainings, holder, written, now)
    newest = (trainings or sessions)[-1] if sessions else None
    trained = _training(trainings[-1]) if trainings else None
    place, last, tested = _records(folder / FILE)
    # A later start, such as a test, writes to the same files, but not to the records of the training.
    alive = now if state == "running" else written if trainings and trainings[-1] is sessions[-1] else place.written
    seconds, is_partial = _training_time(sessions, trainings, state, alive)
    best = _best(folder, None if state == "running" else trained)
    tests = tuple(_tests(sessions)) or (tested if not sessions else ())
    return RunSummary(
        folder=folder,
        state=state,
        reason=reason,
        sessions=tuple(sessions),
        holder=holder,
        epoch=place.epoch,
        step=place.step,
        max_epochs=newest.max_epochs if newest else None,
        monitor=newest.monitor if newest else "",
        higher_is_better=newest.higher_is_better if newest else None,
        best=best,
        last=last,
        training_seconds=seconds,
        is_time_partial=is_partial,
        written=written,
        tests=tests,
    )


# ------------------------------------------------------------------------------- state


def _state(
    sessions: Sequence[SessionRecord],
    trainings: Sequence[SessionRecord],
    holder: LockHolder | None,
    written: datetime | None,
    now: datetime,
) -> tuple[RunState, str]:
    if holder and holder.active:
        return "running", ""
    session = (trainings or sessions)[-1] if sessions else None
    if session is not None and session.ending is not None:
        trained = _training(session)
        # The training of the newest start ended well, but a later mode of the same start, such as its test, failed.
        if trained and (trained.ending != session.ending == "failed") and session is sessions[-1]:
            return "failed", session.reason
        ended = trained or session
        return ended.ending or "unknown", ended.reason
    if holder is None and session is None:
        return "unknown", "an older version wrote this run, or the run ended before its first step"
    if holder is not None and holder.active is None:
        return "unknown", f"this machine can't check whether {_process(holder)} is still running"
    host = holder.host if holder else session.host if session else ""
    is_elsewhere = host != socket.gethostname()
    if is_elsewhere and written and now - written < _RECENTLY:
        return "running", ""
    if session is not None and not _trains(session):  # an evaluation takes no lock
        if is_elsewhere:
            return "unknown", f"this machine can't check whether {_process(session)} is still running"
        if process_exists(session.pid):
            return "running", ""
    process = holder if holder and holder.host else session
    return "killed", f"no ending was recorded{f' by {_process(process)}' if process else ''}"


def _process(process: LockHolder | SessionRecord) -> str:
    return f"process {process.pid} on {process.host}{f', job {process.job}' * bool(process.job)}"


def _trains(session: SessionRecord) -> bool:
    return any(mode in TRAINING for mode in session.modes)


def _training(session: SessionRecord) -> ModeRecord | None:
    """Returns the record of the last mode of a session that trained and has ended; None if there is none."""
    return next((done for done in reversed(session.done) if done.mode in TRAINING), None)


def _was_killed(session: SessionRecord) -> bool:
    """Returns whether a session recorded no end of its training. The last session of a run may still be running."""
    return not _training(session) and session.ending is None


def _training_time(
    sessions: Sequence[SessionRecord], trainings: Sequence[SessionRecord], state: RunState, alive: datetime | None
) -> tuple[float | None, bool]:
    """Returns the total training time in seconds, and whether it is too small.

    Args:
        sessions: all starts of the run.
        trainings: the starts that train.
        state: the state of the run.
        alive: the last time at which the last of `trainings` was known to be running.
    """
    if not trainings:
        return None, False
    total, is_partial = 0.0, False
    for session in trainings:
        total += sum(done.seconds for done in session.done if done.mode in TRAINING)
        if not _was_killed(session):
            continue
        is_last = session is trainings[-1]
        if is_last and alive is not None:
            total += max(0.0, (alive - session.start).total_seconds())
        is_partial |= not (is_last and state == "running") and session is not sessions[-1]
    return total, is_partial


# ------------------------------------------------------------------------------- results


class _Place(NamedTuple):
    """The epoch and step of the last training record, and the time when the record was written."""

    epoch: int = 0
    step: int = 0
    written: datetime | None = None


def _records(path: Path) -> tuple[_Place, EpochScore | None, tuple[TestSummary, ...]]:
    """Returns the place of the last training record, the score of the last validation, and the newest test."""
    place: _Place | None = None
    last: EpochScore | None = None
    tests: tuple[TestSummary, ...] = ()
    with suppress(OSError):
        for number, record in enumerate(newest_records(path)):
            epoch, step = record.get("epoch"), record.get("step")
            if number == _MOST_RECORDS:
                break
            if not isinstance(epoch, int) or not isinstance(step, int):
                continue
            if "checkpoint" in record:  # a record of an evaluation that was not part of training
                scalars = {name: _number(value) for name, value in record.items() if name.startswith("test/")}
                if scalars and not tests:
                    tests = (TestSummary(scalars, ended=str(record.get("time", ""))),)
                continue
            place = place or _Place(epoch, step, _time(record.get("time")))
            if "validate/score" in record:
                last = EpochScore(_number(record["validate/score"]), epoch)
                break
    return place or _Place(), last, tests


def _best(folder: Path, trained: ModeRecord | None) -> EpochScore | None:
    """Returns the best score: from the record of the finished training, or else from the best checkpoint."""
    if trained is not None:
        return None if trained.best_score is None else EpochScore(trained.best_score, trained.best_epoch)
    checkpoints = CheckpointDirectory(folder / "checkpoints")
    with suppress(OSError, DamagedCheckpointError):
        name = checkpoints.link_target(BEST)
        manifest = read_manifest(checkpoints.folder / name) if name else None
        if manifest and manifest.score is not None and math.isfinite(manifest.score):
            return EpochScore(manifest.score, manifest.epoch)
    return None


def _tests(sessions: Sequence[SessionRecord]) -> list[TestSummary]:
    return [
        TestSummary({name: _number(value) for name, value in done.scalars.items()}, done.folder, session.ended)
        for session in sessions
        for done in session.done
        if done.mode == "test" and done.ending == "finished"
    ]


def _time(text: Any) -> datetime | None:
    """Parses the time of a record; None if it is missing or has no time zone."""
    with suppress(TypeError, ValueError):
        time = datetime.fromisoformat(text)
        return time if time.tzinfo else None
    return None


def _number(value: Any) -> float:
    """Returns a number of a record as a float. Null stands for a number that was not finite, and becomes NaN."""
    return float(value) if isinstance(value, int | float) else math.nan


def _last_written(folder: Path) -> datetime | None:
    files = [folder / FILE, folder / "checkpoints", *folder.glob("*.log"), *folder.glob(SESSIONS)]
    files += folder.glob("config__*.toml")
    times = []
    for file in files:
        with suppress(OSError):
            times.append(file.stat().st_mtime)
    return datetime.fromtimestamp(max(times), timezone.utc) if times else None
