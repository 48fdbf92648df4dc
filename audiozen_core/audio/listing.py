"""Lists the audio files of a folder."""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple, overload

from audiozen_core.audio.damage import ffmpeg
from audiozen_core.audio.table_cache import WORTH_REMEMBERING, Sources, Stamp, cache_table, cached_table, file_stamp
from audiozen_core.errors import DataError
from audiozen_core.logging import get_logger
from audiozen_core.storage.audio_suffixes import AUDIO_SUFFIXES
from audiozen_core.storage.mapped_table import MappedTable, TextColumn

# The extensions of files that probably contain audio that libsndfile can't read.
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
"""The file that `audiozen enhance` writes next to its results."""

_THREADS = 8  # on a network drive, a thread waits for the server most of the time

# The log names at most this many extensions.
_MOST_KINDS = 12


@dataclass(frozen=True)
class AudioListing(Sequence[Path]):
    """The audio files of a folder, sorted. A `Path` is created only when an item is read.

    Attributes:
        folder: the folder.
        table: a table with the column `file` (paths relative to the folder), and with facts about files that are left
            out.
    """

    folder: Path
    table: MappedTable

    @property
    def names(self) -> TextColumn:
        """The paths of the files relative to the folder, with `/` as the separator."""
        return self.table.text("file")

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, index: int) -> Path: ...
    @overload
    def __getitem__(self, index: slice) -> list[Path]: ...
    def __getitem__(self, index: int | slice) -> Path | list[Path]:
        """Returns the path of a file, or the paths of a slice of the files."""
        found = self.names[index]
        return self.folder / found if isinstance(found, str) else [self.folder / name for name in found]

    def log_left_out(self) -> None:
        """Logs which files are left out.

        Raises:
            DataError: the folder has no audio file.
        """
        facts, folder = self.table.facts, self.folder
        unreadable, ignored = Counter(facts["others"]), Counter(facts["rest"])
        left_out = _left_out(folder, folder / facts["first_other"], unreadable) if unreadable else ""
        if not len(self):
            raise DataError(
                f"the folder `{folder}` has no audio files{' that can be read' if unreadable else ''}",
                remedy=left_out or f"give a folder with files that end in {', '.join(AUDIO_SUFFIXES)}",
                notes=(f"other files: {_counted(ignored)}",) if ignored else (),
            )
        if unreadable:
            get_logger().warning(left_out)
        if ignored:
            get_logger().info(f"ignored other files in `{folder}`: {_counted(ignored)}")


def list_audio(folder: str | Path, *, subfolders: bool = True) -> list[Path]:
    """Lists the audio files of a folder and its subfolders, sorted.

    Symbolic links are followed, except links to a parent folder of the link. If two links lead to the same folder, the
    files of this folder are listed twice. Hidden files and folders are ignored.

    The log counts all other files by their extensions, and warns of files that probably contain audio that libsndfile
    can't read.

    Args:
        folder: the folder.
        subfolders: whether to include the files of subfolders.

    Raises:
        DataError: the folder does not exist, is a file, or contains no audio file.
    """
    return scan_audio(folder, subfolders=subfolders)[:]


def scan_audio(folder: str | Path, *, subfolders: bool = True) -> AudioListing:
    """Lists audio files like `list_audio`, but does not create a `Path` for each file.

    Several folders are read at the same time. A list of at least 10,000 files is cached until the modification time of
    one of the folders changes; see `audiozen_core.audio.table_cache`. If a folder can't be read, a warning is logged,
    and the list is not cached, because the next start may find more files.

    Args:
        folder: the folder.
        subfolders: whether to include the files of subfolders.

    Raises:
        DataError: as for `list_audio`.
    """
    folder = Path(folder)
    require_folder(folder)
    what = f"audio files of {os.path.abspath(folder)}, {subfolders=}"  # noqa: PTH100 - a link is another folder
    table = cached_table(what)
    if table is None:
        table, sources, complete = _scan(folder, subfolders=subfolders)
        if complete and len(table.text("file")) >= WORTH_REMEMBERING:
            table = cache_table(what, table, sources)
    listing = AudioListing(folder, table)
    listing.log_left_out()
    return listing


class _Folder(NamedTuple):
    """The content of one folder. All names are relative to the root of the listing."""

    name: str
    stamp: Stamp | None
    files: list[str]
    folders: list[tuple[str, tuple[str, ...]]]
    error: OSError | None


def _scan(folder: Path, *, subfolders: bool) -> tuple[MappedTable, Sources, bool]:
    """Lists a folder level by level, and several folders of a level at the same time.

    Returns the table, its sources, and whether all folders could be read.
    """
    sources, complete = Sources(), True
    names: list[str] = []
    # The folders that are still to be listed, each with the real paths of its parent folders and of itself.
    level: list[tuple[str, tuple[str, ...]]] = [("", (os.path.realpath(folder),))]
    with ThreadPoolExecutor(_THREADS) as pool:
        while level:
            scan = partial(_scan_one, folder, subfolders=subfolders)
            # For a single folder, a thread would cost more time than it saves.
            scanned = list(pool.map(scan, level) if len(level) > 1 else map(scan, level))
            for content in scanned:
                names += content.files
                if content.error is not None:
                    complete = False
                    get_logger().warning(
                        f"`{folder / content.name}` can't be read completely, so some of its files may be left out: "
                        f"{content.error}",
                        remedy="check the permissions of the folder and the drive, or move the folder away",
                    )
                if content.stamp is not None:
                    sources.add(folder / content.name, content.stamp)
            level = [subfolder for content in scanned for subfolder in content.folders]
    files: list[str] = []
    unreadable: list[str] = []  # audio that can't be read
    ignored: Counter[str] = Counter()
    for name in names:
        base = name.rpartition("/")[2]
        lower = base.lower()
        if lower.startswith("."):
            ignored["hidden"] += 1
        elif lower.endswith(AUDIO_SUFFIXES):
            files.append(name)
        elif base == RECORD:
            continue
        elif lower.endswith(_OTHER_SUFFIXES):
            unreadable.append(name)
        else:
            ignored[Path(lower).suffix or "without an extension"] += 1
    kinds = Counter(Path(name).suffix.lower() for name in unreadable)
    facts = {"others": kinds, "rest": ignored, "first_other": min(unreadable, key=_by_parts, default="")}
    table = MappedTable(facts)
    table.add_text("file", sorted(files, key=_by_parts))
    return table, sources, complete


def _scan_one(root: Path, place: tuple[str, tuple[str, ...]], *, subfolders: bool) -> _Folder:
    name, chain = place
    path = root / name
    found = _Folder(name, None, [], [], None)
    prefix = f"{name}/" if name else ""
    # If a folder can't be read, its error is part of the result.
    try:
        found = found._replace(stamp=file_stamp(path))
        with os.scandir(path) as entries:
            for entry in entries:
                try:
                    is_folder = entry.is_dir()
                    # The target may be a folder on a drive that is not mounted.
                    if "." not in entry.name and entry.is_symlink() and not os.path.exists(entry.path):  # noqa: PTH110
                        raise FileNotFoundError(errno.ENOENT, "a link has no target", entry.path)
                except OSError as error:
                    is_folder = False
                    if error.errno != errno.ELOOP:  # a link to itself
                        found = found._replace(error=error)
                if not is_folder:
                    found.files.append(prefix + entry.name)
                elif subfolders and not entry.name.startswith("."):
                    real = os.path.realpath(entry.path) if entry.is_symlink() else str(Path(chain[-1], entry.name))
                    # A link to one of its own parent folders would be followed forever.
                    if real not in chain:
                        found.folders.append((prefix + entry.name, (*chain, real)))
    except OSError as error:
        return found._replace(error=error)
    return found


def _by_parts(name: str) -> str:
    """Returns a sort key that compares names part by part, as `Path` does."""
    return name.replace("/", "\0")


def _left_out(folder: Path, first: Path, unreadable: Counter[str]) -> str:
    return (
        f"left out of `{folder}`, because libsndfile can't read them: {_counted(unreadable)}, such as `{first.name}`; "
        f"convert them: {ffmpeg(first, folder='converted')}"
    )


def _counted(kinds: Counter[str]) -> str:
    shown = [f"{count} {kind}" for kind, count in kinds.most_common(_MOST_KINDS)]
    hidden = sum(kinds.values()) - sum(count for _, count in kinds.most_common(_MOST_KINDS))
    return ", ".join([*shown, *[f"{hidden} others"] * bool(hidden)])


def absolute_path(path: Path) -> Path:
    """Makes a path absolute, and removes each `..` from it. Symbolic links are not replaced by their targets."""
    return Path(os.path.abspath(path))  # noqa: PTH100 - `resolve` would replace links


def require_folder(folder: Path) -> None:
    """Checks that a folder exists.

    Args:
        folder: the folder, in the user's spelling.

    Raises:
        DataError: the path does not exist, or is not a folder.
    """
    if not folder.exists():
        raise DataError(
            f"the folder `{folder}` does not exist", remedy=f"relative paths are resolved from `{Path.cwd()}`"
        )
    if not folder.is_dir():
        raise DataError(f"`{folder}` is not a folder", remedy="give the folder that holds the audio files")
