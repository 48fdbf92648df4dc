"""Lists the audio files of a folder."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

from audiozen_core.audio.damage import ffmpeg
from audiozen_core.errors import DataError
from audiozen_core.logging import get_logger
from audiozen_core.storage.audio_suffixes import AUDIO_SUFFIXES

# The endings of files that are likely to have audio that libsndfile can't read.
_OTHER_SUFFIXES = (
    ".3g2", ".3ga", ".3gp", ".aa", ".aac", ".aax", ".aaxc", ".ac3", ".adts", ".adx", ".alac", ".amr", ".ape",
    ".asf", ".at3", ".avi", ".awb", ".dff", ".dsf", ".dss", ".dts", ".eac3", ".ec3", ".f4a", ".f4b", ".f4v",
    ".flv", ".g722", ".g723", ".g726", ".g729", ".gsm", ".latm", ".lc3", ".loas", ".m2ts", ".m4a", ".m4b",
    ".m4p", ".m4r", ".m4v", ".mka", ".mkv", ".mlp", ".mov", ".mp+", ".mp4", ".mpc", ".mpeg", ".mpg", ".mpp",
    ".mts", ".nut", ".ofr", ".ogv", ".ogx", ".oma", ".pcm", ".qcp", ".qoa", ".ra", ".ram", ".raw", ".rm",
    ".sbc", ".sd2", ".shn", ".spx", ".tak", ".thd", ".tta", ".vob", ".vox", ".vqf", ".webm", ".wma", ".wmv",
    ".wv",
)  # fmt: skip

RECORD = "enhanced.jsonl"
"""The file that `audiozen enhance` writes beside its results."""

# The log names at most this many endings.
_MOST_KINDS = 12


def list_audio(folder: str | Path, *, subfolders: bool = True) -> list[Path]:
    """Lists the audio files of a folder and its subfolders, sorted.

    Symbolic links are followed, except one to a folder that leads to the link. A folder with two links to it is listed
    twice. Hidden files and folders are ignored.

    The log says how many files of each other ending are left out. This is a warning if files with the ending are likely
    to have audio that libsndfile can't read.

    Args:
        folder: the folder.
        subfolders: whether to list the files of its subfolders, too.

    Raises:
        DataError: the folder is missing, is a file, or has no audio file in it.
    """
    folder = Path(folder)
    require_folder(folder)
    found: list[Path] = []
    others: list[Path] = []  # audio that can't be read
    rest: Counter[str] = Counter()
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
            lower = name.lower()
            if name.startswith("."):
                rest["hidden"] += 1
            elif lower.endswith(AUDIO_SUFFIXES):
                found.append(Path(parent, name))
            elif name == RECORD:
                continue
            elif lower.endswith(_OTHER_SUFFIXES):
                others.append(Path(parent, name))
            else:
                rest[Path(lower).suffix or "without an ending"] += 1
    left_out = _left_out(folder, sorted(others)) if others else ""
    if not found:
        raise DataError(
            f"the folder `{folder}` has no audio files{' that can be read' if others else ''}",
            remedy=left_out or f"give a folder with files that end in {', '.join(AUDIO_SUFFIXES)}",
            notes=(f"other files: {_counted(rest)}",) if rest else (),
        )
    if others:
        get_logger().warning(left_out)
    if rest:
        get_logger().info(f"files of `{folder}` that are not audio by their names: {_counted(rest)}")
    return sorted(found)


def _left_out(folder: Path, others: list[Path]) -> str:
    kinds = _counted(Counter(path.suffix.lower() for path in others))
    return (
        f"left out of `{folder}`, because libsndfile can't read them: {kinds}, such as `{others[0].name}`; "
        f"convert them: {ffmpeg(others[0], folder='converted')}"
    )


def _counted(kinds: Counter[str]) -> str:
    shown = [f"{count} {kind}" for kind, count in kinds.most_common(_MOST_KINDS)]
    hidden = sum(kinds.values()) - sum(count for _, count in kinds.most_common(_MOST_KINDS))
    return ", ".join([*shown, *[f"{hidden} others"] * bool(hidden)])


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
