"""Ready-made mixtures in the folder layout of the DNS Challenge and the Intel N-DNS Challenge."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from audiozen_core.audio.listing import require_folder, scan_audio
from audiozen_core.diagnostics.listed import listed
from audiozen_core.errors import DataError
from audiozen_plugins.dataset.collate import collate_read
from audiozen_plugins.dataset.ids import unique_ids
from audiozen_plugins.dataset.pairs import AlignedList, ClipSeconds, clip_length
from audiozen_plugins.dataset.remarks import Remarks

# The challenge's script for mixing adds these words at the end of a name. The name of the source recording may contain
# the same words, so the greedy `.*` makes the pattern find the last occurrence.
_FILE_ID = re.compile(r".*fileid_(\d+)", re.DOTALL)
_SNR = re.compile(r".*_snr(-?\d+(?:\.\d+)?)", re.DOTALL)


class DnsChallenge(Dataset[dict[str, Any]]):
    """Noisy and clean clips of one part (training or validation set) of the Intel N-DNS or the DNS Challenge data.

    The folder `root` contains `noisy` and `clean` (and `noise`, which is not read). Files with the same number after
    `fileid_` belong together:

        noisy/<speech>_<noise>_snr<dB>_tl<dBFS>_fileid_<n>.wav
        clean/clean_fileid_<n>.wav

    Items are in the order of this number. An item has the keys `id` (the name of the noisy file without its ending),
    `noisy` and `clean` (float32 [time]; 30 s in the published data), `snr` (dB; only if the name of each file contains
    it) and `sr` (hertz).

    Timcheck et al., "The Intel Neuromorphic DNS Challenge", 2023, describe the training data of the Intel N-DNS
    Challenge.

    Args:
        root: the folder with `noisy` and `clean`.
        limit: the number of clips to use; by default all.
        offset: the index of the first clip, from 0.
        sr: the sample rate that all files must have, in hertz.
        clip_seconds: the length of the random segment that is cut from a clip each time it is read, for training; by
            default the whole clip.

    Raises:
        DataError: a folder is missing or has no audio file; a noisy file has no number or no clean partner; two files
            have the same number; `offset` leaves no clips. When an item is read: a file can't be read, or the
            partners differ in length.
    """

    collate_fn = staticmethod(collate_read)

    def __init__(
        self,
        root: str | Path,
        limit: int | None = None,
        offset: int = 0,
        sr: int = 16000,
        clip_seconds: ClipSeconds | None = None,
    ) -> None:
        root = Path(root).expanduser()
        self.sr = sr
        self.clip = clip_length(clip_seconds, sr)
        if offset < 0 or (limit is not None and limit < 1):
            raise DataError(
                f"`offset` is {offset} and `limit` is {limit}", remedy="set `offset` to 0 or more, `limit` to 1 or more"
            )
        require_folder(root)
        folders = {key: root / key for key in ("noisy", "clean")}
        noisy, clean = (_by_file_id(folder) for folder in folders.values())
        alone = [f"`{noisy[number]}`" for number in sorted(noisy) if number not in clean]
        if alone:
            raise DataError(
                f"{len(alone)} of {len(noisy)} files in `{root / 'noisy'}` have no clean partner: "
                f"{listed(alone, most=3)}",
                remedy=f"add the file clean_fileid_<number>.wav with the same number to `{root / 'clean'}`",
            )
        chosen = sorted(noisy)[offset:][:limit]
        if not chosen:
            raise DataError(
                f"`offset = {offset}` skips all {len(noisy)} clips in `{root}`",
                remedy=f"set `offset` below {len(noisy)}",
            )
        names = [Path(noisy[number]).stem for number in chosen]
        snrs = [snr for snr in map(_snr, names) if snr is not None]
        self.pairs = AlignedList.from_columns(
            folders,
            unique_ids(names),
            {"noisy": [noisy[number] for number in chosen], "clean": [clean[number] for number in chosen]},
            snrs if len(snrs) == len(names) else None,
        )
        self._remarks = Remarks()

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Reads a pair: `id`, `noisy` and `clean` [time], and `sr`."""
        return self.pairs[index].read(self.sr, self.clip, self._remarks)


def _by_file_id(folder: Path) -> dict[int, str]:
    """Returns the audio files of a folder by the number in their names."""
    found: dict[int, str] = {}
    for name in scan_audio(folder, subfolders=False).names:
        match = _FILE_ID.match(Path(name).stem)
        if match is None:
            raise DataError(
                f"`{folder / name}` has no `fileid_<number>` in its name",
                remedy="move the file away, or use the data set `noisy_clean_folders`, which matches files by name",
            )
        number = int(match.group(1))
        if number in found:
            raise DataError(
                f"`{folder}` has two files with the number {number}: `{found[number]}`, `{name}`",
                remedy="keep one of them",
            )
        found[number] = name
    return found


def _snr(name: str) -> float | None:
    match = _SNR.match(name)
    return float(match.group(1)) if match else None
