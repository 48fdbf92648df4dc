"""Warns once if files of a data set have several channels, or if their end may be missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from audiozen_core.audio.files import AudioInfo
from audiozen_core.logging import get_logger

_EXAMPLES = 3
_SEVERAL, _CUT_OFF = "several channels", "cut off"
_END = "a size in the header, or the mark at the end of an Ogg stream, so that audio may be missing"


class Remarks:
    """Counts the files of a data set that have several channels, which are averaged, or that may be cut off."""

    def __init__(self) -> None:
        self._checked = 0
        self._found: dict[str, int] = {_SEVERAL: 0, _CUT_OFF: 0}
        self._examples: dict[str, list[str]] = {_SEVERAL: [], _CUT_OFF: []}
        self._warned: set[str] = set()

    def count(self, path: Path, info: AudioInfo) -> None:
        """Counts a file whose header is read while the data set is built. Call `warn` after the last file."""
        self._checked += 1
        if info.channels > 1:
            self._add(_SEVERAL, f"{path} ({info.channels})")
        if info.may_be_cut_off:
            self._add(_CUT_OFF, str(path))

    @property
    def counted(self) -> dict[str, Any]:
        """The counts as values for JSON."""
        return {"checked": self._checked, "found": self._found, "examples": self._examples}

    def count_again(self, counted: dict[str, Any]) -> None:
        """Restores counts from an earlier start."""
        self._checked, self._found, self._examples = (counted[key] for key in ("checked", "found", "examples"))

    def warn(self) -> None:
        """Warns if any of the counted files has several channels, or may be cut off."""
        about = {_SEVERAL: "have several channels, which are averaged to one", _CUT_OFF: f"lack {_END}"}
        for kind, what in about.items():
            if count := self._found[kind]:
                self._warn(kind, f"{count} of {self._checked} files {what}", examples=self._examples[kind])

    def warn_of_first(self, path: Path, info: AudioInfo) -> None:
        """Warns of the first such file, in a data set that has not read all headers at the start."""
        if info.channels > 1:
            self._warn(
                _SEVERAL,
                f"`{path}` has {info.channels} channels, which are averaged to one, as in each file like it",
            )
        if info.may_be_cut_off:
            self._warn(_CUT_OFF, f"`{path}` lacks {_END}; other files may, too")

    def _add(self, kind: str, example: str) -> None:
        self._found[kind] += 1
        if len(self._examples[kind]) < _EXAMPLES:
            self._examples[kind].append(example)

    def _warn(self, about: str, message: str, **more: object) -> None:
        if about not in self._warned:
            self._warned.add(about)
            get_logger().warning(message, **more)
