"""Ready-made mixtures and their sources, in the folder layout of WSJ0-2mix and LibriMix."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from audiozen_core.audio.listing import require_folder
from audiozen_core.errors import DataError
from audiozen_plugins.dataset.collate import collate_read
from audiozen_plugins.dataset.pairs import ClipSeconds, clip_length, match_by_name
from audiozen_plugins.dataset.remarks import Remarks
from audiozen_plugins.dataset.speaker_mix import NumSpeakers


class MixtureFolders(Dataset[dict[str, Any]]):
    """Mixtures and sources from the folders `mix`, `s1`, `s2`, …, matched by the names of the files without endings.

    This is the layout of WSJ0-2mix (Hershey et al., "Deep Clustering", ICASSP 2016) and LibriMix (Cosentino et al.,
    2020). Each name must be in all folders, and files of the same name must have the same length.

    Items are in the order of the names. An item has the keys `id` (the name), `noisy` (the mixture), `source_1`,
    `source_2`, … (float32 [time]; the average of the channels) and `sr` (hertz).

    Args:
        folder: the folder that contains the folders of the mixtures and the sources, such as `wav8k/min/tr`.
        mixture: the name of the folder with the mixtures, such as `mix_both` for the noisy mixtures of LibriMix.
        num_speakers: the number of speakers in a mixture. Their folders are `s1`, `s2`, ….
        sr: the sample rate that all files must have, in hertz.
        clip_seconds: the length of the random segment that is cut from a mixture each time it is read, for training. A
            shorter mixture is read as a whole. By default, every mixture is read as a whole.
        check: whether to read the header of each file at the start; see `NoisyCleanFolders`.

    Raises:
        DataError: a folder is missing (such as the folder of a speaker, if `num_speakers` is too large) or has no audio
            file; a name is not in all folders; a file can't be read or has another sample rate; files of the same name
            differ in length.
    """

    collate_fn = staticmethod(collate_read)

    def __init__(
        self,
        folder: str | Path,
        mixture: str = "mix",
        num_speakers: NumSpeakers = 2,
        sr: int = 16000,
        clip_seconds: ClipSeconds | None = None,
        check: bool = True,
    ) -> None:
        folder = Path(folder).expanduser()
        self.sr = sr
        self.num_speakers = num_speakers
        self.clip = clip_length(clip_seconds, sr)
        require_folder(folder)
        names = [f"s{number}" for number in range(1, num_speakers + 1)]
        if missing := [name for name in names if not (folder / name).is_dir()]:
            raise DataError(
                f"`{folder}` has no folder `{missing[0]}`, but a mixture has {num_speakers} speakers",
                remedy="lower `num_speakers`, or add the folder",
            )
        sources = {f"source_{number}": folder / name for number, name in enumerate(names, start=1)}
        self.mixtures = match_by_name({"noisy": folder / mixture, **sources})
        self._remarks = Remarks()
        if check:
            self.mixtures = self.mixtures.checked(sr, self._remarks)
            self._remarks.warn()

    def __len__(self) -> int:
        return len(self.mixtures)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Reads a mixture: `id`, `noisy`, `source_1`, `source_2`, … [time], and `sr`."""
        return self.mixtures[index].read(self.sr, self.clip, self._remarks)
