"""What a run is doing, and what it has reached, from the files in its folder. This module does not import torch."""

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
"""What a run is doing, or how it has ended.

`finished`: `max_epochs` or `max_steps` is reached. `stopped`: a hook has ended it, such as `patience`. `interrupted`:
by a signal. `failed`: with an error. `killed`: nothing trains there, and no ending is recorded. `unknown`: an older
version has written it.
"""

# On a file system whose locks are of one machine only, a run elsewhere that has just written something is alive.
_RECENTLY = timedelta(minutes=5)

# Records are looked through for a validation until this many have none. A run without a validation set has none at all.
_MOST_RECORDS = 20_000


@dataclass(frozen=True, slots=True)
class EpochScore:
    """The score of a validation, and the epoch that it is of."""

    score: float
    epoch: int


@dataclass(frozen=True, slots=True)
class TestSummary:
    """A test of a run, which is complete.

    Attributes:
        scalars: by their names in records, such as `test/si_sdr`; NaN for one that is not finite.
        folder: the folder with its results, within the run's folder; "" if it has none, or if that is not known.
        ended: when, in ISO 8601; "" if that is not known.
    """

    scalars: Mapping[str, float]
    folder: str = ""
    ended: str = ""


@dataclass(frozen=True, slots=True)
class RunSummary:
    """What is known about a run.

    Attributes:
        folder: its folder.
        state: what it is doing, or how it has ended.
        reason: why it has ended, in words; "" while it runs.
        sessions: its starts, the oldest first. Empty if an older version has written the run.
        holder: the process that trains in its folder, or has done so until it was killed; None if neither exists.
        epoch: the epoch of the last record; 0 before the first.
        step: the optimiser step of the last record.
        max_epochs: the epochs after which the training ends; None if that is not known.
        monitor: the name of the score; "" if that is not known.
        higher_is_better: whether a higher score is better; None if that is not known.
        best: the best score; None if there is none.
        last: the score of the last validation, which may be NaN; None if there is none.
        training_seconds: how long all its trainings took together; None if that is not known. If the last one was
            killed, its time to its last sign of life counts.
        is_time_partial: whether `training_seconds` is too short, because a training was killed before a later start.
            That has written to the same files, so it is not known when the training ended.
        written: when something was last written to its folder.
        tests: its tests, the oldest first.
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
    """Reads what is known about a run. It may be active: nothing in its folder is changed.

    Args:
        folder: the run's folder.
        now: the present time, with its time zone.

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
    # Later starts write to the same files, except to the records of the training.
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


# ------------------------------------------------------------------------------- how it has ended


def _state(
    sessions: Sequence[SessionRecord],
    trainings: Sequence[SessionRecord],
    holder: LockHolder | None,
    written: datetime | None,
    now: datetime,
) -> tuple[RunState, str]:
    if holder and holder.active:
        return "running", ""
    of = (trainings or sessions)[-1] if sessions else None
    if of is not None and of.ending is not None:
        trained = _training(of)
        # Only of the last start, the end of a test that follows the training is news.
        if trained and (trained.ending != of.ending == "failed") and of is sessions[-1]:
            return "failed", of.reason
        ended = trained or of
        return ended.ending or "unknown", ended.reason
    if holder is None and of is None:
        return "unknown", "an older version has written it, or it has ended before its first step"
    if holder is not None and holder.active is None:
        return "unknown", f"whether {_process(holder)} still runs can't be checked here"
    host = holder.host if holder else of.host if of else ""
    is_elsewhere = host != socket.gethostname()
    if is_elsewhere and written and now - written < _RECENTLY:
        return "running", ""
    if of is not None and not _trains(of):  # an evaluation takes no lock
        if is_elsewhere:
            return "unknown", f"whether {_process(of)} still runs can't be checked here"
        if process_exists(of.pid):
            return "running", ""
    who = holder if holder and holder.host else of
    return "killed", f"no ending was recorded{f'; it was {_process(who)}' if who else ''}"


def _process(of: LockHolder | SessionRecord) -> str:
    return f"process {of.pid} on {of.host}{f', job {of.job}' * bool(of.job)}"


def _trains(session: SessionRecord) -> bool:
    return any(mode in TRAINING for mode in session.modes)


def _training(session: SessionRecord) -> ModeRecord | None:
    """Returns the last training of a session that has ended."""
    return next((done for done in reversed(session.done) if done.mode in TRAINING), None)


def _was_killed(session: SessionRecord) -> bool:
    """Returns whether a training has no recorded end; it may also still run, if it is the last one."""
    return not _training(session) and session.ending is None


def _training_time(
    sessions: Sequence[SessionRecord], trainings: Sequence[SessionRecord], state: RunState, alive: datetime | None
) -> tuple[float | None, bool]:
    """Returns the seconds of all trainings, and whether these are too few.

    Args:
        sessions: all starts.
        trainings: those that train.
        state: what the run is doing.
        alive: when the last training was last seen alive.
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


# ------------------------------------------------------------------------------- what it has reached


class _Place(NamedTuple):
    """Where a training was at its last record, and when that was written."""

    epoch: int = 0
    step: int = 0
    written: datetime | None = None


def _records(path: Path) -> tuple[_Place, EpochScore | None, tuple[TestSummary, ...]]:
    """Returns the last record of a training, its last validation, and the newest test."""
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
            if "checkpoint" in record:  # an evaluation that ran alone
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
    """Returns the best score: from the end of the training, or else from the best checkpoint."""
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
    """Returns the time of a record; None if it has none with a time zone."""
    with suppress(TypeError, ValueError):
        time = datetime.fromisoformat(text)
        return time if time.tzinfo else None
    return None


def _number(value: Any) -> float:
    """Returns a number of a record, where null is a number that was not finite."""
    return float(value) if isinstance(value, int | float) else math.nan


def _last_written(folder: Path) -> datetime | None:
    files = [folder / FILE, folder / "checkpoints", *folder.glob("*.log"), *folder.glob(SESSIONS)]
    files += folder.glob("config__*.toml")
    times = []
    for file in files:
        with suppress(OSError):
            times.append(file.stat().st_mtime)
    return datetime.fromtimestamp(max(times), timezone.utc) if times else None
