"""Lists the audio files of a folder."""

from __future__ import annotations

import os
from pathlib import Path

from audiozen_core.errors import DataError

AUDIO_SUFFIXES = (".aif", ".aiff", ".au", ".caf", ".flac", ".mp3", ".ogg", ".opus", ".rf64", ".sph", ".w64", ".wav")
"""The endings that `list_audio` looks for, in upper or lower case."""


def list_audio(folder: str | Path) -> list[Path]:
    """Lists the audio files of a folder and its subfolders, sorted.

    Symbolic links are followed. Hidden files and folders are ignored.

    Raises:
        DataError: the folder is missing, is a file, or has no audio file in it.
    """
    folder = Path(folder)
    require_folder(folder)
    found: list[Path] = []
    seen: set[str] = set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        # Links can form a cycle, so each folder is listed once.
        real = os.path.realpath(parent)
        folders[:] = [] if real in seen else [name for name in folders if not name.startswith(".")]
        if real not in seen:
            suffixed = [name for name in names if name.lower().endswith(AUDIO_SUFFIXES) and not name.startswith(".")]
            found += [Path(parent, name) for name in suffixed]
        seen.add(real)
    if not found:
        raise DataError(
            f"the folder `{folder}` has no audio files",
            remedy=f"give a folder with files that end in {', '.join(AUDIO_SUFFIXES)}",
        )
    return sorted(found)


def require_folder(folder: Path) -> None:
    """Raises a `DataError` unless `folder` is a folder."""
    if not folder.exists():
        raise DataError(
            f"the folder `{folder}` does not exist", remedy=f"relative paths are resolved from `{Path.cwd()}`"
        )
    if not folder.is_dir():
        raise DataError(f"`{folder}` is not a folder", remedy="give the folder that holds the audio files")
