"""Pairs of files from two folders: noisy files, and clean files with the same names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from audiozen_core.logging import get_logger
from audiozen_plugins.dataset.collate import collate_read
from audiozen_plugins.dataset.pairs import ClipSeconds, clip_length, match_by_name
from audiozen_plugins.dataset.remarks import Remarks


class NoisyCleanFolders(Dataset[dict[str, Any]]):
    """Pairs of files from two folders and their subfolders, matched by the names of the files without endings.

    For instance, `noisy/a/one.wav` and `clean/a/one.flac` are a pair. Each name must be in both folders, and the files
    of a pair must have the same length.

    Items are in the order of the names. An item has the keys `id` (the name, such as `a/one`), `noisy` and `clean`
    (float32 [time]; the average of the channels) and `sr` (hertz).

    Args:
        noisy_dir: the folder with the noisy files.
        clean_dir: the folder with the clean files.
        sr: the sample rate that all files must have, in hertz.
        clip_seconds: the length of the random segment that is cut from a pair each time it is read, for training. A
            shorter pair is read as a whole. By default, every pair is read as a whole.
        check: whether to read the header of each file at the start, so that unsuitable files are found before training
            starts. If there are 10,000 files or more, the result is cached until a file is added or removed.

    Raises:
        DataError: a folder is missing or has no audio file; a name is in only one folder, or twice in one; a file can't
            be read or has another sample rate; the files of a pair differ in length.
    """

    collate_fn = staticmethod(collate_read)

    def __init__(
        self,
        noisy_dir: str | Path,
        clean_dir: str | Path,
        sr: int = 16000,
        clip_seconds: ClipSeconds | None = None,
        check: bool = True,
    ) -> None:
        noisy_dir, clean_dir = Path(noisy_dir).expanduser(), Path(clean_dir).expanduser()
        self.sr = sr
        self.clip = clip_length(clip_seconds, sr)
        if noisy_dir.resolve() == clean_dir.resolve():
            # This is not an error, because a network may be trained to return its input.
            get_logger().warning(
                "the noisy and the clean folder are the same, so the pairs have no noise to remove and can't be rated",
                folder=str(noisy_dir),
            )
        self.pairs = match_by_name({"noisy": noisy_dir, "clean": clean_dir})
        self._remarks = Remarks()
        if check:
            self.pairs = self.pairs.checked(sr, self._remarks)
            self._remarks.warn()

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Reads a pair: `id`, `noisy` and `clean` [time], and `sr`."""
        return self.pairs[index].read(self.sr, self.clip, self._remarks)
