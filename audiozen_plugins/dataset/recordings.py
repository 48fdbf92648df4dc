"""The recordings that a data set mixes: a manifest or a folder lists them, and a pool reads and caches them."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from audiozen_core.audio.files import audio_info, read_audio
from audiozen_core.audio.listing import list_audio
from audiozen_core.data.unreadable_files import keep_readable
from audiozen_core.errors import DataError
from audiozen_plugins.dataset.ids import unique_ids
from audiozen_plugins.dataset.mixing import Wave
from audiozen_plugins.dataset.remarks import Remarks

COLUMNS = ("file", "role", "voice", "kind", "split")
"""The columns that a manifest must have. Other columns are ignored."""


@dataclass(frozen=True, slots=True)
class Recording:
    """An audio file of speech or noise.

    Attributes:
        path: the file.
        name: the recording's part of the ID of a sample, unique among those of its role. Files are named after the ID,
            so the name has no `/`.
        voice: the speaker. Recordings with the same voice may be joined.
        kind: the kind of noise, or the language of speech.
    """

    path: Path
    name: str
    voice: str = ""
    kind: str = ""


def from_manifest(manifest: str | Path, *, role: str, split: str | None) -> list[Recording]:
    """Reads the recordings of one role and one split from a manifest.

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
    rows = list(_rows(manifest))
    chosen = [row for row in rows if row["role"] == role and split in (None, row["split"])]
    if not chosen:
        splits = sorted({row["split"] for row in rows if row["role"] == role})
        if not splits:
            raise DataError(f"`{manifest}` lists no {role}", remedy=f"add rows with `{role}` in the column `role`")
        raise DataError(
            f"`{manifest}` lists no {role} in the split `{split}`",
            remedy=f"choose a split that has {role}: {', '.join(splits)}",
        )
    names = ["-".join(filter(None, (row[_label_column(row)], Path(row["file"]).stem))) for row in chosen]
    return [
        Recording(manifest.parent / row["file"], name, row["voice"], row["kind"])
        for row, name in zip(chosen, _unique(names), strict=True)
    ]


def from_folder(folder: str | Path) -> list[Recording]:
    """Finds all audio files of a folder. The voice and the kind of a recording are the name of its subfolder.

    Raises:
        DataError: the folder is missing or has no audio file.
    """
    folder = Path(folder).expanduser()
    paths = list_audio(folder)
    relative = [path.relative_to(folder) for path in paths]
    names = _unique(["-".join(path.with_suffix("").parts) for path in relative])
    # A name joined by another character could be that of another folder, whose voices must not be joined.
    parents = ["/".join(path.parent.parts) for path in relative]
    return [Recording(*row) for row in zip(paths, names, parents, parents, strict=True)]


def _unique(names: Sequence[str]) -> list[str]:
    """Makes names unique, and free of what separates the parts of an ID, so that IDs are unique, too."""
    return unique_ids([re.sub("_{2,}", "_", name).strip("_") for name in names])


class Pool:
    """The waves of recordings. They are cached in memory if they fit, without loss: as 16-bit or as float32 samples.

    Args:
        recordings: at least one.
        sr: the sample rate that all files must have, in hertz.
        cache_mb: the largest size of the cache in megabytes. If the recordings need more, nothing is cached, and each
            read opens the file.

    Raises:
        DataError: a file can't be read or has another sample rate; a file is silent. Without the cache, only the
            headers are read here, because reading all samples would take as long as an epoch. A silent file is then
            found when an item is drawn from it.
    """

    def __init__(self, recordings: Sequence[Recording], *, sr: int, cache_mb: float) -> None:
        self.sr = sr
        self.lengths: list[int] = []
        self._remarks = Remarks()
        self.recordings = keep_readable(recordings, self._measure)
        self._remarks.say()
        # All samples are in one array, which forked workers share. With one object per recording, each use of an object
        # would change its reference count, and copy-on-write would soon give each worker its own copy of the pages
        # around the objects.
        self._bytes: np.ndarray | None = None
        self._starts = self._is_float = np.empty(0, np.int64)
        if sum(self.lengths) * 2 <= cache_mb * 1e6:
            self._load_cache(int(cache_mb * 1e6))

    def _measure(self, recording: Recording) -> None:
        info = audio_info(recording.path, sr=self.sr)
        self._remarks.count(recording.path, info)
        self.lengths.append(info.frames)

    def _load_cache(self, largest: int) -> None:
        """Reads all samples, unless they need more than the largest number of bytes. Drops what can't be read."""
        # The pages of an empty array take no memory until something is written to them.
        content = np.empty(min(largest, sum(self.lengths) * 4), np.uint8)
        lengths: list[int] = []
        starts: list[int] = []
        is_float: list[bool] = []
        used, full = 0, False

        def load(measured: tuple[Recording, int]) -> None:
            nonlocal used, full
            if full:
                return
            samples = _compact(_read(measured[0], self.sr))
            end = used + samples.nbytes
            if end > len(content):
                full = True
                return
            content[used:end] = samples.view(np.uint8)
            lengths.append(len(samples))
            starts.append(used)
            is_float.append(samples.dtype == np.float32)
            used = end + -end % 4

        kept = keep_readable(list(zip(self.recordings, self.lengths, strict=True)), load)
        self.recordings = [recording for recording, _ in kept]
        if full:
            self.lengths = [length for _, length in kept]
            return
        self.lengths = lengths
        self._starts, self._is_float = np.array(starts), np.array(is_float)
        self._bytes = content[:used]

    def __len__(self) -> int:
        return len(self.recordings)

    @property
    def cached(self) -> bool:
        """Whether the waves are in memory."""
        return self._bytes is not None

    def read(self, index: int, start: int = 0, length: int | None = None) -> Wave:
        """Reads a segment of one recording.

        Args:
            index: the recording.
            start: the first sample.
            length: the number of samples; None reads to the end.

        Returns:
            The wave, float32 [time].

        Raises:
            DataError: the file can't be read.
        """
        length = self.lengths[index] - start if length is None else length
        if self._bytes is None:
            return read_audio(self.recordings[index].path, sr=self.sr, start=start, num_frames=length).numpy()
        width = 4 if self._is_float[index] else 2
        begin = int(self._starts[index]) + start * width
        samples = self._bytes[begin : begin + length * width]
        if self._is_float[index]:
            return samples.view(np.float32).copy()  # the caller may change it
        wave = samples.view(np.int16).astype(np.float32)
        wave *= np.float32(1 / 32768)
        return wave


def _rows(manifest: Path) -> Iterator[dict[str, str]]:
    try:
        text = manifest.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise DataError(
            f"the manifest `{manifest}` does not exist", remedy=f"relative paths are resolved from `{Path.cwd()}`"
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(f"the manifest `{manifest}` is not in UTF-8: {error}", remedy="save it in UTF-8") from error
    except OSError as error:
        raise DataError(
            f"the manifest `{manifest}` can't be read: {error.strerror}",
            remedy="check that it is a file and that you have permission to read it",
        ) from error
    reader = csv.DictReader(io.StringIO(text, newline=""))
    missing = [column for column in COLUMNS if column not in (reader.fieldnames or ())]
    if missing:
        raise DataError(
            f"the manifest `{manifest}` has no column {', '.join(f'`{column}`' for column in missing)}",
            remedy=f"name at least these columns in its first line: {','.join(COLUMNS)}",
        )
    for row in reader:
        if any(row[column] is None for column in COLUMNS):
            raise DataError(
                f"line {reader.line_num} of `{manifest}` has too few values", remedy="add a value for each column"
            )
        column = _label_column(row)
        if "/" in row[column]:
            raise DataError(
                f"line {reader.line_num} of `{manifest}`: the {column} `{row[column]}` contains `/`, but files are "
                "named after it",
                remedy="use another character, such as `-`",
            )
        yield row


def _label_column(row: dict[str, str]) -> str:
    """Returns the column whose value becomes part of the recording's name."""
    return "voice" if row["role"] == "speech" else "kind"


def _read(recording: Recording, sr: int) -> np.ndarray:
    wave = read_audio(recording.path, sr=sr).numpy()
    if not wave.any():
        raise DataError(f"`{recording.path}` is silent", remedy="leave the file out")
    return wave


def _compact(wave: np.ndarray) -> np.ndarray:
    """Returns the wave as 16-bit samples if they hold it exactly, as those of a mono 16-bit file do."""
    scaled = wave * np.float32(32768)
    fits = scaled.min() >= -32768 and scaled.max() <= 32767 and np.array_equal(scaled, np.rint(scaled))
    return scaled.astype(np.int16) if fits else wave
