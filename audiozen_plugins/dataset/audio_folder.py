"""Audio files to enhance, without clean references."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from audiozen_core.audio.listing import absolute_path
from audiozen_core.errors import DataError
from audiozen_plugins.dataset.collate import collate_read
from audiozen_plugins.dataset.ids import ids_of_files
from audiozen_plugins.dataset.pairs import AlignedList, list_folder
from audiozen_plugins.dataset.remarks import Remarks


class AudioFolder(Dataset[dict[str, Any]]):
    """The audio files of a folder and its subfolders, or the files of a list.

    The header of each file is read when the data set is built. So a file that can't be read or has another sample rate
    is found before any result is written. Such a file is an error, or is skipped if `trainer.args.on_bad_data` is
    `skip`. For a folder with 10,000 files or more, the list of files and the fact that their headers were checked are
    cached until a file is added or removed.

    An item has the keys `id`, `noisy` (float32 [time]; the average of the channels) and `sr` (hertz). The ID is the
    path relative to the folder, without the ending: `a/one` for `a/one.wav`. If two files differ only in the ending,
    their IDs keep the ending. If IDs would differ only in case, the later IDs get a number. Bytes that are not UTF-8
    are escaped. If `files` is given, the path is relative to the deepest folder that contains all files.

    Args:
        folder: the folder. Give either `folder` or `files`.
        files: a list of files.
        sr: the sample rate that all files must have, in hertz.

    Raises:
        DataError: neither `folder` nor `files` is given, or both are; the folder is missing or has no audio file; a
            file can't be read or has another sample rate, and is not skipped; all files are skipped.
    """

    collate_fn = staticmethod(collate_read)

    def __init__(
        self, folder: str | Path | None = None, files: Sequence[str | Path] | None = None, sr: int = 16000
    ) -> None:
        if (folder is None) == (files is None):
            if folder is None:
                raise DataError("neither `folder` nor `files` is given", remedy="set one of them")
            raise DataError("both `folder` and `files` are given", remedy="set only one of them")
        self.sr = sr
        found = _listed(files or ()) if folder is None else list_folder(Path(folder).expanduser(), "noisy")
        self._remarks = Remarks()
        self.files = found.checked(sr, self._remarks)
        self._remarks.warn()

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Reads a file: `id`, `noisy` [time] and `sr`."""
        return self.files[index].read(self.sr, None, self._remarks)


def _listed(files: Sequence[str | Path]) -> AlignedList:
    paths = [Path(file).expanduser() for file in files]
    if not paths:
        raise DataError("`files` is an empty list", remedy="list at least one audio file")
    # Result files are named after the IDs. With `..` in an ID, a result file would be outside of the result folder.
    absolute = [absolute_path(path) for path in paths]
    root = Path(os.path.commonpath([path.parent for path in absolute]))
    relative = [path.relative_to(root) for path in absolute]
    if len(set(relative)) < len(relative):
        twice = Counter(relative).most_common(1)[0][0]
        raise DataError(f"`files` contains `{twice}` twice", remedy="list each file once")
    # The paths are kept as the user wrote them, so that messages show them in the same way.
    return AlignedList.from_columns({"noisy": Path()}, ids_of_files(relative), {"noisy": list(map(str, paths))})
