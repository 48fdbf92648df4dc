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
from audiozen_core.audio.remembered import WORTH_REMEMBERING, Sources, Stamp, look_at, recall, remember
from audiozen_core.errors import DataError
from audiozen_core.logging import get_logger
from audiozen_core.storage.audio_suffixes import AUDIO_SUFFIXES
from audiozen_core.storage.mapped_table import Table, TextColumn

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

_THREADS = 8  # on a network drive each waits for an answer most of the time

# The log names at most this many endings.
_MOST_KINDS = 12


@dataclass(frozen=True)
class AudioListing(Sequence[Path]):
    """The audio files of a folder, sorted. The paths are made when they are used.

    Attributes:
        folder: the folder.
        table: the column `file`, relative to the folder; and facts about the files that are left out.
    """

    folder: Path
    table: Table

    @property
    def names(self) -> TextColumn:
        """The files, relative to the folder, with `/` between the parts."""
        return self.table.text("file")

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, index: int) -> Path: ...
    @overload
    def __getitem__(self, index: slice) -> list[Path]: ...
    def __getitem__(self, index: int | slice) -> Path | list[Path]:
        """Returns the path of a file, or the paths of some."""
        found = self.names[index]
        return self.folder / found if isinstance(found, str) else [self.folder / name for name in found]

    def say(self) -> None:
        """Says in the log which files are left out.

        Raises:
            DataError: the folder has no audio file.
        """
        facts, folder = self.table.facts, self.folder
        others, rest = Counter(facts["others"]), Counter(facts["rest"])
        left_out = _left_out(folder, folder / facts["first_other"], others) if others else ""
        if not len(self):
            raise DataError(
                f"the folder `{folder}` has no audio files{' that can be read' if others else ''}",
                remedy=left_out or f"give a folder with files that end in {', '.join(AUDIO_SUFFIXES)}",
                notes=(f"other files: {_counted(rest)}",) if rest else (),
            )
        if others:
            get_logger().warning(left_out)
        if rest:
            get_logger().info(f"files of `{folder}` that are not audio by their names: {_counted(rest)}")


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
    return scan_audio(folder, subfolders=subfolders)[:]


def scan_audio(folder: str | Path, *, subfolders: bool = True) -> AudioListing:
    """Lists the audio files as `list_audio` does, without an object for each.

    Several folders are listed at a time. If there are many files, the list is remembered until the time of a change of
    one of the folders is another one; see `audiozen_core.audio.remembered`. If a folder can't be read, the log warns,
    and the list is not remembered: the next start may find more.

    Args:
        folder: the folder.
        subfolders: whether to list the files of its subfolders, too.

    Raises:
        DataError: as for `list_audio`.
    """
    folder = Path(folder)
    require_folder(folder)
    what = f"audio files of {os.path.abspath(folder)}, {subfolders=}"  # noqa: PTH100 - a link is another folder
    table = recall(what)
    if table is None:
        table, sources, complete = _scan(folder, subfolders=subfolders)
        if complete and len(table.text("file")) >= WORTH_REMEMBERING:
            table = remember(what, table, sources)
    listing = AudioListing(folder, table)
    listing.say()
    return listing


class _Folder(NamedTuple):
    """What a folder holds: its names relative to the listed one, and what tells whether it has changed."""

    name: str
    stamp: Stamp | None
    files: list[str]
    folders: list[tuple[str, tuple[str, ...]]]
    error: OSError | None


def _scan(folder: Path, *, subfolders: bool) -> tuple[Table, Sources, bool]:
    """Lists a folder level by level, and several folders of a level at a time. Also returns whether all was read."""
    sources, complete = Sources(), True
    names: list[str] = []
    # Each folder that is still to be listed, and the real paths of those that lead to it, and its own.
    level: list[tuple[str, tuple[str, ...]]] = [("", (os.path.realpath(folder),))]
    with ThreadPoolExecutor(_THREADS) as pool:
        while level:
            scan = partial(_scan_one, folder, subfolders=subfolders)
            # A thread costs more than it saves if it is the only one.
            found = list(pool.map(scan, level) if len(level) > 1 else map(scan, level))
            for one in found:
                names += one.files
                if one.error is not None:
                    complete = False
                    get_logger().warning(
                        f"`{folder / one.name}` can't be read whole, so files of it may be left out: {one.error}",
                        remedy="check its permissions and the drive, or move it away",
                    )
                if one.stamp is not None:
                    sources.add(folder / one.name, one.stamp)
            level = [below for one in found for below in one.folders]
    files: list[str] = []
    others: list[str] = []  # audio that can't be read
    rest: Counter[str] = Counter()
    for name in names:
        base = name.rpartition("/")[2]
        lower = base.lower()
        if lower.startswith("."):
            rest["hidden"] += 1
        elif lower.endswith(AUDIO_SUFFIXES):
            files.append(name)
        elif base == RECORD:
            continue
        elif lower.endswith(_OTHER_SUFFIXES):
            others.append(name)
        else:
            rest[Path(lower).suffix or "without an ending"] += 1
    kinds = Counter(Path(name).suffix.lower() for name in others)
    facts = {"others": kinds, "rest": rest, "first_other": min(others, key=_by_parts, default="")}
    table = Table(facts)
    table.add_text("file", sorted(files, key=_by_parts))
    return table, sources, complete


def _scan_one(root: Path, place: tuple[str, tuple[str, ...]], *, subfolders: bool) -> _Folder:
    name, chain = place
    path = root / name
    found = _Folder(name, None, [], [], None)
    prefix = f"{name}/" if name else ""
    # A folder that may not be listed counts as empty.
    try:
        found = found._replace(stamp=look_at(path))
        with os.scandir(path) as entries:
            for entry in entries:
                try:
                    is_folder = entry.is_dir()
                except OSError as error:
                    is_folder = False
                    if error.errno != errno.ELOOP:  # a link to itself
                        found = found._replace(error=error)
                if not is_folder:
                    found.files.append(prefix + entry.name)
                elif subfolders and not entry.name.startswith("."):
                    real = os.path.realpath(entry.path) if entry.is_symlink() else str(Path(chain[-1], entry.name))
                    # A link to a folder that leads to it would be followed forever.
                    if real not in chain:
                        found.folders.append((prefix + entry.name, (*chain, real)))
    except OSError as error:
        return found._replace(error=error)
    return found


def _by_parts(name: str) -> str:
    """Returns the key that sorts names as paths: part by part."""
    return name.replace("/", "\0")


def _left_out(folder: Path, first: Path, others: Counter[str]) -> str:
    return (
        f"left out of `{folder}`, because libsndfile can't read them: {_counted(others)}, such as `{first.name}`; "
        f"convert them: {ffmpeg(first, folder='converted')}"
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
