"""Files that belong together, such as a noisy and a clean one, used by the data sets of ready-made mixtures."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from audiozen_core.audio.files import AudioFile, open_audio
from audiozen_core.audio.listing import list_audio
from audiozen_core.binding.ranges import Range
from audiozen_core.diagnostics.listed import listed
from audiozen_core.errors import DataError
from audiozen_plugins.dataset.ids import unique_ids
from audiozen_plugins.dataset.remarks import Remarks


@dataclass(frozen=True, slots=True)
class AlignedFiles:
    """Files of the same length that make one item: a noisy and a clean file, or a mixture and its sources.

    Attributes:
        id: the name of the item in results and files.
        files: the files, by the keys that their waves have in a sample. The first one is what a network is given.
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
                files are shorter or `clip` is None, they are read whole.
            remarks: warns if a file has several channels, or if its end may be missing.

        Returns:
            A sample with `id`, the waves under the keys of `files` (float32 [time]), `sr` (hertz) and, if it is known,
            `snr` (dB).

        Raises:
            DataError: as for `check`, or the samples of a file can't be read.
        """
        # Each file is opened once: on a network drive, opening takes longer than reading.
        with self._open(sr) as opened:
            for key, file in opened.items():
                remarks.say_first(self.files[key], file.info)
            frames = next(iter(opened.values())).info.frames
            length = frames if clip is None else min(clip, frames)
            start = random.randrange(frames - length + 1)
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


def match_by_name(folders: Mapping[str, Path]) -> list[AlignedFiles]:
    """Finds the files of several folders and their subfolders that have the same names without the endings.

    Args:
        folders: the folders, by the keys that the waves of their files have in a sample.

    Returns:
        The files in the order of their names.

    Raises:
        DataError: a folder is missing or has no audio file; a name is in some of the folders only, or twice in one.
    """
    found = {key: _by_name(folder) for key, folder in folders.items()}
    everywhere = set.intersection(*(set(files) for files in found.values()))
    if alone := {key: sorted(files.keys() - everywhere) for key, files in found.items() if files.keys() - everywhere}:
        notes = [
            f"{'only ' * (len(folders) == 2)}in `{folders[key]}`: {listed((f'`{name}`' for name in names), most=3)}"
            for key, names in alone.items()
        ]
        every = ", ".join(f"`{folder}`" for folder in folders.values())
        raise DataError(
            f"{sum(map(len, alone.values()))} files in {every} have no partner",
            notes=notes,
            remedy="give the files that belong together the same name (the endings may differ), or move the other "
            "files away",
        )
    names = sorted(everywhere)
    return [
        AlignedFiles(id, {key: files[name] for key, files in found.items()})
        for id, name in zip(unique_ids(names), names, strict=True)
    ]


def _by_name(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in list_audio(folder):
        name = path.relative_to(folder).with_suffix("").as_posix()
        if name in found:
            raise DataError(
                f"`{folder}` has two files with the name `{name}`: `{found[name].name}`, `{path.name}`",
                remedy="keep one of them",
            )
        found[name] = path
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
