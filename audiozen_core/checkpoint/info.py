"""What a store reports about a checkpoint, and what it loads from one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audiozen_core.checkpoint.format.manifest import Manifest
from audiozen_core.checkpoint.names import is_managed_name, is_stale_name


@dataclass(frozen=True, slots=True)
class LoadedCheckpoint:
    """A checkpoint that has been loaded.

    Attributes:
        path: its folder.
        epoch: epochs completed when it was saved.
        step: optimiser steps done when it was saved.
        score: the validation score of that epoch, if there was one.
        versions: the versions of `audiozen`, `torch` and `python` that saved it.
        state: the state that was passed to `save`, a mapping from owner to state.
    """

    path: Path
    epoch: int
    step: int
    score: float | None
    versions: dict[str, str]
    state: dict[str, Any]


@dataclass(frozen=True, slots=True)
class CheckpointInfo:
    """A checkpoint in the folder of an experiment.

    Attributes:
        path: its folder.
        manifest: its manifest; None if the manifest can't be read.
        reason: why the checkpoint can't be used; empty if it can.
        best: whether `best` points at it.
        latest: whether `latest` points at it.
    """

    path: Path
    manifest: Manifest | None
    reason: str
    best: bool = False
    latest: bool = False

    @property
    def name(self) -> str:
        """The folder's name, such as `epoch_0003`."""
        return self.path.name

    @property
    def epoch(self) -> int | None:
        """Epochs completed; None if unknown."""
        return self.manifest.epoch if self.manifest else None

    @property
    def step(self) -> int | None:
        """Optimiser steps done; None if unknown."""
        return self.manifest.step if self.manifest else None

    @property
    def score(self) -> float | None:
        """The validation score, if there was one."""
        return self.manifest.score if self.manifest else None

    @property
    def size(self) -> int | None:
        """The total size of the checkpoint's files in bytes; None if unknown."""
        return sum(file.size for file in self.manifest.files.values()) if self.manifest else None

    @property
    def serial(self) -> int:
        """The position in the order of the saves. An unknown position is -1, so it sorts first."""
        return self.manifest.serial if self.manifest else -1

    @property
    def intact(self) -> bool:
        """Whether the checkpoint can be used."""
        return not self.reason

    @property
    def managed(self) -> bool:
        """Whether the store chose the checkpoint's name. The store may then rename and delete the checkpoint."""
        return is_managed_name(self.name)

    @property
    def stale(self) -> bool:
        """Whether the checkpoint is newer than the checkpoint that the run was later resumed from."""
        return is_stale_name(self.name)
