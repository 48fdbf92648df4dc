"""The folder `checkpoints`: which checkpoints lie there, in what order, and where `best` and `latest` point.

Each step here leaves the folder in a state from which a reader finds the old checkpoint or the new one, whole:

1. A checkpoint is written under a temporary name, and renamed when all of it lies on the disk.
2. One that takes an old one's name is swapped with it. Where the system can't swap, the old one is parked under a
   hidden name first; while its own name is missing, readers take the parked one for it, and `sweep` puts it back.
3. `latest` moves, then `best`, then others are deleted, each after the step before is on the disk.

Each save has a serial number. What has a higher one than `latest` belongs to a future that was left behind: the run was
resumed from an earlier checkpoint. `settle` marks it with `.stale`. Only what bears a name of the store's own making
is renamed, pruned or fallen back to: the rest may be somebody's own. Imports no torch.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from audiozen_core.checkpoint.errors import CheckpointWriteError, DamagedCheckpointError
from audiozen_core.checkpoint.format.manifest import Manifest, check_contents, check_sizes, read_manifest
from audiozen_core.checkpoint.names import BEST, LATEST, is_checkpoint, is_own, is_stale_name, parked_name, plain_name
from audiozen_core.logging import get_logger
from audiozen_core.storage import atomic
from audiozen_core.storage.atomic import (
    PARTIAL_SUFFIX,
    exchange,
    read_link,
    remove_folder,
    rename,
    sync_folder,
    temporary_name,
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One checkpoint of the folder.

    Attributes:
        name: what it is called, `epoch_0003`.
        path: where it is; not under its name while it is parked.
        manifest: None where it can't be read.
        reason: why it can't be used, as far as names, sizes and the manifest tell; else empty.
        stale: whether it was left behind.
    """

    name: str
    path: Path
    manifest: Manifest | None
    reason: str
    stale: bool

    @property
    def step(self) -> int:
        """Optimiser steps done when it was saved; -1 where that is not known."""
        return self.manifest.step if self.manifest else -1

    @property
    def own(self) -> bool:
        """Whether its name is of the store's making, so that it may be renamed and deleted."""
        return is_own(self.name)

    @property
    def serial(self) -> int:
        """Its place in the order of the saves; -1 where that is not known."""
        return self.manifest.serial if self.manifest else -1


class Shelf:
    """The folder `checkpoints` of one experiment.

    Args:
        folder: it need not exist.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    # ------------------------------------------------------------------------------- reading

    def entries(self, *, thorough: bool = False) -> list[Entry]:
        """All checkpoints, in the order in which they were saved; those whose place is not known come first.

        Args:
            thorough: whether to read every byte of them; else names, sizes and the manifest alone.
        """
        latest, check = self.link(LATEST), check_contents if thorough else check_sizes
        found = [_entry(name, path, latest, check) for name, path in self._paths().items()]
        return sorted(found, key=lambda entry: (entry.serial, entry.name))

    def find(self, name: str) -> Entry | None:
        """The checkpoint of that name."""
        path = self._paths().get(name)
        return _entry(name, path, self.link(LATEST)) if path else None

    def name_of(self, path: Path) -> str | None:
        """The name of a checkpoint of this folder; None for a path elsewhere."""
        if path.parent.resolve() != self.folder.resolve():
            return None
        if path.name in (BEST, LATEST):
            return self.link(path.name)
        return parked_name(path.name) or path.name

    def link(self, link: str) -> str | None:
        """The name that `best` or `latest` points at, whether it is there or not; None for no or a forged link."""
        target = read_link(self.folder / link)
        if target is None:
            return self._twin(link)
        plain = target not in ("", ".", "..") and Path(target).name == target
        return target if plain else None

    def _twin(self, link: str) -> str | None:
        """What a link pointed at before a copy that follows links (`cp -rL`) made a folder of it."""
        folder = self.folder / link
        if folder.is_symlink() or not folder.is_dir():
            return None
        with contextlib.suppress(DamagedCheckpointError):
            manifest = read_manifest(folder)
            for name, path in self._paths().items():
                with contextlib.suppress(DamagedCheckpointError):
                    if is_own(name) and read_manifest(path) == manifest:
                        return name
        return None

    def _paths(self) -> dict[str, Path]:
        named: dict[str, Path] = {}
        parked: dict[str, Path] = {}
        for path in self._folders():
            if name := parked_name(path.name):
                parked[name] = path
            elif not path.name.startswith(".") and path.name not in (BEST, LATEST) and is_checkpoint(path):
                named[path.name] = path
        return parked | named

    def _folders(self) -> Iterator[Path]:
        with contextlib.suppress(FileNotFoundError):
            yield from (path for path in self.folder.iterdir() if path.is_dir() and not path.is_symlink())

    # ------------------------------------------------------------------------------- changing

    def check_folder(self) -> None:
        """Refuses to work where the folder itself is a link that leads nowhere, or no folder.

        Raises:
            CheckpointWriteError: so it is.
        """
        if self.folder.is_dir() or not (self.folder.is_symlink() or self.folder.exists()):
            return
        target = read_link(self.folder) if self.folder.is_symlink() else None
        what = f"is a link to {target}, which is not there" if target else "is no folder"
        remedy = f"mount or make {target}, or delete the link" if target else "move it elsewhere"
        raise CheckpointWriteError(f"{self.folder} {what}: no checkpoint can be saved", remedy=remedy)

    def check_free(self, name: str) -> None:
        """Refuses a name under which something lies that is no checkpoint.

        Raises:
            CheckpointWriteError: so it is.
        """
        path = self.folder / name
        if (path.is_symlink() or path.exists()) and not is_checkpoint(path):
            raise CheckpointWriteError(
                f"{path} is in the way of a checkpoint of that name, and is none itself; it has not been touched",
                remedy="move it elsewhere",
            )

    def check_links(self) -> None:
        """Refuses a folder in the place of `best` or `latest`, unless it is a mere copy of a checkpoint.

        Raises:
            CheckpointWriteError: so it is.
        """
        for link in (BEST, LATEST):
            path = self.folder / link
            if path.is_dir() and not path.is_symlink() and self._twin(link) is None:
                raise CheckpointWriteError(
                    f"{path} is a folder of its own where a link to a checkpoint belongs; it has not been touched",
                    remedy="move it elsewhere",
                )

    def install(self, aside: Path, name: str) -> None:
        """Gives a finished checkpoint its name; one that has the name already is swapped out and deleted."""
        final = self.folder / name
        if not (final.exists() or final.is_symlink()):
            rename(aside, final)
            sync_folder(self.folder)
            return
        if not exchange(aside, final):
            parked = self.folder / (temporary_name(name).removesuffix(PARTIAL_SUFFIX) + ".parked")
            rename(final, parked)
            try:
                rename(aside, final)
            except OSError:
                rename(parked, final)
                raise
            sync_folder(self.folder)
            aside = parked
        sync_folder(self.folder)
        try:
            _remove(aside)
        except OSError as error:
            get_logger().warning("the replaced checkpoint could not be deleted", checkpoint=name, error=str(error))

    def point(self, link: str, name: str | None) -> None:
        """Moves `best` or `latest`, durably; with None there is no such link any more."""
        path = self.folder / link
        if path.is_dir() and not path.is_symlink():
            self.check_links()
            self.delete([path])
        if name is not None:
            atomic.replace_link(self.folder / link, name)
        elif (self.folder / link).is_symlink() or (self.folder / link).exists():
            atomic.remove_file(self.folder / link)
            sync_folder(self.folder)

    def delete(self, paths: Iterable[Path]) -> None:
        """Deletes checkpoints; none of them is ever half there under its name."""
        doomed = []
        for path in paths:
            hidden = self.folder / temporary_name(path.name)
            rename(path, hidden)
            doomed.append(hidden)
        if doomed:
            sync_folder(self.folder)
        for path in doomed:
            _remove(path)

    def sweep(self) -> list[Path]:
        """Clears away what a dead run left half-done, before `settle`; returns what was deleted."""
        names = self._paths()
        strays = []
        for path in sorted(self.folder.iterdir()) if self.folder.is_dir() else ():
            parked = parked_name(path.name)
            if parked and names.get(parked) == path:
                rename(path, self.folder / parked)
                sync_folder(self.folder)
            elif parked or atomic.is_temporary(path.name):
                _remove(path)
                strays.append(path)
        return strays

    def restore(self, name: str) -> str:
        """Gives a checkpoint that was left behind its own name again, unless another has it; gives the name it has."""
        plain = plain_name(name)
        if plain == name or (self.folder / plain).exists():
            return name
        rename(self.folder / name, self.folder / plain)
        sync_folder(self.folder)
        return plain

    def settle(self) -> list[str]:
        """Brings all else into line with `latest`: what was saved after it is stale, and `best` is what was so then.

        Returns:
            The names of those that have become stale.
        """
        entries = {entry.name: entry for entry in self.entries()}
        latest = entries.get(self.link(LATEST) or "")
        if latest is None or latest.manifest is None:
            return []
        late = [entry for entry in entries.values() if entry.own and entry.serial > latest.serial and not entry.stale]
        best, was_best = self.link(BEST), latest.manifest.best
        gone = best not in entries or entries[best] in late or entries[best].stale
        if best != was_best and (gone or was_best == latest.name):
            # Before the renaming, so that `best` never points at a name that is no more.
            self.point(BEST, was_best if was_best in entries and entries[was_best] not in late else None)
        for entry in late:
            rename(entry.path, self._free_stale_name(entry.name))
        if late:
            sync_folder(self.folder)
        return [entry.name for entry in late]

    def abandon(self) -> list[str]:
        """Marks all checkpoints as stale and removes the links: the run goes on from somewhere else.

        Returns:
            The names of those that have become stale.
        """
        self.point(LATEST, None)
        self.point(BEST, None)
        live = [entry for entry in self.entries() if entry.own and not entry.stale]
        for entry in live:
            rename(entry.path, self._free_stale_name(entry.name))
        if live:
            sync_folder(self.folder)
        return [entry.name for entry in live]

    def prune(self, keep: int, *, damaged: bool = False, spare_ahead: bool = False) -> Sequence[Path]:
        """Deletes all but `keep` checkpoints of the store's own; see `CheckpointStore.prune`.

        With `spare_ahead`, stale ones that the training has not come up to again are kept besides.
        """
        entries = self.entries(thorough=damaged)
        if damaged:
            self._point_at_usable(entries)
        pointed = {self.link(BEST), self.link(LATEST)}
        reached = max((entry.step for entry in entries if entry.own and not entry.stale), default=0)
        usable = [
            entry
            for entry in entries
            if (entry.own or entry.name in pointed)
            and not entry.reason
            and not (spare_ahead and entry.stale and entry.step > reached)
        ]
        # The last go first: stale ones, then the oldest.
        order = sorted(usable, key=lambda entry: (entry.name in pointed, not entry.stale, entry.serial), reverse=True)
        doomed = [entry.path for entry in order[keep:] if entry.name not in pointed]
        if damaged:
            doomed += [entry.path for entry in entries if entry.own and entry.reason and entry.name not in pointed]
        self.delete(doomed)
        return doomed

    def _point_at_usable(self, entries: Sequence[Entry]) -> None:
        """Takes the links away from what can't be used: `latest` goes to the newest that can, `best` goes."""
        usable = [entry.name for entry in entries if entry.own and not entry.reason and not entry.stale]
        damaged = {entry.name for entry in entries if entry.reason}
        for link, instead in ((LATEST, usable[-1] if usable else None), (BEST, None)):
            if self.link(link) in damaged:
                self.point(link, instead)

    def _free_stale_name(self, name: str) -> Path:
        plain = plain_name(name)
        path, count = self.folder / f"{plain}.stale", 1
        while path.exists():
            count += 1
            path = self.folder / f"{plain}.stale{count}"
        return path


def _entry(name: str, path: Path, latest: str | None, check: Callable[[Path, Manifest], object] = check_sizes) -> Entry:
    stale = is_stale_name(name) and name != latest
    manifest = None
    try:
        manifest = read_manifest(path)
        check(path, manifest)
    except DamagedCheckpointError as error:
        return Entry(name, path, manifest, error.reason, stale)
    return Entry(name, path, manifest, "", stale)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        remove_folder(path)
    else:
        atomic.remove_file(path)
