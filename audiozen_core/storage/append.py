"""Appends lines to a file, and keeps lines in memory while the disk is full. This module does not import torch."""

# This module calls `os` directly, because the crash tests replace `os` and count its calls.

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from audiozen_core.storage.atomic import make_folder


class LineFile:
    r"""Appends lines to a file. If writing fails, the line is kept in memory and written before the next line.

    A killed process may have left an incomplete last line. A newline is added to it, so that the next line is readable.

    Args:
        path: the file. If it does not exist, it is created with its folder.

    Raises:
        OSError: the file can't be opened.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = LineFile(Path(folder) / "metrics.jsonl")
        ...     error = file.write('{"loss": 0.5}')
        ...     lost = file.close()
        ...     error, lost, file.path.read_text()
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
        """Appends a line. If writing fails, returns the error and keeps the line in memory."""
        # Escapes file names that are not UTF-8. The escape of a lone surrogate is also valid in a JSON string.
        self._pending += line.encode(errors="backslashreplace") + b"\n"
        return self._flush()

    def sync(self) -> OSError | None:
        """Waits until all lines are on the disk. Returns the error if that fails."""
        write_error = self._flush()
        try:
            os.fsync(self._descriptor)
        except OSError as error:
            return write_error or error
        return write_error

    def close(self) -> int:
        """Closes the file. Returns how many bytes could not be written and are lost."""
        self._flush()
        with contextlib.suppress(OSError):
            os.close(self._descriptor)
        return len(self._pending)

    def _flush(self) -> OSError | None:
        try:
            while self._pending:
                # The system may write only a part of the bytes, so this repeats until all bytes are written.
                del self._pending[: os.write(self._descriptor, self._pending)]
        except OSError as error:
            return error
        return None


def _ends_in_an_incomplete_line(descriptor: int) -> bool:
    size = os.fstat(descriptor).st_size
    if not size or not hasattr(os, "pread"):
        return False
    return os.pread(descriptor, 1, size - 1) != b"\n"
