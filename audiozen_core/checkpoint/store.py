"""The checkpoints of one experiment: saved whole or not at all, verified before use, kept within bounds."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class LoadedCheckpoint:
    """A checkpoint read back.

    Attributes:
        path: its folder.
        epoch: epochs completed when it was saved.
        step: optimiser steps done when it was saved.
        score: the validation score of that epoch, if there was one.
        state: owner to state, as it was given to `save`.
    """

    path: Path
    epoch: int
    step: int
    score: float | None
    state: dict[str, Any]


@dataclass(frozen=True, slots=True)
class CheckpointInfo:
    """One line of the list of checkpoints.

    Attributes:
        path: its folder.
        epoch: epochs completed, None where the manifest can't be read.
        step: optimiser steps done, None where the manifest can't be read.
        score: the validation score, if there was one.
        size: bytes on the disk.
        whole: whether it can be used.
        reason: why not, in words; empty for a whole one.
        best: whether `best` points at it.
        latest: whether `latest` points at it.
        stale: whether a run that was resumed from an earlier checkpoint has left it behind.
    """

    path: Path
    epoch: int | None
    step: int | None
    score: float | None
    size: int
    whole: bool
    reason: str
    best: bool
    latest: bool
    stale: bool


class CheckpointStore:
    """The folder `checkpoints` of one experiment.

    Args:
        folder: `exp/<id>/checkpoints`; made at the first save.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(
        self,
        state: Mapping[str, Any],
        *,
        epoch: int,
        step: int,
        score: float | None = None,
        is_best: bool = False,
        name: str | None = None,
        keep: int | None = None,
    ) -> Path:
        """Writes one checkpoint; when this returns it lies whole on the disk, and `latest` points at it.

        Args:
            state: owner (`model`, `optimizer`, `rng`, a hook's name, …) to state.
            epoch: epochs completed.
            step: optimiser steps done.
            score: the validation score of this epoch, if there is one.
            is_best: whether `best` is to point at it.
            name: the folder's name; `epoch_0003` for epoch 3 unless given.
            keep: how many checkpoints to keep at most, `best` and `latest` always among them; None for all.

        Returns:
            The checkpoint's folder.

        Raises:
            UnstorableStateError: something in `state` can't be stored; nothing has been written.
            CheckpointWriteError: the disk refused; earlier checkpoints are untouched, and a later save may succeed.
        """
        raise NotImplementedError

    def load(
        self,
        which: Literal["latest", "best"] | Path = "latest",
        *,
        owners: Collection[str] | None = None,
        map_location: torch.device | str = "cpu",
    ) -> LoadedCheckpoint:
        """Reads one checkpoint back, verified.

        Args:
            which: `latest` (a damaged one is named in the log, and the newest whole one before it is taken), `best`,
                or the folder of a checkpoint, of this experiment or another.
            owners: whose states to read; None for all.
            map_location: the device for the tensors.

        Raises:
            NoCheckpointError: there is none, or not that one; the message names those that are there.
            DamagedCheckpointError: it can't be trusted, and why.
            CheckpointError: an owner in `owners` that the checkpoint does not hold.
        """
        raise NotImplementedError

    def rewind(self, path: Path) -> None:
        """Tells the store that the run goes on from `path`; call it after every resume.

        `latest` points at it from now on, and `best` at what was the best then. Checkpoints saved after it belong to
        a future that will not happen: they get the suffix `.stale`, are never resumed from, and are pruned first.
        """
        raise NotImplementedError

    def sweep(self) -> Sequence[Path]:
        """Removes what a dead run left half-done; call it at the start of a run, under its lock. Returns what went."""
        raise NotImplementedError

    def verify(self, path: Path) -> None:
        """Reads all of one checkpoint and raises `DamagedCheckpointError` unless it is what was written."""
        raise NotImplementedError

    def prune(self, keep: int, *, damaged: bool = False) -> Sequence[Path]:
        """Removes all but the newest `keep` checkpoints, never what `best` or `latest` point at; returns what went."""
        raise NotImplementedError

    def average(self, paths: Sequence[Path], *, owner: str = "model") -> dict[str, torch.Tensor]:
        """The mean of the weights of several checkpoints; integers are taken from the last of `paths`."""
        raise NotImplementedError

    def list(self, *, verify: bool = True) -> Sequence[CheckpointInfo]:
        """All checkpoints, oldest first; `verify=False` looks at names and sizes only, and is fast."""
        raise NotImplementedError
