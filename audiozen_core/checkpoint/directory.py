"""The folder `checkpoints`: which checkpoints it holds, their order, and the targets of `best` and `latest`.

After each step of a save, a reader finds a complete checkpoint, either the old one or the new one:

1. A checkpoint is written under a temporary name, and renamed when it is completely on the disk. The new name is always
   unused: a checkpoint never replaces another checkpoint, because some systems can't swap two folders in one step.
2. `latest` is updated, then `best`, then older checkpoints are deleted. Each step is durable before the next step
   starts.

Each save has a serial number. If a run is resumed from an earlier checkpoint, later checkpoints have higher serial
numbers than `latest`. `reconcile` marks these later checkpoints as stale with the suffix `.stale`.

Some file systems have no symbolic links, and some copies leave links out or replace links by copies of the folders.
Without the links, `latest` is the managed checkpoint with the highest serial number that is not stale, and `best` is
the checkpoint that the manifest of `latest` names. A folder `best` or `latest` counts as a checkpoint if it is the only
intact copy of that checkpoint, and as a missing link if it is empty. This module does not import torch.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from audiozen_core.checkpoint.errors import CheckpointWriteError, DamagedCheckpointError
from audiozen_core.checkpoint.format.manifest import Manifest, check_contents, check_sizes, read_manifest
from audiozen_core.checkpoint.info import CheckpointInfo
from audiozen_core.checkpoint.names import (
    BEST,
    LATEST,
    base_name,
    checkpoint_names,
    free_name,
    is_checkpoint,
    is_stale_name,
)
from audiozen_core.storage import atomic
from audiozen_core.storage.atomic import read_link, remove, rename, sync_folder, temporary_name


class CheckpointDirectory:
    """The folder `checkpoints` of one experiment. The folder need not exist."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    # ------------------------------------------------------------------------------- reading

    def entries(self, *, thorough: bool = False) -> list[CheckpointInfo]:
        """Returns all checkpoints in the order in which they were saved. Unknown serial numbers come first.

        Only names, sizes and manifests are checked. With `thorough`, every byte is checked.
        """
        check = check_contents if thorough else check_sizes
        found = [_entry(path, check) for path in self._folders() if _is_listed(path)]
        for copy in (_entry(self.folder / link, check) for link in (BEST, LATEST) if is_checkpoint(self.folder / link)):
            if copy.intact and not any(entry.intact and entry.manifest == copy.manifest for entry in found):
                found.append(copy)
        return sorted(found, key=lambda entry: (entry.serial, entry.name))

    def find(self, name: str) -> CheckpointInfo | None:
        """Returns the checkpoint with this name, or None."""
        path = self.folder / name
        return _entry(path) if _is_listed(path) or (name in (BEST, LATEST) and is_checkpoint(path)) else None

    def name_of(self, path: Path) -> str | None:
        """Returns the name of a checkpoint of this folder; None for a path elsewhere."""
        if path.parent.resolve() != self.folder.resolve():
            return None
        return self.link_target(path.name) if path.name in (BEST, LATEST) else path.name

    def link_target(self, link: str) -> str | None:
        """Returns the name that `best` or `latest` points at, even if the checkpoint is missing; None for no target."""
        target = self.read_link(link)
        if target is not None:
            return target
        current = self._current()
        if link == LATEST:
            return current[-1].name if current else None
        latest = self.find(self.link_target(LATEST) or "")
        known = [entry.manifest for entry in (*current, latest) if entry and entry.manifest]
        best = known[-1].best if known else None
        named = self.find(best or "")
        if best is None or (named and named.intact):
            return best
        copies = [entry.name for entry in current if entry.name in (BEST, LATEST) and _is_copy_of(entry, best)]
        return copies[0] if copies else best

    def possibly_better(self) -> list[str]:
        """Returns checkpoints with unreadable manifests that may be better than `best`, if `best` is not a link."""
        if self.read_link(BEST) is not None:
            return []
        return [entry.name for entry in self._current() if entry.manifest is None]

    def _current(self) -> list[CheckpointInfo]:
        """Returns the checkpoints of the run that are not stale, the newest last."""
        return [
            entry for entry in self.entries() if (entry.managed and not entry.stale) or entry.name in (BEST, LATEST)
        ]

    def read_link(self, link: str) -> str | None:
        """Returns the name that the link `best` or `latest` points at; None if it is not a link into this folder."""
        target = read_link(self.folder / link)
        return target if target and target not in (".", "..") and Path(target).name == target else None

    def _folders(self) -> Iterator[Path]:
        with contextlib.suppress(FileNotFoundError):
            yield from (path for path in self.folder.iterdir() if path.is_dir() and not path.is_symlink())

    # ------------------------------------------------------------------------------- changing

    def make_writable(self) -> None:
        """Makes sure that checkpoints can be saved here.

        A copy that follows symbolic links turns `best` and `latest` into folders. These folders are deleted, because
        `best` and `latest` must be links.
        """
        if not self.folder.is_dir() and (self.folder.is_symlink() or self.folder.exists()):
            target = read_link(self.folder)
            raise CheckpointWriteError(
                f"{self.folder} is {f'a link to {target}, which does not exist' if target else 'not a folder'}, "
                "so checkpoints can't be saved",
                remedy=f"mount or create {target}, or delete the link" if target else "move it elsewhere",
            )
        for link in (BEST, LATEST):
            path = self.folder / link
            if path.is_dir() and not path.is_symlink():
                if not _is_empty(path) and not self._has_duplicate(path):
                    raise CheckpointWriteError(
                        f"{path} is a folder, but must be a link to a checkpoint; it has not been changed",
                        remedy=_how_to_replace(path),
                    )
                self.delete([path])

    def _has_duplicate(self, path: Path) -> bool:
        with contextlib.suppress(DamagedCheckpointError):
            manifest = read_manifest(path)
            return any(entry.managed and not entry.reason and entry.manifest == manifest for entry in self.entries())
        return False

    def set_link(self, link: str, name: str | None) -> None:
        """Points `best` or `latest` at a checkpoint, durably; None removes the link."""
        path = self.folder / link
        if name is not None:
            atomic.replace_link(path, name)
        elif path.is_symlink():
            remove(path)
            sync_folder(self.folder)

    def delete(self, paths: Iterable[Path]) -> None:
        """Deletes checkpoints. Each one is renamed first, so that no incomplete folder has the name of a checkpoint."""
        hidden = []
        for path in paths:
            hidden.append(self.folder / temporary_name(path.name))
            rename(path, hidden[-1])
        if hidden:
            sync_folder(self.folder)
        for path in hidden:
            remove(path)

    def remove_partial(self) -> list[Path]:
        """Deletes files and folders that an earlier run left half-written or half-deleted; returns their paths."""
        paths = sorted(self.folder.iterdir()) if self.folder.is_dir() else []
        partial = [path for path in paths if atomic.is_temporary(path.name)]
        for path in partial:
            remove(path)
        return partial

    def unmark_stale(self, name: str) -> str:
        """Removes `.stale` from the name of a checkpoint; returns the new name."""
        if not is_stale_name(name):
            return name
        current = free_name(self.folder, base_name(name))
        rename(self.folder / name, self.folder / current)
        sync_folder(self.folder)
        return current

    def reconcile(self, name: str | None) -> list[str]:
        """Makes the other checkpoints and `best` agree with the checkpoint `name`, which `latest` points at.

        Later checkpoints become stale. If `best` points at a later checkpoint, it is set back to the checkpoint that
        was the best when `name` was saved. Returns the names of the checkpoints that have become stale.
        """
        entries = {entry.name: entry for entry in self.entries()}
        latest = entries.get(name or "")
        if latest is None or latest.manifest is None:
            return []
        later = [e for e in entries.values() if e.managed and not e.stale and e.serial > latest.serial]
        best, recorded_best = self.link_target(BEST), latest.manifest.best
        best_is_outdated = best not in entries or entries[best] in later or entries[best].stale
        if best != recorded_best and (best_is_outdated or recorded_best == latest.name):
            # The link is set before the renames, so that `best` never points at a name that does not exist.
            exists = recorded_best in entries and entries[recorded_best] not in later
            self.set_link(BEST, recorded_best if exists else None)
        self._mark_stale(later)
        for link in (BEST, LATEST):
            target = self.link_target(link)
            if target is not None and self.read_link(link) is None and self.find(target):
                self.set_link(link, target)
        return [entry.name for entry in later]

    def mark_all_stale(self) -> list[str]:
        """Marks all checkpoints as stale, for a run that continues from another experiment; returns their names."""
        self.set_link(LATEST, None)
        self.set_link(BEST, None)
        current = [entry for entry in self.entries() if entry.managed and not entry.stale]
        self._mark_stale(current)
        return [entry.name for entry in current]

    def _mark_stale(self, entries: Sequence[CheckpointInfo]) -> None:
        # The newest checkpoint is renamed last. If the links are missing, it is `latest` until then. So after a crash
        # in between, `latest` is either the old or the new target, never a checkpoint between the two.
        for entry in entries:
            rename(entry.path, self.folder / free_name(self.folder, f"{entry.name}.stale", separator=""))
        if entries:
            sync_folder(self.folder)

    def prune(self, keep: int, *, damaged: bool = False, spare_ahead: bool = False) -> Sequence[Path]:
        """Deletes all but `keep` managed checkpoints; see `CheckpointStore.prune`.

        `spare_ahead` also keeps stale checkpoints with more steps than the checkpoints that are not stale.
        """
        entries = self.entries(thorough=damaged)
        if damaged:
            self._point_at_usable(entries)
        # Without links, `latest` may still be a damaged checkpoint.
        unusable = {entry.name for entry in entries if damaged and entry.reason}
        linked = {self.link_target(BEST), self.link_target(LATEST)} - unusable
        reached = max((entry.step or 0 for entry in entries if entry.managed and not entry.stale), default=0)
        usable = [
            entry
            for entry in entries
            if (entry.managed or entry.name in linked)
            and not entry.reason
            and not (spare_ahead and entry.stale and (entry.step or 0) > reached)
        ]
        # The checkpoints are sorted by importance: `best` and `latest` first, then from the newest to the oldest, with
        # stale checkpoints at the end.
        order = sorted(usable, key=lambda entry: (entry.name in linked, not entry.stale, entry.serial), reverse=True)
        deleted = [entry.path for entry in order[keep:] if entry.name not in linked]
        if damaged:
            deleted += [entry.path for entry in entries if entry.managed and entry.reason and entry.name not in linked]
        self.delete(deleted)
        return deleted

    def _point_at_usable(self, entries: Sequence[CheckpointInfo]) -> None:
        """If `latest` is damaged, points it at the newest usable checkpoint. If `best` is damaged, removes it."""
        usable = [entry.name for entry in entries if entry.managed and not entry.reason and not entry.stale]
        damaged = {entry.name for entry in entries if entry.reason}
        for link, target in ((LATEST, usable[-1] if usable else None), (BEST, None)):
            if self.link_target(link) in damaged:
                self.set_link(link, target)


def follow_link(path: Path) -> Path:
    """Returns the checkpoint that a path such as `checkpoints/best` stands for, even if the link is missing."""
    if path.name not in (BEST, LATEST):
        return path
    folder = CheckpointDirectory(path.parent)
    if path.is_dir() and folder.read_link(path.name) is None and not _is_empty(path):
        return path
    name = folder.link_target(path.name)
    return path.parent / name if name else path


def _is_empty(path: Path) -> bool:
    """Returns whether a folder is empty. Some archives store a link to a folder as an empty folder."""
    return not path.is_symlink() and not any(path.iterdir())


def _is_listed(path: Path) -> bool:
    return not path.name.startswith(".") and path.name not in (BEST, LATEST) and is_checkpoint(path)


def _how_to_replace(path: Path) -> str:
    copy = _entry(path)
    if copy.manifest is None or copy.reason:
        return "move it elsewhere"
    best = copy.manifest.best
    name = best if best and _is_copy_of(copy, best) else checkpoint_names(copy.manifest.epoch, copy.manifest.step)[0]
    return f"it is the only intact copy of a checkpoint; to keep it, rename it to `{name}`, otherwise move it elsewhere"


def _is_copy_of(entry: CheckpointInfo, best: str) -> bool:
    """Returns whether a folder `best` or `latest` is a copy of the checkpoint `best`."""
    saved = entry.manifest
    return saved is not None and saved.best == best and base_name(best) in checkpoint_names(saved.epoch, saved.step)


def _entry(path: Path, check: Callable[[Path, Manifest], object] = check_sizes) -> CheckpointInfo:
    manifest = None
    try:
        manifest = read_manifest(path)
        check(path, manifest)
    except DamagedCheckpointError as error:
        return CheckpointInfo(path, manifest, error.reason)
    return CheckpointInfo(path, manifest, "")
