"""A file that lines are appended to; it survives a disk that is full for a while. Imports no torch."""

# The system calls are spelled out because the crash tests replace `os` and count them.

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from audiozen_core.storage.atomic import make_folder


class LineFile:
    r"""Appends lines to a file. Lines that the disk refuses wait in memory and are written before later ones.

    If a killed process left an incomplete last line, a newline ends it, so that the next line stays readable.

    Args:
        path: the file; it is created if needed, with its folder.

    Raises:
        OSError: the file can't be opened.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = LineFile(Path(folder) / "metrics.jsonl")
        ...     refused = file.write('{"loss": 0.5}')
        ...     lost = file.close()
        ...     refused, lost, file.path.read_text()
        (None, 0, '{"loss": 0.5}\n')
    """

    def __init__(self, path: Path) -> None:
        make_folder(path.parent)
        self.path = path
        self._pending = bytearray()
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o666)
        if _ends_in_an_incomplete_line(self._descriptor):
            self._pending += b"\n"

    def write(self, line: str) -> OSError | None:
        """Appends a line. Returns the error if the disk refused it; the line is kept then."""
        self._pending += line.encode(errors="replace") + b"\n"
        return self._flush()

    def sync(self) -> OSError | None:
        """Waits until all lines are on the disk. Returns the error if the disk refused."""
        refused = self._flush()
        try:
            os.fsync(self._descriptor)
        except OSError as error:
            return refused or error
        return refused

    def close(self) -> int:
        """Closes the file. Returns how many bytes the disk has refused to the end; they are lost."""
        self._flush()
        with contextlib.suppress(OSError):
            os.close(self._descriptor)
        return len(self._pending)

    def _flush(self) -> OSError | None:
        try:
            while self._pending:
                # The system may write less than it was given; the rest is written next, so that the line is complete.
                del self._pending[: os.write(self._descriptor, self._pending)]
        except OSError as error:
            return error
        return None


def _ends_in_an_incomplete_line(descriptor: int) -> bool:
    size = os.fstat(descriptor).st_size
    if not size or not hasattr(os, "pread"):
        return False
    return os.pread(descriptor, 1, size - 1) != b"\n"
