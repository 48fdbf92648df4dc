"""Caches facts about files and folders until one of these files or folders changes.

The cache is stored on disk. Runs that use the cache continue if it is deleted.

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
from audiozen_core.storage.mapped_table import MappedTable

WORTH_REMEMBERING = 10_000
"""Facts about fewer files than this are not cached: reading the files again at each start takes about a second."""

Stamp = tuple[int, int, int, int, int]
"""Device, inode, size, and the times of the last changes of the content and of the metadata, in nanoseconds."""

_FOLDER = "listings"
_SETTLED_SECONDS = 2.0  # the time resolution of FAT, the coarsest of the common file systems
_ABANDONED_SECONDS = 24 * 3600.0
_64_BITS = (1 << 64) - 1
_SOURCES, _STAMPS = "sources", "stamps"


class Sources:
    """The files and folders that cached facts depend on, with a stamp of each."""

    def __init__(self) -> None:
        self.paths: list[Path] = []
        self._stamps: list[Stamp] = []
        self._time = time.time_ns()

    def add(self, path: Path, stamp: Stamp) -> None:
        """Adds a file or a folder.

        Args:
            path: the file or folder.
            stamp: its stamp. Call `file_stamp` before you read the file, so that changes while reading are noticed.
        """
        self.paths.append(path.absolute())
        self._stamps.append(stamp)

    @property
    def stamps(self) -> np.ndarray:
        """All stamps, int64 [paths, 5]."""
        # A device or inode number may need all 64 bits, and a time may be negative.
        rows = [[value & _64_BITS for value in stamp] for stamp in self._stamps]
        return np.array(rows, np.uint64).reshape(-1, 5).view(np.int64)

    @property
    def is_unchanged(self) -> bool:
        """Whether no source had changed shortly before its stamp was taken, and no source has changed since.

        File times have a limited resolution. If a file changes twice within the resolution, its stamp may stay the
        same.
        """
        newest = max((max(stamp[-2:]) for stamp in self._stamps), default=0)
        return self._time - newest > _SETTLED_SECONDS * 1e9 and self._stamps == list(map(file_stamp, self.paths))


def file_stamp(path: Path) -> Stamp:
    """Returns the stamp of a file or folder. The stamp changes when the file, or a name in the folder, changes."""
    status = path.stat()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def cache_table(what: str, table: MappedTable, sources: Sources) -> MappedTable:
    """Writes a table to the cache, and returns the table as mapped from the cache file.

    If a source has just changed, nothing is written. If the file can't be written, a warning is logged. In both cases,
    the original table is returned.

    Args:
        what: a description of the table that no other table has.
        table: the table.
        sources: the files and folders that the table depends on.
    """
    path = _file(what)
    try:
        if not sources.is_unchanged:
            return table
    except OSError:  # a source has been deleted
        return table
    whole = MappedTable(table.facts, {**table.arrays, _STAMPS: sources.stamps})
    whole.add_text(_SOURCES, map(str, sources.paths))
    try:
        make_folder(path.parent)
        _remove_abandoned(path.parent)
        whole.write(path)
        return MappedTable.read(path)
    except (OSError, ValueError) as error:
        get_logger().warning(
            f"`{path}` can't be written: {error}",
            remedy="check the free disk space and the permissions; without this file, each start reads all files again",
        )
        return table


def cached_table(what: str) -> MappedTable | None:
    """Returns a table from the cache.

    The result is None if the table is not cached, if its file is damaged, or if one of its sources has changed.
    """
    path = _file(what)
    if not path.exists():
        return None
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        table = MappedTable.read(path, verify=True)
        now = Sources()
        for source in map(Path, table.text(_SOURCES)):
            now.add(source, file_stamp(source))
        if np.array_equal(now.stamps, table.arrays[_STAMPS]):
            return table
    return None


def _remove_abandoned(folder: Path) -> None:
    """Deletes the temporary files of killed processes. Other machines may still be writing recent files."""
    for path in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):  # another process has removed the file
            if is_temporary(path.name) and time.time() - path.stat().st_mtime > _ABANDONED_SECONDS:
                remove(path)


def _file(what: str) -> Path:
    return default_cache() / _FOLDER / f"{hashlib.sha256(os.fsencode(what)).hexdigest()[:32]}.table"
