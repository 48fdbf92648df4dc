"""Pairs of a noisy and a clean file, used by the data sets of ready-made mixtures."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from audiozen_core.audio.files import AudioFile, open_audio
from audiozen_core.binding.ranges import Range
from audiozen_core.errors import DataError
from audiozen_plugins.dataset.remarks import Remarks


@dataclass(frozen=True, slots=True)
class Pair:
    """A noisy file and the clean file that it was made from.

    Attributes:
        id: the name of the pair in results and files.
        noisy: the noisy file.
        clean: the clean file, of the same length.
        snr: the nominal SNR in dB, or None if it is not known.
    """

    id: str
    noisy: Path
    clean: Path
    snr: float | None = None

    def check(self, sr: int, remarks: Remarks) -> None:
        """Reads the headers of both files and compares them.

        Args:
            sr: the sample rate that both files must have, in hertz.
            remarks: counts the files that have several channels, or whose end may be missing.

        Raises:
            DataError: a file can't be read, has another sample rate, or the files differ in length.
        """
        with self._open(sr) as (noisy, clean):
            remarks.count(self.noisy, noisy.info)
            remarks.count(self.clean, clean.info)

    def read(self, sr: int, clip: int | None, remarks: Remarks) -> dict[str, Any]:
        """Reads the whole pair, or a random segment of it.

        Args:
            sr: the sample rate that both files must have, in hertz.
            clip: the length of the segment in samples; its start is drawn from the global generator `random`. If the
                pair is shorter or `clip` is None, the whole pair is read.
            remarks: warns if a file has several channels, or if its end may be missing.

        Returns:
            A sample with `id`, `noisy` and `clean` (float32 [time]), `sr` (hertz) and, if it is known, `snr` (dB).

        Raises:
            DataError: as for `check`, or the samples of a file can't be read.
        """
        # Each file is opened once: on a network drive, opening takes longer than reading.
        with self._open(sr) as (noisy, clean):
            remarks.say_first(self.noisy, noisy.info)
            remarks.say_first(self.clean, clean.info)
            frames = noisy.info.frames
            length = frames if clip is None else min(clip, frames)
            start = random.randrange(frames - length + 1)
            sample: dict[str, Any] = {
                "id": self.id,
                "noisy": noisy.read(start, length),
                "clean": clean.read(start, length),
                "sr": sr,
            }
        return sample if self.snr is None else {**sample, "snr": self.snr}

    @contextmanager
    def _open(self, sr: int) -> Iterator[tuple[AudioFile, AudioFile]]:
        with open_audio(self.noisy, sr=sr) as noisy, open_audio(self.clean, sr=sr) as clean:
            if noisy.info.frames != clean.info.frames:
                raise DataError(
                    f"`{self.noisy}` has {noisy.info.frames} samples, but its clean partner `{self.clean}` has "
                    f"{clean.info.frames}",
                    remedy="cut both files to the same segment, with their samples aligned",
                )
            yield noisy, clean


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
