"""Ready mixtures in the layout of the DNS Challenge's synthesiser, which the Intel N-DNS Challenge shares."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from audiozen_core.audio.files import AUDIO_SUFFIXES, require_folder
from audiozen_core.errors import DataError
from audiozen_plugins.dataset.collate import pad_collate
from audiozen_plugins.dataset.pairs import Pair, clip_length, some

# Names of source recordings may hold the same words: the synthesiser's own come last.
_FILE_ID = re.compile(r".*fileid_(\d+)", re.DOTALL)
_SNR = re.compile(r".*_snr(-?\d+(?:\.\d+)?)", re.DOTALL)


class DnsChallenge(Dataset[dict[str, Any]]):
    """Noisy and clean clips of one part (training or validation set) of the Intel N-DNS or the DNS Challenge data.

    The folder `root` holds `noisy/` and `clean/` (and `noise/`, which is not read). Files belong together by the number
    after `fileid_` in their names:

        noisy/<speech>_<noise>_snr<dB>_tl<dBFS>_fileid_<n>.wav
        clean/clean_fileid_<n>.wav

    Items are in the order of that number: `id` (the noisy file's name without its ending), `noisy` and `clean` (float32
    [time]; 30 s in the published data), `snr` (dB, where each of the names has one) and `sr` (hertz).

    Args:
        root: the folder which holds `noisy` and `clean`.
        limit: how many clips to take; all if left out.
        offset: which clip to start from, counted from 0.
        sr: the sample rate that all files must have, in hertz.
        clip_seconds: for training: gives a stretch of this length, drawn anew for each item; whole clips if left out.

    Raises:
        DataError: a folder is missing; no clips; a noisy file without a number or without a clean partner; two files
            with one number; `limit` or `offset` leave nothing. Reading an item: a file that cannot be used, or
            partners of different length.
    """

    collate_fn = staticmethod(pad_collate)

    def __init__(
        self,
        root: str | Path,
        limit: int | None = None,
        offset: int = 0,
        sr: int = 16000,
        clip_seconds: float | None = None,
    ) -> None:
        root = Path(root).expanduser()
        self.sr = sr
        self.clip = clip_length(clip_seconds, sr)
        if offset < 0 or (limit is not None and limit < 1):
            raise DataError(
                f"`offset` is {offset} and `limit` is {limit}", remedy="`offset` is 0 or more, `limit` 1 or more"
            )
        require_folder(root)
        noisy, clean = _by_file_id(root / "noisy"), _by_file_id(root / "clean")
        alone = [noisy[number].name for number in sorted(noisy) if number not in clean]
        if alone:
            raise DataError(
                f"{len(alone)} of {len(noisy)} files in `{root / 'noisy'}` have no clean partner: {some(alone)}",
                remedy=f"put the file with the same number into `{root / 'clean'}`, named clean_fileid_<number>.wav",
            )
        chosen = sorted(noisy)[offset:][:limit]
        if not chosen:
            raise DataError(
                f"`offset = {offset}` leaves none of the {len(noisy)} clips in `{root}`",
                remedy=f"give an offset below {len(noisy)}",
            )
        snrs = {number: _snr(noisy[number]) for number in chosen}
        all_have_one = None not in snrs.values()
        self.pairs = [
            Pair(noisy[number].stem, noisy[number], clean[number], snrs[number] if all_have_one else None)
            for number in chosen
        ]

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.pairs[index].read(self.sr, self.clip)


def _by_file_id(folder: Path) -> dict[int, Path]:
    """The audio files of a folder by the number in their names."""
    require_folder(folder)
    found: dict[int, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in AUDIO_SUFFIXES or path.name.startswith("."):
            continue
        match = _FILE_ID.match(path.stem)
        if match is None:
            raise DataError(
                f"`{path}` has no `fileid_<number>` in its name",
                remedy="move it away; for folders matched by name use the data set `noisy_clean_folders`",
            )
        number = int(match.group(1))
        if number in found:
            raise DataError(
                f"`{folder}` has two files with the number {number}: `{found[number].name}`, `{path.name}`",
                remedy="give each number once",
            )
        found[number] = path
    if not found:
        raise DataError(f"there is no audio file in `{folder}`", remedy="looked for names like `…_fileid_<number>.wav`")
    return found


def _snr(path: Path) -> float | None:
    match = _SNR.match(path.stem)
    return float(match.group(1)) if match else None
