"""The recordings that a data set draws from: listed in a manifest or found in a folder, held in memory if they fit."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from audiozen_core.audio.files import audio_info, list_audio, read_audio
from audiozen_core.data.unreadable_files import keep_readable
from audiozen_core.errors import DataError
from audiozen_plugins.dataset.mixing import Wave

COLUMNS = ("file", "role", "voice", "kind", "split")
"""What a manifest must have; further columns are left alone."""


@dataclass(frozen=True, slots=True)
class Recording:
    """An audio file and who or what is heard in it.

    Attributes:
        path: the file.
        name: what it is called in the id of a sample; fit to be a part of a file name.
        voice: who speaks, the same text for the same voice; recordings of one voice may be joined.
        kind: the kind of a noise, or the language of speech.
    """

    path: Path
    name: str
    voice: str = ""
    kind: str = ""


def from_manifest(manifest: str | Path, *, role: str, split: str | None) -> list[Recording]:
    """The recordings of one role and one split of a manifest.

    Args:
        manifest: a CSV file with the columns `file` (relative to the manifest), `role` (`speech` or `noise`), `voice`,
            `kind` and `split`.
        role: `speech` or `noise`.
        split: such as `train`; None takes all.

    Raises:
        DataError: the manifest is missing, is not such a table, or has no such recording.
    """
    manifest = Path(manifest).expanduser()
    rows = list(_rows(manifest))
    chosen = [row for row in rows if row["role"] == role and split in (None, row["split"])]
    if not chosen:
        splits = ", ".join(sorted({row["split"] for row in rows if row["role"] == role})) or "none"
        raise DataError(
            f"`{manifest}` lists no {role} of the split `{split}`", remedy=f"the splits with {role} are: {splits}"
        )
    return [
        Recording(
            manifest.parent / row["file"], "-".join(filter(None, (_label(row), _stem(row)))), row["voice"], row["kind"]
        )
        for row in chosen
    ]


def from_folder(folder: str | Path) -> list[Recording]:
    """All audio files of a folder; the folder that a file lies in, if it is another one, counts as its voice and kind.

    Raises:
        DataError: the folder is missing or holds no audio file.
    """
    folder = Path(folder).expanduser()
    found = []
    for path in list_audio(folder):
        relative = path.relative_to(folder)
        parent = "-".join(relative.parent.parts)
        found.append(Recording(path, "-".join(relative.with_suffix("").parts), parent, parent))
    return found


class Pool:
    """The waves of recordings, all of one rate; held in memory as 16-bit samples where they fit.

    Args:
        recordings: at least one.
        sr: the sample rate which all must have, in hertz.
        cache_mb: how many megabytes they may take; where they need more, each read goes to the file.

    Raises:
        DataError: a file that cannot be used, or one that is silent throughout (if it is held in memory).
    """

    def __init__(self, recordings: Sequence[Recording], *, sr: int, cache_mb: float) -> None:
        self.sr = sr
        self.lengths: list[int] = []
        self.recordings = keep_readable(recordings, self._measure)
        self._samples: np.ndarray | None = None
        if sum(self.lengths) * 2 <= cache_mb * 1e6:
            self._samples = self._held_in_memory()
        self._starts = np.concatenate([[0], np.cumsum(self.lengths)]).astype(np.int64)
        if not self.recordings:
            raise DataError(f"none of the {len(recordings)} recordings can be used", remedy="make them anew")

    def _measure(self, recording: Recording) -> None:
        self.lengths.append(audio_info(recording.path, sr=self.sr).frames)

    def _held_in_memory(self) -> np.ndarray:
        """All samples in one array: forked workers share it, and no reference count is ever written into its pages."""
        samples = np.empty(sum(self.lengths), np.int16)
        free, self.lengths = samples, []

        def load(recording: Recording) -> None:
            nonlocal free
            wave = _to_int16(recording, self.sr)
            if len(wave) > len(free):
                raise DataError(f"`{recording.path}` has more samples than its header says", remedy="make it anew")
            free[: len(wave)] = wave
            free = free[len(wave) :]
            self.lengths.append(len(wave))

        self.recordings = keep_readable(self.recordings, load)
        return samples

    def __len__(self) -> int:
        return len(self.recordings)

    @property
    def cached(self) -> bool:
        """Whether the waves are held in memory."""
        return self._samples is not None

    def read(self, index: int, start: int = 0, length: int | None = None) -> Wave:
        """A stretch of the wave of one recording, float32 [time]."""
        length = self.lengths[index] - start if length is None else length
        if self._samples is None:
            return read_audio(self.recordings[index].path, sr=self.sr, start=start, num_frames=length).numpy()
        begin = int(self._starts[index]) + start
        return self._samples[begin : begin + length] * np.float32(1 / 32768)


def _rows(manifest: Path) -> Iterator[dict[str, str]]:
    try:
        text = manifest.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise DataError(
            f"there is no manifest `{manifest}`", remedy=f"relative paths start at `{Path.cwd()}`"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"the manifest `{manifest}` cannot be read: {error}", remedy="give a CSV file in UTF-8"
        ) from error
    reader = csv.DictReader(io.StringIO(text, newline=""))
    missing = [column for column in COLUMNS if column not in (reader.fieldnames or ())]
    if missing:
        raise DataError(
            f"the manifest `{manifest}` has no column {', '.join(f'`{column}`' for column in missing)}",
            remedy=f"its first line must name at least: {','.join(COLUMNS)}",
        )
    for row in reader:
        if any(row[column] is None for column in COLUMNS):
            raise DataError(
                f"line {reader.line_num} of `{manifest}` is too short", remedy="give a value for each column"
            )
        yield row


def _stem(row: dict[str, str]) -> str:
    return Path(row["file"]).stem


def _label(row: dict[str, str]) -> str:
    return row["voice"] if row["role"] == "speech" else row["kind"]


def _to_int16(recording: Recording, sr: int) -> np.ndarray:
    wave = read_audio(recording.path, sr=sr).numpy()
    if not wave.any():
        raise DataError(f"`{recording.path}` is silent throughout", remedy="leave it out")
    return np.round(wave * 32768).clip(-32768, 32767).astype(np.int16)
