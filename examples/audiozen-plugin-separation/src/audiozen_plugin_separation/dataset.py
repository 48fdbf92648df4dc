"""Mixtures of two speakers, made on the fly."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from audiozen.audio import audio_info, list_audio, read_audio
from audiozen.dataset import keep_readable, pad_collate
from audiozen.errors import DataError
from audiozen.registry import Range
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

_RMS = 0.05  # the RMS of each source before its level is changed: -26 dBFS
_SILENCE = 1e-4  # a segment with a lower RMS (-80 dBFS) is a pause
_MAX_DRAWS = 100  # the number of silent segments in a row that is an error


class TwoSpeakers(Dataset[dict[str, Any]]):
    """Mixes clips of two different speakers. Each subfolder, and each file outside of subfolders, is one speaker.

    Items are drawn with Python's global generator `random`, which AudioZEN seeds for each item, so that items depend
    neither on workers nor on a resume. With `fixed = true`, for validation and test, an item is the same in each run
    with the same `seed`, and the files take turns as the first speaker.

    An item has the keys `id`, `noisy` (the mixture), `source_1` and `source_2` (float32 [time], which add up to the
    mixture) and `sr` (hertz). AudioZEN's data sets call the input of a network `noisy`.

    Args:
        folder: the folder with the clips.
        sr: the sample rate that all files must have, in hertz.
        clip_seconds: the length of an item. Longer files are cut at random, shorter ones are followed by silence. By
            default an item is as long as the shorter of its two files.
        level_range: the lowest and the highest level of the first speaker relative to the second one, in dB.
        items: the number of items in an epoch; by default one for each file.
        fixed: whether an item is always the same.
        seed: the seed of fixed items.

    Raises:
        DataError: the folder is missing, or has fewer than two speakers; a file can't be read; an argument is wrong.
    """

    collate_fn = staticmethod(pad_collate)

    def __init__(
        self,
        folder: str | Path,
        sr: int = 16000,
        clip_seconds: Annotated[float, Range(above=0)] | None = None,
        level_range: Sequence[float] = (-5.0, 5.0),
        items: Annotated[int, Range(least=1)] | None = None,
        fixed: bool = False,
        seed: int = 0,
    ) -> None:
        if len(level_range) != 2 or not level_range[0] <= level_range[1]:
            raise DataError(f"`level_range` is {list(level_range)}", remedy="give the lowest and the highest, in dB")
        self.folder = Path(folder).expanduser()
        self.sr = sr
        self.clip = None if clip_seconds is None else max(1, round(clip_seconds * sr))
        self.level_range = (level_range[0], level_range[1])
        self.fixed = fixed
        self.seed = seed
        frames: dict[Path, int] = {}

        def read_header(path: Path) -> None:
            frames[path] = audio_info(path, sr=sr).frames

        self.paths = keep_readable(list_audio(self.folder), read_header)
        self._lengths = [frames[path] for path in self.paths]
        self._speakers = [self._speaker(path) for path in self.paths]
        if len(set(self._speakers)) < 2:
            raise DataError(
                f"`{self.folder}` has clips of only one speaker",
                remedy="put the clips of each speaker into a subfolder",
            )
        self._num_items = items or len(self.paths)

    def __len__(self) -> int:
        return self._num_items

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        draw = random.Random(f"{self.seed} {index}" if self.fixed else random.getrandbits(64))
        for _ in range(_MAX_DRAWS):
            first = index % len(self.paths) if self.fixed else draw.randrange(len(self.paths))
            second = draw.choice([i for i, name in enumerate(self._speakers) if name != self._speakers[first]])
            length = self.clip or min(self._lengths[first], self._lengths[second])
            waves = [self._segment(chosen, length, draw) for chosen in (first, second)]
            levels = [float(wave.square().mean().sqrt()) for wave in waves]
            if min(levels) > _SILENCE:
                break
        else:
            raise DataError(
                f"{_MAX_DRAWS} random segments in a row were silent; the last two were from `{self.paths[first]}` and "
                f"`{self.paths[second]}`",
                remedy="leave out silent files",
            )
        half = 10 ** (draw.uniform(*self.level_range) / 40)
        one = waves[0] * (_RMS * half / levels[0])
        two = waves[1] * (_RMS / half / levels[1])
        name = f"{index:04d}_{_name(self.paths[first])}_{_name(self.paths[second])}"
        return {"id": name, "noisy": one + two, "source_1": one, "source_2": two, "sr": self.sr}

    def _speaker(self, path: Path) -> str:
        """Returns the subfolder of a file, or the name of a file outside of subfolders."""
        return path.relative_to(self.folder).parts[0]

    def _segment(self, index: int, length: int, draw: random.Random) -> Tensor:
        """Reads a random segment of a file, with zeros after it if the file is shorter."""
        room = max(0, self._lengths[index] - length)
        start = draw.randint(0, room)
        wave = read_audio(self.paths[index], sr=self.sr, start=start, num_frames=min(length, self._lengths[index]))
        return F.pad(wave, (0, length - len(wave)))


def _name(path: Path) -> str:
    """Returns the name of a file without its extension. Bytes that are not UTF-8 are escaped."""
    return os.fsencode(path.stem).decode("utf-8", "backslashreplace")
