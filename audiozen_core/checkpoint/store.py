"""The checkpoints of one experiment: saved whole or not at all, verified before use, kept within bounds."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from audiozen_core.checkpoint.directory import CheckpointDirectory, DirectoryEntry
from audiozen_core.checkpoint.errors import (
    MAKE_ROOM,
    CheckpointWriteError,
    DamagedCheckpointError,
    NoCheckpointError,
    refusals,
)
from audiozen_core.checkpoint.format.manifest import MANIFEST, check_contents, read_manifest
from audiozen_core.checkpoint.info import CheckpointInfo, LoadedCheckpoint, describe
from audiozen_core.checkpoint.names import BEST, LATEST, base_name, checked_name
from audiozen_core.errors import CheckpointError
from audiozen_core.logging import get_logger
from audiozen_core.storage.atomic import make_folder, remove, temporary_name

if TYPE_CHECKING:
    import torch

    from audiozen_core.checkpoint.format.checkpoint import PackedState

Which = Literal["latest", "best"] | Path
_Result = TypeVar("_Result")
_HEADROOM = 1 << 20


class CheckpointStore:
    """The folder `checkpoints` of one experiment.

    One process at a time may save; any number may read meanwhile.

    Args:
        folder: `exp/<id>/checkpoints`; made at the first save.

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
        name: str | None = None,
        keep: int | None = None,
    ) -> Path:
        """Writes one checkpoint; when this returns it lies whole on the disk, and `latest` points at it.

        Args:
            state: owner (`model`, `optimizer`, `rng`, a hook's name, …) to state; or that, packed already.
            epoch: epochs completed.
            step: optimiser steps done.
            score: the validation score of this epoch, if there is one.
            is_best: whether `best` is to point at it.
            name: the folder's name; `epoch_0003` for epoch 3 unless given. One of that name is replaced, unless that
                would lose the best checkpoint: then the new name ends with the step. What is called otherwise than the
                store itself does (`epoch_0003`, `epoch_0003_step_0000090`) is never pruned or marked as stale.
            keep: how many checkpoints to keep at most, `best` and `latest` always among them; None for all.

        Returns:
            The checkpoint's folder.

        Raises:
            UnstorableStateError: something in `state` can't be stored; nothing has been written.
            CheckpointWriteError: the disk refused, or something that is no checkpoint lies in the way; earlier
                checkpoints are untouched, and a later save may succeed.
        """
        from audiozen_core.checkpoint.format.checkpoint import PackedState, pack, write_checkpoint

        wanted = checked_name(f"epoch_{epoch:04d}" if name is None else name)
        _at_least_one(keep)
        packed = state if isinstance(state, PackedState) else pack(state)
        with self._writing(packed.size):
            entries = self._directory.entries()
            serial = max((entry.serial for entry in entries), default=-1) + 1
            best = self._best_now(entries)
            if best and best.manifest and (best.manifest.epoch, best.manifest.step) == (epoch, step):
                is_best = True  # the same moment once more
            name = self._directory.free_name(wanted)
            best_name = name if is_best else best.name if best else None
            temporary = self.folder / temporary_name(name)
            try:
                write_checkpoint(temporary, packed, epoch=epoch, step=step, score=score, serial=serial, best=best_name)
                self._directory.install(temporary, name)
            except BaseException:
                with contextlib.suppress(OSError):
                    remove(temporary)
                raise
            self._directory.set_link(LATEST, name)
            if is_best:
                self._directory.set_link(BEST, name)
        replaced = [e.path for e in entries if e.managed and base_name(e.name) == wanted and not e.stale]
        with self._quietly("older checkpoints could not be deleted"):
            self._directory.delete(path for path in replaced if path.name != best_name)
            if keep is not None:
                self._directory.prune(keep, spare_ahead=True)
        return self.folder / name

    def rewind(self, path: Path) -> Sequence[str]:
        """Tells the store that the run goes on from `path`; call it after every resume, before the next save.

        `latest` points at it from now on, and `best` at what was the best then. Checkpoints saved after it belong to
        a future that will not happen: they get the suffix `.stale`, are resumed from only by that name, which they then
        lose, and are pruned first, though not before the run has come as far again. A path of another experiment makes
        all checkpoints of this one stale.

        Returns:
            The names of those that have become stale.

        Raises:
            CheckpointWriteError: the disk refused.
        """
        with refusals(f"{self.folder} can't be changed"):
            name = self._directory.name_of(path)
            self._directory.make_writable()
            if name is None:
                self._directory.remove_partial()
                return self._directory.mark_all_stale()
            name = self._directory.unmark_stale(name)
            # Before anything is removed: the temporary folder may belong to a save that had not moved the link yet.
            if self._directory.link_target(LATEST) != name:
                self._directory.set_link(LATEST, name)
            self._directory.remove_partial()
            return self._directory.reconcile(name)

    def sweep(self) -> Sequence[Path]:
        """Undoes what a dead run left half-done; call it at the start of a run, under its lock.

        Returns:
            The strays that were deleted.

        Raises:
            CheckpointWriteError: the disk refused, or no checkpoint can be saved for what lies there.
        """
        with refusals(f"{self.folder} can't be swept"):
            self._directory.make_writable()
            partial = self._directory.remove_partial()
            self._directory.reconcile(self._directory.link_target(LATEST))
            return partial

    def prune(self, keep: int, *, damaged: bool = False) -> Sequence[Path]:
        """Deletes all but the newest `keep` checkpoints, never what `best` or `latest` point at; stale ones go first.

        What bears a name that the store itself does not make is let alone, and does not count.

        Args:
            keep: how many to keep, `best` and `latest` among them.
            damaged: whether to delete those that can't be used as well; they never count as kept. If `latest` points at
                one, it moves to the newest that can be used.

        Returns:
            The folders that were deleted.

        Raises:
            CheckpointWriteError: the disk refused.
        """
        _at_least_one(keep)
        with refusals(f"{self.folder} can't be pruned"):
            return self._directory.prune(keep, damaged=damaged)

    # ------------------------------------------------------------------------------- reading

    @property
    def best(self) -> Path | None:
        """Where `best` points; None where it points nowhere."""
        return self._target(BEST)

    @property
    def latest(self) -> Path | None:
        """Where `latest` points; None where it points nowhere."""
        return self._target(LATEST)

    def load(
        self,
        which: Which = "latest",
        *,
        owners: Collection[str] | None = None,
        map_location: torch.device | str = "cpu",
    ) -> LoadedCheckpoint:
        """Reads one checkpoint back; every byte of what is read is verified.

        Args:
            which: `latest` (a damaged one is named in the log, and the newest whole one before it is taken), `best`,
                or the folder of a checkpoint, of this experiment or another; a name stands for one of this folder.
            owners: whose states to read; None for all.
            map_location: the device for the tensors.

        Raises:
            NoCheckpointError: there is none, or not that one; the message names those that are there.
            DamagedCheckpointError: it can't be trusted, and why.
            CheckpointError: an owner in `owners` that the checkpoint does not hold.
        """
        from audiozen_core.checkpoint.format.checkpoint import read_checkpoint

        def read(path: Path) -> LoadedCheckpoint:
            manifest, state = read_checkpoint(path, owners, map_location)
            return LoadedCheckpoint(path, manifest.epoch, manifest.step, manifest.score, manifest.versions, state)

        return self._first_whole(which, read)

    def locate(self, which: Which = "latest") -> Path:
        """The folder that `load` would read, verified.

        Raises:
            NoCheckpointError: there is none, or not that one.
            DamagedCheckpointError: it can't be trusted, and why.
        """

        def check(path: Path) -> Path:
            self.verify(path)
            return path

        return self._first_whole(which, check)

    def verify(self, path: Path) -> None:
        """Reads all of one checkpoint.

        Raises:
            DamagedCheckpointError: it is not what was written, and why.
        """
        path = path.resolve()
        check_contents(path, read_manifest(path))

    def list(self, *, verify: bool = True) -> Sequence[CheckpointInfo]:
        """All checkpoints, oldest first; `verify=False` looks at manifests and sizes only, and is fast."""
        best, latest = self._directory.link_target(BEST), self._directory.link_target(LATEST)
        infos = []
        for entry in self._directory.entries():
            reason = entry.reason
            if verify and not reason:
                try:
                    self.verify(entry.path)
                except DamagedCheckpointError as error:
                    reason = error.reason
            if reason and not entry.path.exists():
                continue  # a run that goes on has deleted it
            infos.append(describe(entry, reason, best=entry.name == best, latest=entry.name == latest))
        return infos

    # ------------------------------------------------------------------------------- how

    def _first_whole(self, which: Which, read: Callable[[Path], _Result]) -> _Result:
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
                    return self._first_whole(which, read)  # a run that goes on has deleted it, and saved a newer one
                get_logger().warning("a damaged checkpoint is passed over", checkpoint=entry.name, reason=error.reason)
                damaged.append(f"{entry.name}: {error.reason}")
        if damaged:
            raise DamagedCheckpointError(
                self.folder,
                f"none of its checkpoints is whole ({'; '.join(damaged)})",
                remedy="nothing of them can be repaired: delete or move this folder to start anew, or go on from a "
                "checkpoint of another run with --ckpt-path PATH",
            )
        raise NoCheckpointError(
            f"{self.folder} holds no checkpoint",
            remedy="train first, or name the checkpoint that is meant with --ckpt-path PATH",
            notes=self._notes(),
        )

    def _latest_first(self) -> Iterator[DirectoryEntry]:
        """`latest`, then what was saved before it, the newest first."""
        name = self._directory.link_target(LATEST)
        # Others than the store's own may be of another run.
        entries = [e for e in reversed(self._directory.entries()) if (e.managed and not e.stale) or e.name == name]
        latest = next((entry for entry in entries if entry.name == name), None)
        if latest:
            yield latest
        known = latest is not None and latest.manifest is not None
        for entry in entries:
            if entry is not latest and not (known and latest and entry.serial > latest.serial):
                yield entry

    def _read_best(self, read: Callable[[Path], _Result]) -> _Result:
        name = self._directory.link_target(BEST)
        entry = self._directory.find(name) if name else None
        if name != self._directory.link_target(BEST):
            return self._read_best(read)  # a run that goes on has found a better one
        if entry is None:
            missing = f"`best` points at {name}, which is not there" if name else "no checkpoint is marked as the best"
            raise NoCheckpointError(f"{missing} in {self.folder}", notes=self._notes())
        try:
            return read(entry.path)
        except DamagedCheckpointError as error:
            if name != self._directory.link_target(BEST):
                return self._read_best(read)
            whole = [info.path.name for info in self.list() if info.whole]
            raise DamagedCheckpointError(
                entry.path,
                error.reason,
                remedy=f"take one of those that are whole: {', '.join(whole) or 'there is none'}",
            ) from error

    def _folder_of(self, path: Path) -> Path:
        if path.is_file():
            raise CheckpointError(
                f"{path} is a file; a run goes on from a checkpoint's folder",
                remedy="start anew from its weights with `-M finetune`",
            )
        if not path.exists() and path.name == str(path):
            entry = self._directory.find(path.name)
            path = entry.path if entry else path
        if not path.is_dir():
            raise NoCheckpointError(f"there is no checkpoint {path}", notes=self._notes())
        if not (path / MANIFEST).exists() and not self._directory.name_of(path):
            raise NoCheckpointError(f"{path} is no checkpoint: it has no {MANIFEST}", notes=self._notes())
        return path.resolve()

    def _target(self, link: str) -> Path | None:
        name = self._directory.link_target(link)
        entry = self._directory.find(name) if name else None
        return entry.path if entry else None

    def _best_now(self, entries: Sequence[DirectoryEntry]) -> DirectoryEntry | None:
        name = self._directory.link_target(BEST)
        return next((entry for entry in entries if entry.name == name), None)

    def _notes(self) -> tuple[str, ...]:
        names = [f"{entry.name}{' (damaged)' * bool(entry.reason)}" for entry in self._directory.entries()]
        return (f"{self.folder} holds: {', '.join(names)}",) if names else ()

    @contextlib.contextmanager
    def _writing(self, size: int) -> Iterator[None]:
        with refusals(f"no checkpoint could be written into {self.folder}"):
            self._directory.make_writable()
            make_folder(self.folder)
            free = shutil.disk_usage(self.folder).free
            if free < size + _HEADROOM:
                raise CheckpointWriteError(
                    f"a checkpoint of {size / 1e6:.1f} MB has no room in {self.folder}: {free / 1e6:.1f} MB are free, "
                    f"and {_HEADROOM / 1e6:.1f} MB have to stay free",
                    remedy=MAKE_ROOM,
                )
            yield

    @contextlib.contextmanager
    def _quietly(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            get_logger().warning(what, folder=str(self.folder), error=str(error))


def _at_least_one(keep: int | None) -> None:
    if keep is not None and keep < 1:
        raise CheckpointError(f"at least one checkpoint is to be kept, not {keep}")
