"""Saves the checkpoints of an experiment completely or not at all, verifies them before use, and prunes them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from audiozen_core.checkpoint.directory import CheckpointDirectory, follow_link
from audiozen_core.checkpoint.errors import (
    MAKE_ROOM,
    CheckpointWriteError,
    DamagedCheckpointError,
    NoCheckpointError,
    not_a_checkpoint,
    translate_disk_errors,
)
from audiozen_core.checkpoint.format.manifest import MANIFEST, check_contents, read_manifest
from audiozen_core.checkpoint.info import CheckpointInfo, LoadedCheckpoint
from audiozen_core.checkpoint.names import BEST, LATEST, base_name, checkpoint_names, free_name
from audiozen_core.diagnostics.run_options import CKPT_PATH, CKPT_PATH_LATEST, FINETUNE
from audiozen_core.errors import CheckpointError
from audiozen_core.logging import get_logger
from audiozen_core.storage.atomic import make_folder

if TYPE_CHECKING:
    import torch

    from audiozen_core.checkpoint.format.checkpoint import PackedState

Which = Literal["latest", "best"] | Path
_Result = TypeVar("_Result")
_NO_BEST = "no checkpoint is marked as the best"
_CHOOSE = f"choose a checkpoint, such as {CKPT_PATH_LATEST}"
_START_OVER = f"delete or move the checkpoints of this run to start over, or continue from another run with {CKPT_PATH}"
# Saving leaves this many bytes free on the disk, for the log and the metrics.
_HEADROOM = 1 << 20


class CheckpointStore:
    """Saves, loads and deletes the checkpoints in the folder `checkpoints` of one experiment.

    Only one process may save at a time. Other processes may read at the same time.

    Args:
        folder: `exp/<ID>/checkpoints`; the first save creates it.

    Example:
        >>> import tempfile, torch
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     store = CheckpointStore(Path(folder) / "checkpoints")
        ...     path = store.save({"model": torch.nn.Linear(2, 1).state_dict()}, epoch=3, step=90, is_best=True)
        ...     path.name, sorted(file.name for file in path.iterdir()), store.load("best").epoch
        ('epoch_0003', ['manifest.json', 'model.safetensors', 'state.json'], 3)
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._directory = CheckpointDirectory(folder)

    # ------------------------------------------------------------------------------- saving

    def save(
        self,
        state: Mapping[str, Any] | PackedState,
        *,
        epoch: int,
        step: int,
        score: float | None = None,
        is_best: bool = False,
        within_epoch: bool = False,
        keep: int | None = None,
    ) -> Path:
        """Writes one checkpoint. On return, the whole checkpoint is on the disk, and `latest` points at it.

        The folder is called `epoch_0003`, or `epoch_0004_step_0000090` with `within_epoch`. If that name is taken, the
        folder gets a free name, such as `epoch_0003_2`. The earlier checkpoint is then deleted unless it is the best.
        Only folders with such names are ever pruned or marked as stale.

        Args:
            state: a mapping from owner (`model`, `optimizer`, `rng`, the name of a hook, …) to state, packed or not.
            epoch: the number of complete epochs.
            step: the number of optimiser steps done.
            score: the validation score of this epoch; None if no validation ran.
            is_best: whether `best` should point at this checkpoint.
            within_epoch: whether the checkpoint is saved during the epoch after `epoch`.
            keep: the highest number of checkpoints to keep, including `best` and `latest`; None keeps all.

        Returns:
            The folder of the checkpoint.

        Raises:
            UnstorableStateError: `state` contains something that can't be stored; nothing has been written.
            CheckpointWriteError: writing fails; the existing checkpoints are intact, and a later save may succeed.
        """
        from audiozen_core.checkpoint.format.checkpoint import PackedState, pack_state, write_checkpoint

        wanted = checkpoint_names(epoch, step)[within_epoch]
        packed = state if isinstance(state, PackedState) else pack_state(state)
        with translate_disk_errors(f"saving a checkpoint in {self.folder} failed"):
            self._prepare_folder(packed.size)
            entries = self._directory.entries()
            serial = max((entry.serial for entry in entries), default=-1) + 1
            best_name = self._directory.link_target(BEST)
            best = next((entry for entry in entries if entry.name == best_name), None)
            if best and best.manifest and (best.manifest.epoch, best.manifest.step) == (epoch, step):
                # This is the best state, saved a second time. `best` moves to the new checkpoint, because the old one
                # may be deleted below.
                is_best = True
            name = free_name(self.folder, wanted)
            best_name = name if is_best else best_name
            path = self.folder / name
            write_checkpoint(path, packed, epoch=epoch, step=step, score=score, serial=serial, best=best_name)
            self._directory.set_link(LATEST, name)
            if is_best:
                self._directory.set_link(BEST, name)
        replaced = [e.path for e in entries if e.managed and base_name(e.name) == wanted and not e.stale]
        try:
            self._directory.delete(old for old in replaced if old.name != best_name)
            if keep is not None:
                self._directory.prune(keep, spare_ahead=True)
        except OSError as error:
            get_logger().warning("older checkpoints could not be deleted", folder=str(self.folder), error=str(error))
        return path

    def rewind(self, path: Path) -> Sequence[str]:
        """Makes `path` the latest checkpoint. Call it after every resume, before the next save.

        `latest` then points at `path`, and `best` points at the checkpoint that was the best when `path` was saved.

        Later checkpoints become stale: they get the suffix `.stale`. Pruning deletes stale checkpoints first, but keeps
        each of them until the run has again done as many steps as the stale checkpoint. A run resumes from a stale
        checkpoint only if the user names it; the checkpoint then loses the suffix.

        If `path` is a checkpoint of another experiment, all checkpoints of this experiment become stale.

        Returns:
            The names of the checkpoints that have become stale.

        Raises:
            CheckpointWriteError: changing the folder fails.
        """
        with translate_disk_errors(f"{self.folder} can't be changed"):
            name = self._directory.name_of(path)
            self._directory.make_writable()
            if name is None:
                self._directory.remove_partial()
                return self._directory.mark_all_stale()
            name = self._directory.unmark_stale(name)
            # The link is set before anything is deleted, because an interrupted save may have left only a temporary
            # folder.
            if self._directory.link_target(LATEST) != name:
                self._directory.set_link(LATEST, name)
            self._directory.remove_partial()
            return self._directory.reconcile(name)

    def sweep(self) -> Sequence[Path]:
        """Cleans up after a run that was killed. Call it at the start of a run that holds the lock.

        Returns:
            The half-written and half-deleted files and folders that were removed.

        Raises:
            CheckpointWriteError: cleaning up fails, or checkpoints can't be saved in the folder.
        """
        with translate_disk_errors(f"{self.folder} can't be cleaned up"):
            self._directory.make_writable()
            partial = self._directory.remove_partial()
            self._directory.reconcile(self._directory.link_target(LATEST))
            return partial

    def prune(self, keep: int, *, damaged: bool = False) -> Sequence[Path]:
        """Deletes all but the newest `keep` checkpoints. Stale checkpoints go first; `best` and `latest` always stay.

        If the store did not choose the name of a folder, the folder is not deleted and does not count.

        Args:
            keep: how many checkpoints to keep, including `best` and `latest`. Damaged checkpoints do not count.
            damaged: whether to delete damaged checkpoints too. If the latest checkpoint is damaged, `latest` then
                points at the newest intact checkpoint.

        Returns:
            The folders that were deleted.

        Raises:
            CheckpointWriteError: deleting fails.
        """
        with translate_disk_errors(f"{self.folder} can't be pruned"):
            return self._directory.prune(keep, damaged=damaged)

    # ------------------------------------------------------------------------------- reading

    @property
    def best(self) -> Path | None:
        """The best checkpoint; None if no checkpoint is marked as the best."""
        return self._target(BEST)

    @property
    def has_best(self) -> bool:
        """Whether a checkpoint is marked as the best. It may be missing or damaged; loading it is then an error."""
        return self._directory.link_target(BEST) is not None

    @property
    def latest(self) -> Path | None:
        """The latest checkpoint, intact or damaged; None if the folder has no checkpoint."""
        return self._target(LATEST)

    def load(
        self,
        which: Which = "latest",
        *,
        owners: Collection[str] | None = None,
        map_location: torch.device | str = "cpu",
    ) -> LoadedCheckpoint:
        """Loads one checkpoint; every byte is verified before it is used.

        Args:
            which: `latest`, `best`, or the folder of a checkpoint of any experiment. A bare name means a checkpoint of
                this experiment. If the latest checkpoint is damaged, a warning is logged, and the newest intact
                checkpoint before it is loaded.
            owners: the owners whose states are read; None for all.
            map_location: the device for the tensors.

        Raises:
            NoCheckpointError: the checkpoint does not exist; the message lists the existing checkpoints.
            DamagedCheckpointError: the checkpoint is damaged; the message says how.
            CheckpointError: the checkpoint has no state of one of the `owners`.
        """
        from audiozen_core.checkpoint.format.checkpoint import read_checkpoint

        def read(path: Path) -> LoadedCheckpoint:
            manifest, state = read_checkpoint(path, owners, map_location)
            return LoadedCheckpoint(path, manifest.epoch, manifest.step, manifest.score, manifest.versions, state)

        return self._read_newest_intact(which, read)

    def locate(self, which: Which = "latest") -> Path:
        """Returns the folder of the checkpoint that `load` would load, verified.

        Raises:
            NoCheckpointError: the checkpoint does not exist.
            DamagedCheckpointError: the checkpoint is damaged; the message says how.
        """

        def check(path: Path) -> Path:
            self.verify(path)
            return path

        return self._read_newest_intact(which, check)

    def verify(self, path: Path) -> None:
        """Reads and verifies every byte of one checkpoint.

        Raises:
            DamagedCheckpointError: the checkpoint is damaged; the message says how.
        """
        path = path.resolve()
        check_contents(path, read_manifest(path))

    def list(self, *, verify: bool = True) -> Sequence[CheckpointInfo]:
        """Returns all checkpoints, the oldest first. `verify=False` checks only manifests and sizes, which is fast."""
        best, latest = self._directory.link_target(BEST), self._directory.link_target(LATEST)
        return [
            replace(entry, best=entry.name == best, latest=entry.name == latest)
            for entry in self._directory.entries(thorough=verify)
            # A checkpoint that a running training has just deleted is not damaged.
            if entry.intact or entry.path.exists()
        ]

    # ------------------------------------------------------------------------------- finding

    def _read_newest_intact(self, which: Which, read: Callable[[Path], _Result]) -> _Result:
        if isinstance(which, Path):
            return read(self._folder_of(which))
        if which == BEST:
            return self._read_best(read)
        damaged = []
        for entry in self._latest_first():
            try:
                return read(entry.path)
            except DamagedCheckpointError as error:
                if not entry.path.exists():
                    # A running training has deleted this checkpoint and saved a newer one.
                    return self._read_newest_intact(which, read)
                get_logger().warning("skipping a damaged checkpoint", checkpoint=entry.name, reason=error.reason)
                damaged.append(f"{entry.name}: {error.reason}")
        if damaged:
            raise DamagedCheckpointError(
                self.folder,
                f"all of its checkpoints are damaged ({'; '.join(damaged)})",
                remedy=_START_OVER,
            )
        raise NoCheckpointError(
            f"{self.folder} has no checkpoints",
            remedy=f"train first, or give another checkpoint with {CKPT_PATH}",
            notes=self._notes(),
        )

    def _latest_first(self) -> Iterator[CheckpointInfo]:
        """Yields the latest checkpoint, then the checkpoints that were saved before it, the newest first."""
        name = self._directory.link_target(LATEST)
        # Checkpoints with other names may belong to another run.
        entries = [e for e in reversed(self._directory.entries()) if (e.managed and not e.stale) or e.name == name]
        latest = next((entry for entry in entries if entry.name == name), None)
        if latest:
            yield latest
        # If the manifest of `latest` is unreadable, its serial number is unknown, so any other checkpoint may be
        # earlier.
        highest = latest.serial if latest and latest.manifest else None
        for entry in entries:
            if entry is not latest and (highest is None or entry.serial <= highest):
                yield entry

    def _read_best(self, read: Callable[[Path], _Result]) -> _Result:
        name = self._directory.link_target(BEST)
        entry = self._directory.find(name) if name else None
        if name != self._directory.link_target(BEST):
            return self._read_best(read)  # A running training has saved a better checkpoint in the meantime.
        if entry is None:
            missing = f"the best checkpoint is {name}, which does not exist" if name else _NO_BEST
            raise NoCheckpointError(f"{missing} in {self.folder}", remedy=_CHOOSE, notes=self._notes())
        if unread := self._directory.possibly_better():
            get_logger().warning(
                "a damaged checkpoint may be better than the one that is used as the best",
                damaged=", ".join(unread),
                used=entry.name,
            )
        try:
            return read(entry.path)
        except DamagedCheckpointError as error:
            if name != self._directory.link_target(BEST):
                return self._read_best(read)
            intact = [info.name for info in self.list() if info.intact]
            raise DamagedCheckpointError(
                entry.path,
                error.reason,
                remedy=f"use an intact checkpoint: {', '.join(intact)}" if intact else _START_OVER,
            ) from error

    def _folder_of(self, path: Path) -> Path:
        # A bare name means a checkpoint of this run, even if the working directory has a folder with this name.
        found = self._directory.find(path.name) if path.name == str(path) else None
        path = found.path if found else follow_link(path)
        if path.is_file():
            raise CheckpointError(
                f"{path} is a file, but a run can only resume from the folder of a checkpoint",
                remedy=f"to start over from the weights in the file, use {FINETUNE}",
            )
        if not path.is_dir():
            raise NoCheckpointError(
                f"the checkpoint {path} does not exist",
                remedy="give `best`, `latest`, the name of a checkpoint of this run, or the folder of another one",
                notes=self._notes(),
            )
        if not (path / MANIFEST).exists() and not self._directory.name_of(path):
            raise not_a_checkpoint(path, MANIFEST, self._notes())
        return path.resolve()

    def _target(self, link: str) -> Path | None:
        name = self._directory.link_target(link)
        entry = self._directory.find(name) if name else None
        return entry.path if entry else None

    def _notes(self) -> tuple[str, ...]:
        names = [f"{entry.name}{' (damaged)' * bool(entry.reason)}" for entry in self._directory.entries()]
        return (f"{self.folder} contains: {', '.join(names)}",) if names else ()

    def _prepare_folder(self, size: int) -> None:
        self._directory.make_writable()
        make_folder(self.folder)
        free_bytes = shutil.disk_usage(self.folder).free
        if free_bytes < size + _HEADROOM:
            raise CheckpointWriteError(
                f"the disk has no space for a checkpoint of {size / 1e6:.1f} MB in {self.folder}: "
                f"{free_bytes / 1e6:.1f} MB are free, and {_HEADROOM / 1e6:.1f} MB must stay free",
                remedy=MAKE_ROOM,
            )
