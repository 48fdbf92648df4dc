"""Keeps what took long to find out about files and folders, until one of them changes. A run goes on if it is deleted.

This module does not import torch.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from pathlib import Path

import numpy as np

from audiozen_core.logging import get_logger
from audiozen_core.storage.atomic import is_temporary, make_folder, remove
from audiozen_core.storage.cache_folder import default_cache
from audiozen_core.storage.mapped_table import Table

WORTH_REMEMBERING = 10_000
"""Fewer files are looked at again at each start, which takes about a second."""

Stamp = tuple[int, int, int, int, int]
"""Device, inode, size, and the times of the last change of the content and of the entry, in nanoseconds."""

_FOLDER = "listings"
_SETTLED_SECONDS = 2.0  # no file system in use keeps coarser times than FAT
_ABANDONED_SECONDS = 24 * 3600.0
_64_BITS = (1 << 64) - 1
_SOURCES, _STAMPS = "sources", "stamps"


class Sources:
    """The files and folders that something is found out from, and when each of them has last changed."""

    def __init__(self) -> None:
        self.paths: list[Path] = []
        self._stamps: list[Stamp] = []
        self._time = time.time_ns()

    def add(self, path: Path, stamp: Stamp) -> None:
        """Adds a file or a folder.

        Args:
            path: the file.
            stamp: the result of `look_at`, called before it was read, so that a change in the meantime is noticed.
        """
        self.paths.append(path.absolute())
        self._stamps.append(stamp)

    @property
    def stamps(self) -> np.ndarray:
        """All stamps, int64 [paths, 5]."""
        # A number of a device or an inode may need all 64 bits, and a time may be negative.
        rows = [[value & _64_BITS for value in stamp] for stamp in self._stamps]
        return np.array(rows, np.uint64).reshape(-1, 5).view(np.int64)

    @property
    def settled(self) -> bool:
        """Whether none of them changed just before it was looked at, and none has changed since.

        The time of a change has a resolution. A second change within it would not be noticed.
        """
        newest = max((max(stamp[-2:]) for stamp in self._stamps), default=0)
        return self._time - newest > _SETTLED_SECONDS * 1e9 and self._stamps == list(map(look_at, self.paths))


def look_at(path: Path) -> Stamp:
    """Returns what changes with a file, or with the names in a folder."""
    status = path.stat()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def remember(what: str, table: Table, sources: Sources) -> Table:
    """Writes a table to the cache, and returns it as it is mapped from there.

    It is returned as it was if a source has just changed, or if it can't be written, which the log says.

    Args:
        what: what the table is, in words that tell it from all other ones.
        table: the table.
        sources: what it depends on.
    """
    path = _file(what)
    try:
        if not sources.settled:
            return table
    except OSError:  # one of them has gone
        return table
    whole = Table(table.facts, {**table.arrays, _STAMPS: sources.stamps})
    whole.add_text(_SOURCES, map(str, sources.paths))
    try:
        make_folder(path.parent)
        _remove_abandoned(path.parent)
        whole.write(path)
        return Table.read(path)
    except (OSError, ValueError) as error:
        get_logger().warning(
            f"`{path}` can't be written: {error}",
            remedy="check the free disk space and the permissions; without it, each start looks at all files again",
        )
        return table


def recall(what: str) -> Table | None:
    """Returns the table that was remembered.

    None if there is none, if its file is damaged, or if one of its sources has changed since.
    """
    path = _file(what)
    if not path.exists():
        return None
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        table = Table.read(path, verify=True)
        now = Sources()
        for source in map(Path, table.text(_SOURCES)):
            now.add(source, look_at(source))
        if np.array_equal(now.stamps, table.arrays[_STAMPS]):
            return table
    return None


def _remove_abandoned(folder: Path) -> None:
    """Deletes what killed processes left behind. Those of other machines may write to the same folder."""
    for path in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):  # another process has removed it
            if is_temporary(path.name) and time.time() - path.stat().st_mtime > _ABANDONED_SECONDS:
                remove(path)


def _file(what: str) -> Path:
    return default_cache() / _FOLDER / f"{hashlib.sha256(os.fsencode(what)).hexdigest()[:32]}.table"
