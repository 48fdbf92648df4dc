"""Lists the audio files of a folder."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

from audiozen_core.audio.damage import ffmpeg
from audiozen_core.errors import DataError
from audiozen_core.logging import get_logger

AUDIO_SUFFIXES = (
    ".aif", ".aifc", ".aiff", ".au", ".caf", ".flac", ".mp2", ".mp3", ".oga", ".ogg", ".opus", ".rf64", ".snd", ".sph",
    ".w64", ".wav", ".wave",
)  # fmt: skip
"""The endings that `list_audio` looks for, in upper or lower case."""

# The endings of files with audio that libsndfile can't read.
_OTHER_SUFFIXES = (
    ".3gp", ".aac", ".ac3", ".alac", ".amr", ".ape", ".avi", ".awb", ".dsf", ".dts", ".eac3", ".flv", ".g722", ".gsm",
    ".m4a", ".m4b", ".m4v", ".mka", ".mkv", ".mov", ".mp4", ".mpc", ".mpg", ".pcm", ".ra", ".raw", ".shn", ".spx",
    ".tta", ".vox", ".webm", ".wma", ".wv",
)  # fmt: skip


def list_audio(folder: str | Path, *, subfolders: bool = True) -> list[Path]:
    """Lists the audio files of a folder and its subfolders, sorted.

    Symbolic links are followed, except one to a folder that leads to the link. A folder with two links to it is listed
    twice. Hidden files and folders are ignored. Files whose ending says that they have audio, but
    in a format that libsndfile can't read, are left out with a warning in the log that counts them.

    Args:
        folder: the folder.
        subfolders: whether to list the files of its subfolders, too.

    Raises:
        DataError: the folder is missing, is a file, or has no audio file in it.
    """
    folder = Path(folder)
    require_folder(folder)
    found: list[Path] = []
    others: list[Path] = []
    # For each folder that is still to be listed, the real paths of the folders that lead to it, and its own.
    chains: dict[Path, tuple[str, ...]] = {folder: (os.path.realpath(folder),)}
    for parent, folders, names in os.walk(folder, followlinks=True):
        chain = chains.pop(Path(parent))
        for name in folders if subfolders else ():
            # A link to a folder that leads to it would be followed forever.
            real = os.path.realpath(Path(parent, name))
            if not name.startswith(".") and real not in chain:
                chains[Path(parent, name)] = (*chain, real)
        folders[:] = [name for name in folders if Path(parent, name) in chains]
        for name in names:
            if not name.startswith("."):
                lower = name.lower()
                if lower.endswith(AUDIO_SUFFIXES):
                    found.append(Path(parent, name))
                elif lower.endswith(_OTHER_SUFFIXES):
                    others.append(Path(parent, name))
    left_out = _left_out(folder, sorted(others)) if others else ""
    if not found:
        raise DataError(
            f"the folder `{folder}` has no audio files{' that can be read' if others else ''}",
            remedy=left_out or f"give a folder with files that end in {', '.join(AUDIO_SUFFIXES)}",
        )
    if others:
        get_logger().warning(left_out)
    return sorted(found)


def _left_out(folder: Path, others: list[Path]) -> str:
    counts = Counter(path.suffix.lower() for path in others)
    kinds = ", ".join(f"{count} {suffix}" for suffix, count in counts.most_common())
    return (
        f"left out of `{folder}`, because libsndfile can't read them: {kinds}, such as `{others[0].name}`; "
        f"convert them: {ffmpeg(others[0], folder='converted')}"
    )


def require_folder(folder: Path) -> None:
    """Raises an error unless a folder exists.

    Args:
        folder: the folder, as a user has named it.

    Raises:
        DataError: it does not exist, or is not a folder.
    """
    if not folder.exists():
        raise DataError(
            f"the folder `{folder}` does not exist", remedy=f"relative paths are resolved from `{Path.cwd()}`"
        )
    if not folder.is_dir():
        raise DataError(f"`{folder}` is not a folder", remedy="give the folder that holds the audio files")
