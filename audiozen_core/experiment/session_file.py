"""The file of a session, which says when, where and for how long a run ran, how the run ended, and its peak memory.

Each start of a run writes its own file next to its record: `session__2026_11_27--10_00_00__4711.json`. A test that runs
while training is still running therefore can't change the file about training. This module does not import torch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from pathlib import Path
from typing import Any

from audiozen_core.hooks.ending import EndingKind
from audiozen_core.storage.atomic import read_regular, write_whole

SESSIONS = "session__*.json"
"""The pattern of the session files in a run's folder."""

_FORMAT = 1


@dataclass(frozen=True, slots=True)
class ModeRecord:
    """How one mode of a session ended.

    Attributes:
        mode: the mode, such as `train`.
        seconds: the duration, without the time for building the components.
        ending: `finished`, `stopped` by a hook, `interrupted` by a signal, or `failed`.
        reason: the reason for the ending, as text.
        epoch: the last epoch.
        step: the last optimiser step.
        best_score: the best score of the training so far; None without a score.
        best_epoch: the epoch of the best score; 0 without a best score.
        scalars: the scalars of the last evaluation, by their names in records. A value that is not finite is None.
        folder: the folder with the results, relative to the run folder, such as `test/best_epoch_0012`; "" without
            results.
    """

    mode: str
    seconds: float
    ending: EndingKind
    reason: str
    epoch: int
    step: int
    best_score: float | None
    best_epoch: int
    scalars: Mapping[str, float | None] = field(default_factory=dict)
    folder: str = ""


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """One start of a run.

    Attributes:
        started: when the session started, in ISO 8601.
        host: the machine of rank 0.
        pid: the process ID of rank 0.
        job: the batch job of the session; "" without a batch job.
        processes: the number of ranks.
        device: the device of rank 0, such as `cpu` or `cuda:0`.
        device_name: the name of the GPU, such as `NVIDIA H100`; "" on the CPU.
        modes: the requested modes, in order.
        record: the file with the configuration, the command line, the commit and the versions of this start.
        max_epochs: the number of epochs after which training ends.
        monitor: the name of the score.
        higher_is_better: whether a higher score is better.
        done: the modes that have ended.
        ended: when the session ended, in ISO 8601; "" while the session runs, or if it was killed.
        seconds: the time from `started` to `ended`; None if the session has not ended.
        ending: how the session ended; None if the session has not ended.
        reason: the reason for the ending, as text.
        peak_memory: the peak memory of rank 0 in bytes, without its worker processes; None if it is unknown. The peak
            is measured from the start of the process, which may have run other experiments before.
        peak_gpu_memory: the peak memory of tensors on the GPU of rank 0, in bytes; None without a GPU.
    """

    started: str
    host: str
    pid: int
    job: str
    processes: int
    device: str
    device_name: str
    modes: Sequence[str]
    record: str
    max_epochs: int
    monitor: str
    higher_is_better: bool
    done: Sequence[ModeRecord] = field(default_factory=tuple)
    ended: str = ""
    seconds: float | None = None
    ending: EndingKind | None = None
    reason: str = ""
    peak_memory: int | None = None
    peak_gpu_memory: int | None = None

    @property
    def start(self) -> datetime:
        """When the session started, with its time zone."""
        return datetime.fromisoformat(self.started)


def write_session(path: Path, session: SessionRecord) -> None:
    """Writes the file of a session, completely or not at all.

    Raises:
        OSError: the file can't be written. An existing file does not change.
    """
    write_whole(path, json.dumps({"format": _FORMAT, **asdict(session)}, indent=2) + "\n")


def session_file(folder: Path, started: datetime, pid: int) -> Path:
    """Returns a free name for the file of a session in a run's folder."""
    stem = f"session__{started:%Y_%m_%d--%H_%M_%S}__{pid}"
    path, number = folder / f"{stem}.json", 2
    while path.exists():  # the name contains the process ID, so no other process creates the file meanwhile
        path, number = folder / f"{stem}_{number}.json", number + 1
    return path


def read_session(path: Path) -> SessionRecord | None:
    """Returns the content of the file of a session; None if it can't be read."""
    try:
        content = json.loads(read_regular(path))
        done = tuple(ModeRecord(**_known_fields(ModeRecord, each)) for each in content["done"])
        session = SessionRecord(**{**_known_fields(SessionRecord, content), "done": done})
        numbers = [session.seconds, session.peak_memory, session.peak_gpu_memory, session.max_epochs, session.processes]
        numbers += [number for each in done for number in (each.seconds, each.epoch, each.best_score, each.best_epoch)]
        numbers += [value for each in done for value in each.scalars.values()]
        is_right = session.start.tzinfo is not None and all(isinstance(n, int | float | None) for n in numbers)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    return session if is_right else None


def read_sessions(folder: Path) -> list[SessionRecord]:
    """Returns the sessions of a run whose files can be read, oldest first."""
    found = (read_session(path) for path in folder.glob(SESSIONS))
    return sorted((session for session in found if session), key=lambda session: session.start)


def _known_fields(cls: type, content: dict[str, Any]) -> dict[str, Any]:
    """Returns the entries that are fields of a class. Newer versions of AudioZEN may have written more entries."""
    names = {each.name for each in fields(cls)}
    return {name: value for name, value in content.items() if name in names}
