"""The folder of the results of one test or prediction."""

from __future__ import annotations

import os
from pathlib import Path

from audiozen_core.distributed.ranks import ALONE, Ranks
from audiozen_core.storage.atomic import INCOMPLETE, make_folder, rename, sync_folder


class ResultFolder:
    """A new folder for the results of one test or prediction, with a folder in it for each data set.

    It is created when it is first needed. If a folder of this name exists, the new one gets a number, such as
    `best_epoch_0012_2`. Until `complete` is called, its name ends in `.incomplete`.

    Args:
        wanted: the folder to create, such as `exp/baseline/test/best_epoch_0012`.
        ranks: the processes of the run. All of them write into one folder, which rank 0 makes and completes.
    """

    def __init__(self, wanted: Path, ranks: Ranks = ALONE) -> None:
        self.wanted = wanted
        self._ranks = ranks
        self._final: Path | None = None
        self._folder: Path | None = None
        self._given: set[Path] = set()
        if ranks.several:
            self._final, self._folder = ranks.from_main(_new_folder(wanted) if ranks.is_main else (wanted, wanted))

    def of_dataset(self, name: str) -> Path:
        """Returns the folder of one data set; it exists."""
        if self._folder is None:
            self._final, self._folder = _new_folder(self.wanted)
        folder = self._folder / name
        make_folder(folder)
        return folder

    def is_new(self, path: Path) -> bool:
        """Returns whether a path is new: the file does not exist, and no earlier call was about the same path."""
        path = path.resolve()
        if self._ranks.several:
            make_folder(path.parent)
            try:
                # Another rank may ask for the same name at the same time. Only one of them can create the file.
                path.open("x").close()
            except FileExistsError:
                return False
            return True
        is_new = path not in self._given and not path.exists()
        self._given.add(path)
        return is_new

    def complete(self) -> Path | None:
        """Gives the folder its final name, and returns it; None if no results were written."""
        self._ranks.wait()
        if self._ranks.is_main:
            self._complete()
        self._folder = self._final = self._ranks.from_main(self._final)
        return self._final

    def _complete(self) -> None:
        if self._folder is None or self._final is None:
            return
        if not any(self._folder.iterdir()):  # made for all ranks, and no rank has used it
            self._folder.rmdir()
            self._final = None
            return
        rename(self._folder, self._final)
        sync_folder(self._final.parent)


def _new_folder(wanted: Path) -> tuple[Path, Path]:
    """Creates a folder under a name that no other run has; returns its final and its present path."""
    make_folder(wanted.parent)
    number = 1
    while True:
        final = wanted if number == 1 else wanted.with_name(f"{wanted.name}_{number}")
        folder = final.with_name(final.name + INCOMPLETE)
        number += 1
        if os.path.lexists(final):
            continue
        try:
            # Two processes can't create the same folder, so each result has its own.
            folder.mkdir()
        except FileExistsError:
            continue
        return final, folder
