"""Says once which files of a data set have several channels, because their average is used."""

from __future__ import annotations

from pathlib import Path

from audiozen_core.audio.files import AudioInfo
from audiozen_core.logging import get_logger

_EXAMPLES = 3


class MixedDown:
    """The files of a data set with several channels. Each is averaged to mono when it is read."""

    def __init__(self) -> None:
        self._files: dict[Path, int] = {}
        self._checked = 0
        self._is_said = False

    def count(self, path: Path, info: AudioInfo) -> None:
        """Counts a file whose header is read while the data set is built. `say` follows."""
        self._checked += 1
        if info.channels > 1:
            self._files[path] = info.channels

    def say(self) -> None:
        """Warns if any of the counted files has several channels."""
        if self._files and not self._is_said:
            self._is_said = True
            examples = [f"{path} ({channels})" for path, channels in list(self._files.items())[:_EXAMPLES]]
            get_logger().warning(
                f"{len(self._files)} of {self._checked} files have several channels, which are averaged to one",
                examples=examples,
            )

    def say_first(self, path: Path, info: AudioInfo) -> None:
        """Warns of the first file with several channels, in a data set that did not read all headers before."""
        if info.channels > 1 and not self._is_said:
            self._is_said = True
            get_logger().warning(
                f"`{path}` has {info.channels} channels, which are averaged to one, as in each file like it"
            )
