"""The modules that lie beside an experiment's TOML file, seen by that experiment alone."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from types import TracebackType


class ImportScope:
    """A context in which the folders of one experiment come first on the import path.

    Args:
        dirs: the folders, first one first.
    """

    def __init__(self, dirs: Iterable[Path | str]) -> None:
        raise NotImplementedError

    @classmethod
    def of_file(cls, toml: Path | str) -> ImportScope:
        """The scope of an experiment: the folder of its TOML file, then that folder's parent."""
        raise NotImplementedError

    def __enter__(self) -> ImportScope:
        raise NotImplementedError

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        raise NotImplementedError
