"""Finds the runs below a folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

from audiozen_core.config.used_plugins import RECORDS
from audiozen_core.experiment.lock import LOCK
from audiozen_core.experiment.session_file import SESSIONS

RUN_FILES = (LOCK, RECORDS, SESSIONS)
"""A folder that contains one of these files is a run folder."""

# Folders in a run folder that may contain many files, but never a run.
_RESULTS = frozenset({"checkpoints", "test", "predict", "tb_log"})


def find_runs(folder: Path, unreadable: list[str]) -> Iterator[Path]:
    """Searches a folder and all its subfolders, and yields the run folders, sorted by path.

    Links to folders are followed, but each folder is only searched once. Hidden folders are skipped.

    Args:
        folder: the folder to search. It may be a run folder itself.
        unreadable: a list to which folders that can't be read are appended, each with the reason.
    """
    yield from _runs(folder, set(), unreadable)


def _runs(folder: Path, seen: set[tuple[int, int]], unreadable: list[str]) -> Iterator[Path]:
    try:
        status = folder.stat()
        if (status.st_dev, status.st_ino) in seen:  # a link leads back to this folder
            return
        seen.add((status.st_dev, status.st_ino))
        with os.scandir(folder) as entries:
            members = sorted((entry.name, _is_folder(entry)) for entry in entries)
    except OSError as error:
        unreadable.append(f"{folder}: {error.strerror}")
        return
    is_run = any(not is_folder and any(fnmatch(name, form) for form in RUN_FILES) for name, is_folder in members)
    if is_run:
        yield folder
    for name, is_folder in members:
        if is_folder and not name.startswith(".") and not (is_run and name in _RESULTS):
            yield from _runs(folder / name, seen, unreadable)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # such as a link that refers to itself
        return False
