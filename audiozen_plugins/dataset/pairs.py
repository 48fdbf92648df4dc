"""Noisy files with their clean partners: what the data sets of ready mixtures share."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audiozen_core.audio.files import audio_info, read_audio
from audiozen_core.errors import DataError


@dataclass(frozen=True, slots=True)
class Pair:
    """A noisy file and the clean one that it was made from.

    Attributes:
        id: names the pair in results and files.
        noisy: the noisy file.
        clean: the clean file, of the same length.
        snr: the nominal SNR in dB, where it is known.
    """

    id: str
    noisy: Path
    clean: Path
    snr: float | None = None

    def frames(self, sr: int) -> int:
        """The length in samples, from the headers.

        Raises:
            DataError: a file cannot be used, is not of the rate `sr`, or the two differ in length.
        """
        noisy, clean = audio_info(self.noisy), audio_info(self.clean)
        for path, info in ((self.noisy, noisy), (self.clean, clean)):
            if info.sr != sr:
                read_audio(path, sr=sr, num_frames=0)  # raises what is to be said about it
        if noisy.frames != clean.frames:
            raise DataError(
                f"`{self.noisy}` has {noisy.frames} samples, its clean partner `{self.clean}` has {clean.frames}",
                remedy="cut both to the same stretch, so that they are aligned to the sample",
            )
        return noisy.frames

    def read(self, sr: int, clip: int | None) -> dict[str, Any]:
        """A sample: all of the pair, or a stretch of `clip` samples drawn from the global random state.

        A pair that is shorter than `clip` is given whole.

        Raises:
            DataError: as for `frames`.
        """
        frames = self.frames(sr)
        length = frames if clip is None else min(clip, frames)
        start = random.randrange(frames - length + 1)
        sample: dict[str, Any] = {
            "id": self.id,
            "noisy": read_audio(self.noisy, sr=sr, start=start, num_frames=length),
            "clean": read_audio(self.clean, sr=sr, start=start, num_frames=length),
            "sr": sr,
        }
        return sample if self.snr is None else {**sample, "snr": self.snr}


def clip_length(clip_seconds: float | None, sr: int) -> int | None:
    """The argument `clip_seconds` of a data set in samples; None stands for whole files.

    Raises:
        DataError: it is not above 0.
    """
    if clip_seconds is None:
        return None
    if not (math.isfinite(clip_seconds) and clip_seconds * sr >= 1):
        raise DataError(f"`clip_seconds` is {clip_seconds}", remedy="give a length above 0 seconds, or leave it out")
    return int(clip_seconds * sr)


def some(names: list[str], at_most: int = 3) -> str:
    """The first few of some names, for the text of an error."""
    rest = len(names) - at_most
    return ", ".join(f"`{name}`" for name in names[:at_most]) + (f" and {rest} more" if rest > 0 else "")
