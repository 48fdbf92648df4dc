"""Creates and completes the folder for the results of one test or prediction."""

from __future__ import annotations

import os
from pathlib import Path

from audiozen_core.distributed.ranks import ALONE, Ranks
from audiozen_core.storage.atomic import INCOMPLETE, make_folder, rename, sync_folder


class ResultFolder:
    """A new folder for the results of one test or prediction, with a subfolder for each data set.

    The folder is created on first use. If a folder of this name exists, a number is appended, such as
    `best_epoch_0012_2`. Until `complete` is called, the name of the folder ends in `.incomplete`.

    Args:
        wanted: the folder to create, such as `exp/baseline/test/best_epoch_0012`.
        ranks: the processes of the run. All ranks write into the same folder, which rank 0 creates and completes.
    """

    def __init__(self, wanted: Path, ranks: Ranks = ALONE) -> None:
        self.wanted = wanted
        self._ranks = ranks
        self._final: Path | None = None
        self._folder: Path | None = None
        self._requested: set[Path] = set()
        if ranks.several:
            self._final, self._folder = ranks.from_main(_new_folder(wanted) if ranks.is_main else (wanted, wanted))

    def of_dataset(self, name: str) -> Path:
        """Returns the folder of one data set, and creates it if necessary."""
        if self._folder is None:
            self._final, self._folder = _new_folder(self.wanted)
        folder = self._folder / name
        make_folder(folder)
        return folder

    def is_new(self, path: Path) -> bool:
        """Returns whether a path is new: the file does not exist, and no earlier call had the same path."""
        path = path.resolve()
        if self._ranks.several:
            make_folder(path.parent)
            try:
                # Two ranks can request the same name at the same time. Only one of them succeeds in creating the file.
                path.open("x").close()
            except FileExistsError:
                return False
            return True
        is_new = path not in self._requested and not path.exists()
        self._requested.add(path)
        return is_new

    def complete(self) -> Path | None:
        """Renames the folder to its final name, and returns it; None if no results were written."""
        self._ranks.wait()
        if self._ranks.is_main:
            self._complete()
        self._folder = self._final = self._ranks.from_main(self._final)
        return self._final

    def _complete(self) -> None:
        if self._folder is None or self._final is None:
            return
        if not any(self._folder.iterdir()):  # created in advance for several ranks, but not used
            self._folder.rmdir()
            self._final = None
            return
        rename(self._folder, self._final)
        sync_folder(self._final.parent)


def _new_folder(wanted: Path) -> tuple[Path, Path]:
    """Creates a folder with an unused name. Returns its final path and its current path."""
    make_folder(wanted.parent)
    number = 1
    while True:
        final = wanted if number == 1 else wanted.with_name(f"{wanted.name}_{number}")
        folder = final.with_name(final.name + INCOMPLETE)
        number += 1
        if os.path.lexists(final):
            continue
        try:
            # `mkdir` is atomic: two processes can't create the same folder.
            folder.mkdir()
        except FileExistsError:
            continue
        return final, folder
