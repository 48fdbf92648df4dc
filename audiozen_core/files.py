"""Files that appear whole or not at all. Every change that this project makes to an experiment's folder goes here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO


def write_whole(path: Path, content: bytes | str | Callable[[BinaryIO], object]) -> None:
    """Writes a file so that, at any moment and after any crash, `path` is the old file or the new one, whole.

    Args:
        path: the file; its folder must exist.
        content: the bytes, the text (written as UTF-8), or a function that writes to the open binary file it is given.

    Raises:
        OSError: the disk refused; `path` is as it was.
    """
    raise NotImplementedError
