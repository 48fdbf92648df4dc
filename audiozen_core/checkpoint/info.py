"""Describes checkpoints: the contents of a loaded checkpoint, and the entry of a checkpoint in a list."""

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
        path: the folder of the checkpoint.
        epoch: the number of epochs that were complete when the checkpoint was saved.
        step: the number of optimiser steps that were done when the checkpoint was saved.
        score: the validation score of the epoch; None if no validation ran.
        versions: the versions of `audiozen`, `torch` and `python` that saved the checkpoint.
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
        path: the folder of the checkpoint.
        manifest: the manifest of the checkpoint; None if the manifest can't be read.
        reason: why the checkpoint can't be used; empty if the checkpoint can be used.
        best: whether `best` points at the checkpoint.
        latest: whether `latest` points at the checkpoint.
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
        """The number of complete epochs; None if unknown."""
        return self.manifest.epoch if self.manifest else None

    @property
    def step(self) -> int | None:
        """The number of optimiser steps; None if unknown."""
        return self.manifest.step if self.manifest else None

    @property
    def score(self) -> float | None:
        """The validation score; None if the checkpoint has no score or the manifest can't be read."""
        return self.manifest.score if self.manifest else None

    @property
    def size(self) -> int | None:
        """The total size of the checkpoint's files in bytes; None if unknown."""
        return sum(file.size for file in self.manifest.files.values()) if self.manifest else None

    @property
    def serial(self) -> int:
        """The position in the order of the saves; -1 if unknown, so that such a checkpoint sorts first."""
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
        """Whether the run has since resumed from an earlier checkpoint."""
        return is_stale_name(self.name)
