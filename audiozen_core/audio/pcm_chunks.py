"""Finds the samples in files without compression: WAV, RF64, W64, AIFF, AU, CAF and NIST SPHERE."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass

from audiozen_core.audio.damage import damage_error, header_error, joined_files_error, uncounted_bytes_error
from audiozen_core.audio.length import Bytes, Length

# Programs that stream to a pipe don't know the size in advance. They write 0, the largest value of the size field, or
# this value minus the size of the header.
_UNKNOWN = (0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x7FFFFFFFFFFFFFFF, 0xFFFFFFFFFFFFFFFF)
_NEAR = 4096  # the largest difference from a number in _UNKNOWN, and the longest padding, in bytes
_LARGEST_32_BIT = 0xFFFFFFFF
_FORMAT_BYTES = 40  # the length of the longest common `fmt ` chunk
_W64_DATA = b"data\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a"
BEGINNINGS = (b"RIFF", b"RIFX", b"RF64", b"FORM", b"caff", b".snd", b"dns.", b"riff\x2e\x91", b"NIST_1")
_TAGS = (b"TAG", b"ID3", b"APETAGEX")

Patch = Callable[[int], list[tuple[int, bytes]]]


@dataclass(frozen=True, slots=True)
class _Chunks:
    """How a container stores its chunks: each has an ID and a size.

    Attributes:
        id_bytes: the length of the ID.
        size: the struct format of the size.
        inclusive: whether the size counts the bytes of the ID and of the size itself.
        align: chunks begin at multiples of this many bytes.
    """

    id_bytes: int
    size: str
    inclusive: bool = False
    align: int = 2


@dataclass(frozen=True, slots=True)
class _Data:
    """Where the samples of a file are, and how to correct the header.

    Attributes:
        start: the position of the first sample.
        announced: the number of bytes of samples that the header announces.
        patch: takes the correct number of bytes, and returns the corrections of the header as (position, bytes).
        chunks: how to read chunks after the samples; None if the format has no chunks there.
        wav_format: the content of the only chunk `fmt ` of a little-endian WAV file.
    """

    start: int
    announced: int
    patch: Patch
    chunks: _Chunks | None
    wav_format: bytes = b""


def check_pcm(file: Bytes) -> Length:
    """Compares the number of bytes that the header announces with the size of the file.

    Raises:
        DataError: the file is shorter or longer than its header says.
    """
    data = _find(file)
    if data is None:
        return Length()  # libsndfile reports what is wrong
    present = file.size - data.start
    if data.announced == present:
        return Length(data_bytes=present, wav_format=data.wav_format, data_start=data.start)
    unknown = any(abs(data.announced - size) <= _NEAR for size in _UNKNOWN)
    if data.announced > present and not unknown:
        raise damage_error(file.path, f"it has {present} bytes of samples, but its header announces {data.announced}")
    if data.announced <= present and _is_followed_by_chunks(file, data):
        return Length(data_bytes=data.announced, wav_format=data.wav_format, data_start=data.start)
    if data.announced and not unknown:
        raise uncounted_bytes_error(file.path, data.announced, data.start + data.announced, present - data.announced)
    head = bytearray(file.read_at(0, data.start))
    for position, content in data.patch(present):
        head[position : position + len(content)] = content
    # The header of a file that was streamed to a pipe does not show whether the stream was complete.
    return Length(data_bytes=present, head=bytes(head), may_be_cut_off=True)


def _find(file: Bytes) -> _Data | None:
    magic = file.head[:4]
    if magic in (b"RIFF", b"RIFX", b"RF64"):
        return _find_in_riff(file, ">" if magic == b"RIFX" else "<")
    if magic == b"FORM":
        return _find_in_aiff(file)
    if magic == b"caff":
        return _find_in_caf(file)
    if magic == b"riff":
        return _find_in_w64(file)
    if magic in (b".snd", b"dns."):
        order = ">" if magic == b".snd" else "<"
        start, announced = struct.unpack(f"{order}II", file.head[4:12].ljust(8, b"\0"))
        return _Data(start, announced, lambda size: [(8, struct.pack(f"{order}I", min(size, _LARGEST_32_BIT)))], None)
    if magic == b"NIST":
        return _find_in_nist(file)
    return None


def _walk(file: Bytes, chunks: _Chunks, position: int) -> list[tuple[bytes, int, int]]:
    """Returns the ID, the size and the position of the content of each chunk up to the samples.

    The size excludes the header of the chunk.
    """
    header = struct.Struct(chunks.size)
    found = []
    while position + chunks.id_bytes + header.size <= file.size:
        content = position + chunks.id_bytes + header.size
        head = file.read_at(position, content - position)
        size = header.unpack_from(head, chunks.id_bytes)[0] - (content - position if chunks.inclusive else 0)
        name = head[: chunks.id_bytes]
        found.append((name, size, content))
        if name in (b"data", b"SSND", _W64_DATA) or size < 0:
            break
        position = content + size + -(content + size) % chunks.align
    return found


def _find_in_riff(file: Bytes, order: str) -> _Data | None:
    chunks = _Chunks(4, f"{order}I")
    found = _walk(file, chunks, 12)
    if not found or found[-1][0] != b"data":
        return None
    _, announced, start = found[-1]
    large = next((content for name, _, content in found if name == b"ds64"), None)
    if large is not None and announced == _LARGEST_32_BIT:
        announced = struct.unpack("<Q", file.read_at(large + 8, 8))[0]

    def patch(size: int) -> list[tuple[int, bytes]]:
        if large is not None:
            return [(large, struct.pack("<QQQ", file.size - 8, size, 0)), (start - 4, b"\xff" * 4)]
        if file.size > _LARGEST_32_BIT:
            why = f"it can't hold the size of the file, {file.size} bytes"
            raise header_error(file.path, why, options="-ignore_length 1")
        return [(4, struct.pack(f"{order}I", file.size - 8)), (start - 4, struct.pack(f"{order}I", size))]

    formats = [file.read_at(content, min(size, _FORMAT_BYTES)) for name, size, content in found if name == b"fmt "]
    is_plain = len(formats) == 1 and file.head[:4] == b"RIFF" and file.head[8:12] == b"WAVE"
    return _Data(start, announced, patch, chunks, formats[0] if is_plain else b"")


def _find_in_w64(file: Bytes) -> _Data | None:
    chunks = _Chunks(16, "<q", inclusive=True, align=8)
    found = _walk(file, chunks, 40)
    if not found or found[-1][0] != _W64_DATA:
        return None
    _, announced, start = found[-1]
    return _Data(
        start,
        # `_walk` has subtracted the 24 bytes of the header, so a size of 0 is -24, and a size of -1 (unknown) is -25.
        max(announced, 0) if announced + 24 != -1 else _UNKNOWN[-1],
        lambda size: [(16, struct.pack("<Q", file.size)), (start - 8, struct.pack("<Q", size + 24))],
        chunks,
    )


def _find_in_aiff(file: Bytes) -> _Data | None:
    chunks = _Chunks(4, ">I")
    found = _walk(file, chunks, 12)
    common = next((content for name, _, content in found if name == b"COMM"), None)
    if not found or found[-1][0] != b"SSND":
        return None
    _, size, content = found[-1]
    offset = int.from_bytes(file.read_at(content, 4), "big")

    def patch(size: int) -> list[tuple[int, bytes]]:
        found = [(4, struct.pack(">I", file.size - 8)), (content - 4, struct.pack(">I", size + 8 + offset))]
        if common is not None:
            channels, _, bits = struct.unpack(">HIH", file.read_at(common, 8))
            frames = size // max(1, channels * -(-bits // 8))
            found.append((common + 2, struct.pack(">I", frames)))
        return found

    return _Data(content + 8 + offset, max(0, size - 8 - offset), patch, chunks)


def _find_in_caf(file: Bytes) -> _Data | None:
    chunks = _Chunks(4, ">q", align=1)
    found = _walk(file, chunks, 8)
    if not found or found[-1][0] != b"data":
        return None
    _, size, content = found[-1]
    return _Data(
        content + 4,  # the samples begin after the 4 bytes of the edit count
        _UNKNOWN[-1] if size == -1 else max(0, size - 4),
        lambda size: [(content - 8, struct.pack(">q", size + 4))],
        chunks,
    )


def _find_in_nist(file: Bytes) -> _Data | None:
    header = file.head[:1024]
    # libsndfile writes the sample size as an integer (`-i`), but a size of one byte as a string: `-s1 1`.
    values = {name: int(value) for name, value in re.findall(rb"(\w+) -(?:i|s\d+) (\d+)\n", header)}
    is_linear = re.search(rb"sample_coding -s\d+ (?:ulaw|mu-law|alaw)", header) is None
    count, start = values.get(b"sample_count"), re.match(rb"NIST_1A\n\s*(\d+)\n", header)
    if not count or start is None or b"embedded" in header:  # the samples are compressed
        return None
    announced = count * values.get(b"channel_count", 1) * values.get(b"sample_n_bytes", 2 if is_linear else 1)
    return _Data(int(start[1]), announced, lambda _: [], None)


def _is_followed_by_chunks(file: Bytes, data: _Data) -> bool:
    """Returns whether other chunks, a tag or padding follow the announced samples, rather than further samples.

    Raises:
        DataError: another file follows.
    """
    position = data.start + data.announced
    if data.announced and file.read_at(position, 6).startswith(BEGINNINGS):
        raise joined_files_error(file.path, position)
    if data.chunks is None:
        return data.announced > 0 and file.size - position < 8
    chunks = data.chunks
    position += -position % chunks.align
    header = struct.Struct(chunks.size)
    while position < file.size:
        content = position + chunks.id_bytes + header.size
        head = file.read_at(position, content - position)
        if data.announced and head.startswith(BEGINNINGS):
            raise joined_files_error(file.path, position)
        rest = file.size - position
        if head.startswith(_TAGS):
            return True
        if not head.strip(b"\0") and rest <= _NEAR:  # padding
            return data.announced > 0
        if len(head) < content - position:
            return data.announced > 0
        size = header.unpack_from(head, chunks.id_bytes)[0] - (content - position if chunks.inclusive else 0)
        if not re.fullmatch(rb"[ -~]{4}", head[:4]) or not 0 <= size <= file.size - content:
            return False
        position = content + size + -(content + size) % chunks.align
    return True
