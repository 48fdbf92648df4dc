"""A file that lines are appended to, which a disk that refuses for a while does not harm. Imports no torch."""

# As in `files.py`, the crash tests count each operation.

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

from audiozen_core.storage.atomic import make_folder


class LineFile:
    r"""Appends lines; what the disk refuses is kept in memory, and written first when the disk takes something again.

    A line that another process left half-written, because it was killed, is ended first, so that it spoils no other.

    Args:
        path: the file; it is made, and so is its folder.

    Raises:
        OSError: it can't be opened.

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
        if _ends_within_a_line(self._descriptor):
            self._pending += b"\n"

    def write(self, line: str) -> OSError | None:
        """Appends a line; gives what the disk said if it refused."""
        self._pending += line.encode(errors="replace") + b"\n"
        return self._flush()

    def sync(self) -> OSError | None:
        """Waits until all lines are on the disk; gives what it said if it refused."""
        refused = self._flush()
        try:
            os.fsync(self._descriptor)
        except OSError as error:
            return refused or error
        return refused

    def close(self) -> int:
        """Closes the file; gives how many bytes the disk has refused to the end."""
        self._flush()
        with contextlib.suppress(OSError):
            os.close(self._descriptor)
        return len(self._pending)

    def _flush(self) -> OSError | None:
        try:
            while self._pending:
                # After a short write the rest comes next, so that the line is whole in the end.
                written = os.write(self._descriptor, self._pending)
                if written == 0:
                    return OSError(errno.EIO, os.strerror(errno.EIO))
                del self._pending[:written]
        except OSError as error:
            return error
        return None


def _ends_within_a_line(descriptor: int) -> bool:
    size = os.fstat(descriptor).st_size
    if not size or not hasattr(os, "pread"):
        return False
    return os.pread(descriptor, 1, size - 1) != b"\n"
