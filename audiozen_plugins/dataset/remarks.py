"""Says once what a user should know about the files of a data set: several channels, an end that may be missing."""

from __future__ import annotations

from pathlib import Path

from audiozen_core.audio.files import AudioInfo
from audiozen_core.logging import get_logger

_EXAMPLES = 3
_CUT_OFF = "a size in the header, or the mark at the end of an Ogg stream, so that audio may be missing"


class Remarks:
    """The files of a data set with several channels, which are averaged, and those that may be cut off."""

    def __init__(self) -> None:
        self._several_channels: dict[Path, int] = {}
        self._cut_off: list[Path] = []
        self._checked = 0
        self._said: set[str] = set()

    def count(self, path: Path, info: AudioInfo) -> None:
        """Counts a file whose header is read while the data set is built. `say` follows."""
        self._checked += 1
        if info.channels > 1:
            self._several_channels[path] = info.channels
        if info.may_be_cut_off:
            self._cut_off.append(path)

    def say(self) -> None:
        """Warns if any of the counted files has several channels, or may be cut off."""
        if several := self._several_channels:
            examples = [f"{path} ({channels})" for path, channels in list(several.items())[:_EXAMPLES]]
            self._warn(
                "channels",
                f"{len(several)} of {self._checked} files have several channels, which are averaged to one",
                examples=examples,
            )
        if self._cut_off:
            self._warn(
                "cut off",
                f"{len(self._cut_off)} of {self._checked} files lack {_CUT_OFF}",
                examples=list(map(str, self._cut_off[:_EXAMPLES])),
            )

    def say_first(self, path: Path, info: AudioInfo) -> None:
        """Warns of the first such file, in a data set that did not read all headers before."""
        if info.channels > 1:
            self._warn(
                "channels",
                f"`{path}` has {info.channels} channels, which are averaged to one, as in each file like it",
            )
        if info.may_be_cut_off:
            self._warn("cut off", f"`{path}` lacks {_CUT_OFF}; other files may, too")

    def _warn(self, about: str, message: str, **more: object) -> None:
        if about not in self._said:
            self._said.add(about)
            get_logger().warning(message, **more)
