"""Files that belong together, such as a noisy and a clean file. The data sets of ready-made mixtures use them."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePath
from typing import Annotated, Any, overload

import numpy as np

from audiozen_core.audio.files import AudioFile, open_audio
from audiozen_core.audio.listing import scan_audio
from audiozen_core.audio.table_cache import Sources, cache_table, cached_table
from audiozen_core.binding.ranges import Range
from audiozen_core.data.unreadable_files import keep_readable
from audiozen_core.diagnostics.listed import listed, plural
from audiozen_core.errors import DataError
from audiozen_core.storage.mapped_table import MappedTable
from audiozen_plugins.dataset.ids import ids_of_files, unique_ids
from audiozen_plugins.dataset.remarks import Remarks


@dataclass(frozen=True, slots=True)
class AlignedFiles:
    """Files of the same length that make one item: a noisy and a clean file, or a mixture and its sources.

    Attributes:
        id: the name of the item in results and files.
        files: the files, by the keys that their waves have in a sample. The first file is the input of a network.
        snr: the nominal SNR in dB, or None if it is not known.
    """

    id: str
    files: Mapping[str, Path]
    snr: float | None = None

    def check(self, sr: int, remarks: Remarks) -> None:
        """Reads the headers of all files and compares them.

        Args:
            sr: the sample rate that all files must have, in hertz.
            remarks: counts the files that have several channels, or whose end may be missing.

        Raises:
            DataError: a file can't be read, has another sample rate, or the files differ in length.
        """
        with self._open(sr) as opened:
            for key, file in opened.items():
                remarks.count(self.files[key], file.info)

    def read(self, sr: int, clip: int | None, remarks: Remarks) -> dict[str, Any]:
        """Reads the whole files, or the same random segment of all of them.

        Args:
            sr: the sample rate that all files must have, in hertz.
            clip: the length of the segment in samples; its start is drawn from the global generator `random`. If the
                files are shorter or `clip` is None, they are read as a whole.
            remarks: warns if a file has several channels, or if its end may be missing.

        Returns:
            A sample with `id`, the waves under the keys of `files` (float32 [time]), `sr` (hertz) and, if the SNR is
            known, `snr` (dB).

        Raises:
            DataError: as for `check`, or the samples of a file can't be read.
        """
        # Each file is opened only once, because opening takes longer than reading on a network drive.
        with self._open(sr) as opened:
            for key, file in opened.items():
                remarks.warn_of_first(self.files[key], file.info)
            frames = next(iter(opened.values())).info.frames
            length = frames if clip is None else min(clip, frames)
            start = random.randrange(frames - length + 1) if length < frames else 0
            waves = {key: file.read(start, length) for key, file in opened.items()}
        sample: dict[str, Any] = {"id": self.id, **waves, "sr": sr}
        return sample if self.snr is None else {**sample, "snr": self.snr}

    @contextmanager
    def _open(self, sr: int) -> Iterator[dict[str, AudioFile]]:
        with ExitStack() as stack:
            opened = {key: stack.enter_context(open_audio(path, sr=sr)) for key, path in self.files.items()}
            (first, *_), frames = self.files.values(), [file.info.frames for file in opened.values()]
            for (key, path), count in zip(self.files.items(), frames, strict=True):
                if count != frames[0]:
                    raise DataError(
                        f"`{first}` has {frames[0]} samples, but its {key} partner `{path}` has {count}",
                        remedy="cut the files to the same segment, with their samples aligned",
                    )
            yield opened


class AlignedList(Sequence[AlignedFiles]):
    """A list of items that is stored in a few arrays, so that millions of items need little memory.

    The object for an item is made each time the item is used.

    Args:
        folders: the folders of the files, by the keys that their waves have in a sample.
        table: the columns of the list: `id`, a column `file.KEY` with paths relative to the folder for each key, and
            `snr` if it is known. If the headers have been checked, the table also has the facts `sr` and `remarks`.
        keep: stores the table on disk for the next start; None if the list is too short for this to be useful.
    """

    def __init__(
        self, folders: Mapping[str, Path], table: MappedTable, keep: Callable[[MappedTable], MappedTable] | None = None
    ) -> None:
        self.folders = dict(folders)
        self.table = table
        self._keep = keep
        self._ids = table.text("id")
        self._files = {key: table.text(f"file.{key}") for key in folders}

    @classmethod
    def from_columns(
        cls,
        folders: Mapping[str, Path],
        ids: Sequence[str],
        files: Mapping[str, Sequence[str]],
        snrs: Sequence[float] | np.ndarray | None = None,
    ) -> AlignedList:
        """Makes the columns from lists of the same length."""
        table = MappedTable({})
        table.add_text("id", ids)
        for key in folders:
            table.add_text(f"file.{key}", files[key])
        if snrs is not None:
            table.arrays["snr"] = np.array(snrs, np.float64)
        return cls(folders, table)

    def __reduce__(self) -> tuple[Any, ...]:
        return AlignedList, (self.folders, self.table)

    def __len__(self) -> int:
        return len(self._ids)

    @overload
    def __getitem__(self, index: int) -> AlignedFiles: ...
    @overload
    def __getitem__(self, index: slice) -> list[AlignedFiles]: ...
    def __getitem__(self, index: int | slice) -> AlignedFiles | list[AlignedFiles]:
        """Returns an item, or a list of items for a slice."""
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        files = {key: self.folders[key] / column[index] for key, column in self._files.items()}
        snrs = self.table.arrays.get("snr")
        return AlignedFiles(self._ids[index], files, None if snrs is None else float(snrs[index]))

    def checked(self, sr: int, remarks: Remarks) -> AlignedList:
        """Checks the headers of all files, unless the stored table says that an earlier start has checked them.

        Returns:
            The items that can be read.

        Raises:
            DataError: as for `AlignedFiles.check`.
        """
        if self.table.facts.get("sr") == sr:
            remarks.count_again(self.table.facts["remarks"])
            return self
        kept = keep_readable(range(len(self)), lambda index: self[index].check(sr, remarks))
        if len(kept) < len(self):  # not stored, so that the next start finds the skipped files and warns again
            some = [self[index] for index in kept]
            files = {key: [self._files[key][index] for index in kept] for key in self.folders}
            snrs = self.table.arrays.get("snr")
            return AlignedList.from_columns(
                self.folders, [file.id for file in some], files, None if snrs is None else snrs[kept]
            )
        table = MappedTable({**self.table.facts, "sr": sr, "remarks": remarks.counted}, self.table.arrays)
        return AlignedList(self.folders, table if self._keep is None else self._keep(table))


def match_by_name(folders: Mapping[str, Path]) -> AlignedList:
    """Finds the files of several folders and their subfolders that have the same names without the endings.

    If there are many files, the result is cached until the modification time of a folder changes.

    Args:
        folders: the folders, by the keys that the waves of their files have in a sample.

    Returns:
        The files in the order of their names.

    Raises:
        DataError: a folder is missing or has no audio file; a name is not in all folders, or is twice in one folder.
    """
    return _from_folders(folders, "aligned files", _match)


def list_folder(folder: Path, key: str) -> AlignedList:
    """Finds all audio files of a folder and its subfolders. Each item is one file.

    If there are many files, the result is cached until the modification time of a folder changes.

    Args:
        folder: the folder.
        key: the key that the wave of a file has in a sample.

    Raises:
        DataError: the folder is missing or has no audio file.
    """

    def items(folders: Mapping[str, Path], names: Mapping[str, Sequence[str]]) -> AlignedList:
        return AlignedList.from_columns(folders, ids_of_files([PurePath(name) for name in names[key]]), names)

    return _from_folders({key: folder}, "single files", items)


def _from_folders(
    folders: Mapping[str, Path],
    kind: str,
    items: Callable[[Mapping[str, Path], Mapping[str, Sequence[str]]], AlignedList],
) -> AlignedList:
    """Lists folders, and returns the items that an earlier start has stored. If there are none, `items` makes them."""
    listings = {key: scan_audio(folder) for key, folder in folders.items()}
    tokens = [listing.table.token for listing in listings.values()]
    what = f"{kind} of { {key: str(folder.absolute()) for key, folder in folders.items()} }"
    known = cached_table(what) if all(tokens) else None
    # The listings are stored with the modification times of their folders. The items depend on nothing else.
    keep = partial(cache_table, what, sources=Sources()) if all(tokens) else None
    if known is not None and known.facts.get("listings") == tokens:
        return AlignedList(folders, known, keep)
    table = items(folders, {key: listing.names for key, listing in listings.items()}).table
    table.facts["listings"] = tokens
    return AlignedList(folders, table if keep is None else keep(table), keep)


def _match(folders: Mapping[str, Path], names_of: Mapping[str, Sequence[str]]) -> AlignedList:
    found = {key: _by_name(folders[key], names) for key, names in names_of.items()}
    everywhere = set.intersection(*(set(files) for files in found.values()))
    if alone := {key: sorted(files.keys() - everywhere) for key, files in found.items() if files.keys() - everywhere}:
        notes = [
            f"{'only ' * (len(folders) == 2)}in `{folders[key]}`: {listed((f'`{name}`' for name in names), most=3)}"
            for key, names in alone.items()
        ]
        every = ", ".join(f"`{folder}`" for folder in folders.values())
        raise DataError(
            f"{plural(sum(map(len, alone.values())), 'file')} without a partner in {every}",
            notes=notes,
            remedy="give the files that belong together the same name (the endings may differ), or move the other "
            "files away",
        )
    names = sorted(everywhere)
    return AlignedList.from_columns(
        folders, unique_ids(names), {key: [files[name] for name in names] for key, files in found.items()}
    )


def _by_name(folder: Path, files: Sequence[str]) -> dict[str, str]:
    """Returns the files by their names without the endings."""
    found: dict[str, str] = {}
    for file in files:
        name = file.rpartition(".")[0]
        if name in found:
            raise DataError(
                f"`{folder}` has two files with the name `{name}`: `{PurePath(found[name]).name}`, "
                f"`{PurePath(file).name}`",
                remedy="keep one of them",
            )
        found[name] = file
    return found


ClipSeconds = Annotated[float, Range(above=0)]
"""The length of a clip in seconds."""


def clip_length(clip_seconds: ClipSeconds | None, sr: int) -> int | None:
    """Converts the argument `clip_seconds` of a data set to samples. None means whole files.

    Raises:
        DataError: the length is not above 0, or is shorter than a sample.
    """
    if clip_seconds is None:
        return None
    if not (math.isfinite(clip_seconds) and clip_seconds * sr >= 1):
        raise DataError(f"`clip_seconds` is {clip_seconds}", remedy="give a length above 0 seconds, or leave it out")
    return int(clip_seconds * sr)
