"""Compares the length that a file's header announces with the bytes of the file.

libsndfile trusts the header, or guesses if the header gives no length. If the header or the guess is wrong, libsndfile
returns less audio than the file holds.
"""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HEAD_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Length:
    """What is known about the length of a file.

    Attributes:
        frames: the number of samples in each channel, if it could be determined from the bytes of the file.
        data_bytes: the number of bytes of samples, if the samples are not compressed.
        head: bytes that replace the first bytes of the file for the decoder, because the file's header is wrong; b"" if
            the header is right.
        size: the size to report to the decoder, if the decoder would guess too small a length from the real size.
        may_be_cut_off: whether the file may be incomplete, because neither a size in its header nor a mark at its end
            shows that it is complete.
        wav_format: the content of the chunk `fmt ` of a WAV file.
        data_start: the position of the first sample of a WAV file.
    """

    frames: int | None = None
    data_bytes: int | None = None
    head: bytes = b""
    size: int | None = None
    may_be_cut_off: bool = False
    wav_format: bytes = b""
    data_start: int = 0


class Bytes:
    """Random access to the bytes of an open file. The first `HEAD_BYTES` are read once.

    Attributes:
        path: the file, for messages.
        size: the size of the file in bytes.
        head: the first bytes of the file.
    """

    def __init__(self, path: Path, stream: io.FileIO) -> None:
        self.path = path
        self.size = os.fstat(stream.fileno()).st_size
        self._stream = stream
        self.head = stream.read(HEAD_BYTES)

    def read_at(self, start: int, count: int) -> bytes:
        """Returns up to `count` bytes from `start`."""
        if start + count <= len(self.head):
            return self.head[start : start + count]
        self._stream.seek(start)
        found = self._stream.read(count)
        # The system may return only a part of the bytes.
        while len(found) < count and (piece := self._stream.read(count - len(found))):
            found += piece
        return found

    def read_all(self) -> bytes:
        """Returns the whole file."""
        return self.read_at(0, self.size)

    def id3_end(self) -> int:
        """Returns the position after the ID3v2 tags at the start of the file."""
        position = 0
        while (tag := self.read_at(position, 10))[:3] == b"ID3" and len(tag) == 10:
            position += id3_size(tag)
        return position


def id3_size(tag: bytes) -> int:
    """Returns the size of an ID3v2 tag from its first 10 bytes."""
    size = sum((byte & 0x7F) << shift for byte, shift in zip(tag[6:10], (21, 14, 7, 0), strict=True))
    return 10 + size + (10 if tag[5] & 0x10 else 0)


class PatchedFile(io.RawIOBase):
    """Presents a file to libsndfile with different first bytes or a different size. It is slower than the file itself.

    Args:
        stream: the real file.
        head: the bytes that replace the first bytes of the real file.
        size: the size to report, in bytes. If it is larger than the real size, zeros follow the real content.
    """

    def __init__(self, stream: io.FileIO, head: bytes, size: int) -> None:
        self._stream = stream
        self._head = head
        self._size = size
        self._position = 0

    def seekable(self) -> bool:
        """Returns that `seek` works."""
        return True

    def readable(self) -> bool:
        """Returns that `readinto` works."""
        return True

    def tell(self) -> int:
        """Returns the position. libsndfile also calls this to find the size."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Moves the position."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Reads into a buffer, and returns the number of bytes. Zeros follow the end of the real file."""
        view = memoryview(buffer).cast("B")
        view = view[: max(0, self._size - self._position)]
        piece = self._head[self._position : self._position + len(view)]
        if len(piece) < len(view):
            self._stream.seek(self._position + len(piece))
            piece += self._stream.read(len(view) - len(piece))
        view[:] = piece.ljust(len(view), b"\0")
        self._position += len(view)
        return len(view)
