"""The recordings that a data set mixes, from a manifest or from a folder."""

from __future__ import annotations

import contextlib
import os
import re
from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, overload

import numpy as np

from audiozen_core.audio.listing import scan_audio
from audiozen_core.audio.table_cache import WORTH_REMEMBERING, Sources, cache_table, cached_table, file_stamp
from audiozen_core.errors import DataError
from audiozen_core.storage.mapped_table import MappedTable, TextColumn
from audiozen_plugins.dataset.ids import unique_ids
from audiozen_plugins.dataset.manifest import label_column, read_manifest_rows
from audiozen_plugins.dataset.remarks import Remarks


@dataclass(frozen=True, slots=True)
class Recording:
    """An audio file of speech or noise.

    Attributes:
        path: the file.
        name: the name of the recording in the ID of a sample. It is unique among the recordings of the same role
            (speech or noise). Files are named after the ID, so the name has no `/`.
        voice: the speaker. Recordings with the same voice may be joined.
        kind: the kind of noise, or the language of speech.
    """

    path: Path
    name: str
    voice: str = ""
    kind: str = ""


class Headers(NamedTuple):
    """The content of the headers of all recordings: the number of samples of each, and remarks for the user."""

    frames: array[int]
    sr: int
    remarks: Remarks


class Recordings(Sequence[Recording]):
    """A list of recordings that is stored in a few arrays, so that millions of recordings need little memory.

    The object for a recording is made each time the recording is used.

    Args:
        root: the folder to which the files are relative.
        table: the columns of the list: `file`, `name`, `voice` and `kind` (indices into the columns `voices` and
            `kinds`), and `by_voice` (the indices of the recordings, sorted by voice). If the headers have been read,
            the table also has the column `frames` and the facts `sr` and `remarks`.
        keep: stores the table on disk for the next start; None if the list is too short for this to be useful.
    """

    def __init__(
        self, root: Path, table: MappedTable, keep: Callable[[MappedTable], MappedTable] | None = None
    ) -> None:
        self.root = root
        self.table = table
        self._keep = keep
        self._files, self._names = table.text("file"), table.text("name")
        self._voices, self._kinds = table.text("voices"), table.text("kinds")

    @classmethod
    def from_recordings(
        cls,
        recordings: Iterable[Recording],
        *,
        root: Path | None = None,
        keep: Callable[[MappedTable], MappedTable] | None = None,
    ) -> Recordings:
        """Makes a list of recordings. If there is a root, the files must be relative to it."""
        files, names, voices, kinds = [], [], [], []
        for recording in recordings:
            files.append(str(recording.path))
            names.append(recording.name)
            voices.append(recording.voice)
            kinds.append(recording.kind)
        return cls.from_columns(root or Path(), files, names, voices, kinds, keep=keep)

    @classmethod
    def from_columns(
        cls,
        root: Path,
        files: Sequence[str],
        names: Sequence[str],
        voices: Sequence[str],
        kinds: Sequence[str],
        keep: Callable[[MappedTable], MappedTable] | None = None,
    ) -> Recordings:
        """Makes a list of recordings from columns of the same length."""
        table = MappedTable({})
        table.add_text("file", files)
        table.add_text("name", names)
        for column, values in (("voice", voices), ("kind", kinds)):
            numbers: dict[str, int] = {}
            codes = (numbers.setdefault(value, len(numbers)) for value in values)
            table.arrays[column] = np.fromiter(codes, np.int32, len(values))
            table.add_text(f"{column}s", numbers)
        table.arrays["by_voice"] = np.argsort(table.arrays["voice"], kind="stable")
        return cls(root, table, keep)

    def __reduce__(self) -> tuple[Any, ...]:
        return Recordings, (self.root, self.table)

    def __len__(self) -> int:
        return len(self._files)

    @overload
    def __getitem__(self, index: int) -> Recording: ...
    @overload
    def __getitem__(self, index: slice) -> list[Recording]: ...
    def __getitem__(self, index: int | slice) -> Recording | list[Recording]:
        """Returns a recording, or a list of recordings for a slice."""
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        voice, kind = (int(self.table.arrays[column][index]) for column in ("voice", "kind"))
        return Recording(self.path(index), self._names[index], self._voices[voice], self._kinds[kind])

    def path(self, index: int) -> Path:
        """Returns the file of a recording."""
        return self.root / self._files[index]

    def name(self, index: int) -> str:
        """Returns the name of a recording."""
        return self._names[index]

    @property
    def voices(self) -> TextColumn:
        """The different voices, in the order of their first recordings."""
        return self._voices

    @property
    def voice_numbers(self) -> np.ndarray:
        """The voice of each recording, as an index into `voices`: int32 [recordings]."""
        return self.table.arrays["voice"]

    @property
    def by_voice(self) -> np.ndarray:
        """The indices of the recordings of the first voice, then of the second voice, and so on: int64 [recordings]."""
        return self.table.arrays["by_voice"]

    def headers(self, sr: int) -> Headers | None:
        """Returns the content of the headers, if an earlier start has read them; None if they must be read."""
        if self.table.facts.get("sr") != sr:
            return None
        remarks = Remarks()
        remarks.count_again(self.table.facts["remarks"])
        return Headers(array("q"), sr, remarks)

    @property
    def frames(self) -> np.ndarray:
        """The number of samples of each recording, if the headers have been read: int64 [recordings]."""
        return self.table.arrays["frames"]

    def with_headers(self, headers: Headers) -> Recordings:
        """Returns the recordings with the content of their headers. A long list is stored for the next start."""
        facts = {**self.table.facts, "sr": headers.sr, "remarks": headers.remarks.counted}
        table = MappedTable(facts, {**self.table.arrays, "frames": np.array(headers.frames, np.int64)})
        return Recordings(self.root, table if self._keep is None else self._keep(table))


def from_manifest(manifest: str | Path, *, role: str, split: str | None) -> Recordings:
    """Reads the recordings of one role and one split from a manifest.

    If the manifest is long, they are cached until its modification time changes.

    Args:
        manifest: a CSV file with the columns `file` (relative to the manifest), `role` (`speech` or `noise`), `voice`,
            `kind` and `split`.
        role: `speech` or `noise`.
        split: the split, such as `train`; None for all.

    Raises:
        DataError: the manifest is missing, can't be read, lacks a column or a value, or has no such recording; a voice
            or a kind of noise contains `/`.
    """
    manifest = Path(manifest).expanduser()
    # Links are not resolved: a link to a manifest counts as a different manifest.
    what = f"recordings of {os.path.abspath(manifest)}, {role=}, {split=}"  # noqa: PTH100
    sources = Sources()
    with contextlib.suppress(OSError):  # reading the manifest raises a better error
        sources.add(manifest, file_stamp(manifest))
    keep = partial(cache_table, what, sources=sources) if sources.paths else None
    if (known := cached_table(what)) is not None:
        return Recordings(manifest.parent, known, keep)
    files, voices, kinds, labels = [], [], [], []
    splits: set[str] = set()
    rows = 0
    column = label_column(role)
    for row in read_manifest_rows(manifest):
        rows += 1
        if row["role"] != role:
            continue
        splits.add(row["split"])
        if split in (None, row["split"]):
            files.append(row["file"])
            voices.append(row["voice"])
            kinds.append(row["kind"])
            labels.append("-".join(filter(None, (row[column], Path(row["file"]).stem))))
    if not files:
        if not splits:
            raise DataError(f"`{manifest}` lists no {role}", remedy=f"add rows with `{role}` in the column `role`")
        raise DataError(
            f"`{manifest}` lists no {role} in the split `{split}`",
            remedy=f"choose a split that has {role}: {', '.join(sorted(splits))}",
        )
    keep = keep if rows >= WORTH_REMEMBERING else None
    return Recordings.from_columns(manifest.parent, files, _unique(labels), voices, kinds, keep=keep)


def from_folder(folder: str | Path) -> Recordings:
    """Finds all audio files of a folder. The voice and the kind of a recording are the name of its subfolder.

    If there are many files, the result is cached until the modification time of a folder changes.

    Raises:
        DataError: the folder is missing or has no audio file.
    """
    folder = Path(folder).expanduser()
    listing = scan_audio(folder)
    # Links are not resolved: a link to a folder counts as a different folder.
    what = f"recordings in {os.path.abspath(folder)}"  # noqa: PTH100
    token = listing.table.token
    # The listing is stored with the modification times of its folders. The recordings depend on nothing else.
    keep = partial(cache_table, what, sources=Sources()) if token else None
    known = cached_table(what) if token else None
    if known is not None and known.facts.get("listing") == token:
        return Recordings(folder, known, keep)
    files = list(listing.names)
    relative = [Path(name) for name in files]
    names = _unique(["-".join(path.with_suffix("").parts) for path in relative])
    # With another separator, the joined name could equal the name of another folder, and both voices would be mixed up.
    parents = ["/".join(path.parent.parts) for path in relative]
    found = Recordings.from_columns(folder, files, names, parents, parents, keep=keep)
    found.table.facts["listing"] = token
    return found


def _unique(names: Sequence[str]) -> list[str]:
    """Makes names unique. Also removes `__`, which separates the parts of an ID, so that the IDs stay unique."""
    return unique_ids([re.sub("_{2,}", "_", name).strip("_") for name in names])
