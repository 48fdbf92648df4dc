"""What a store reports about a checkpoint, and what it loads from one."""

from __future__ import annotations

import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audiozen_core.checkpoint.directory import DirectoryEntry


@dataclass(frozen=True, slots=True)
class LoadedCheckpoint:
    """A checkpoint that has been loaded.

    Attributes:
        path: its folder.
        epoch: epochs completed when it was saved.
        step: optimiser steps done when it was saved.
        score: the validation score of that epoch, if there was one.
        versions: the versions of `audiozen`, `torch` and `python` that saved it.
        state: owner to state, as it was passed to `save`.
    """

    path: Path
    epoch: int
    step: int
    score: float | None
    versions: dict[str, str]
    state: dict[str, Any]


@dataclass(frozen=True, slots=True)
class CheckpointInfo:
    """One row of the list of checkpoints.

    Attributes:
        path: its folder.
        epoch: epochs completed; None if the manifest can't be read.
        step: optimiser steps done; None if the manifest can't be read.
        score: the validation score, if there was one.
        size: bytes on the disk.
        intact: whether it can be used.
        reason: why it can't be used; empty if it can.
        best: whether `best` points at it.
        latest: whether `latest` points at it.
        stale: whether a run that was resumed from an earlier checkpoint has left it behind.
    """

    path: Path
    epoch: int | None
    step: int | None
    score: float | None
    size: int
    intact: bool
    reason: str
    best: bool
    latest: bool
    stale: bool


def checkpoint_info(entry: DirectoryEntry, reason: str, *, best: bool, latest: bool) -> CheckpointInfo:
    """The row of the list for one checkpoint.

    Args:
        entry: the checkpoint.
        reason: why it can't be used; empty if it can.
        best: whether `best` points at it.
        latest: whether `latest` points at it.
    """
    manifest = entry.manifest
    return CheckpointInfo(
        path=entry.path,
        epoch=manifest.epoch if manifest else None,
        step=manifest.step if manifest else None,
        score=manifest.score if manifest else None,
        size=sum(map(_size, entry.path.rglob("*"))),
        intact=not reason,
        reason=reason,
        best=best,
        latest=latest,
        stale=entry.stale,
    )


def _size(path: Path) -> int:
    """The size of a file; 0 for a folder, and for a file that a run has deleted meanwhile."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return 0
    return 0 if stat.S_ISDIR(status.st_mode) else status.st_size
