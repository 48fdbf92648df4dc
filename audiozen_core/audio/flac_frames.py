"""Finds the last frame of a FLAC file, which gives the number of samples. RFC 9639 describes the format."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from audiozen_core.audio.damage import header_error, joined_files_error
from audiozen_core.audio.length import Bytes, Length

_MARKER = b"fLaC"  # the beginning of a file
_TOTAL_BITS = 36
_ID3V1_BYTES = 128


def _crc_table(polynomial: int, bits: int) -> list[int]:
    table = []
    for byte in range(256):
        value = byte << (bits - 8)
        for _ in range(8):
            value = (value << 1) ^ (polynomial if value >> (bits - 1) else 0)
            value &= (1 << bits) - 1
        table.append(value)
    return table


_CRC8 = _crc_table(0x07, 8)
_CRC16 = _crc_table(0x8005, 16)


@dataclass(frozen=True, slots=True)
class _Frame:
    """A frame: its position in the searched bytes, the index of its first sample, and its number of samples."""

    position: int
    start: int
    length: int


def check_flac(file: Bytes) -> Length:
    """Compares the number of samples in the header of the file with the end of the last frame.

    Raises:
        DataError: several FLAC files were joined into one; the file has more samples than its header says; or the
            header gives no number of samples, and the last frame can't be found.
    """
    begin = file.id3_end()
    info = file.read_at(begin + 8, 34)
    if file.read_at(begin, 4) != b"fLaC" or len(info) < 34:
        return Length()  # libsndfile reports what is wrong
    largest_block = int.from_bytes(info[2:4], "big")
    # Search for the last frame in a window at the end of the file. The window has the size of the largest possible
    # frame: uncompressed samples, a header and a checksum.
    channels, bits = (info[12] >> 1 & 7) + 1, ((info[12] & 1) << 4 | info[13] >> 4) + 1
    window = largest_block * channels * (bits + 1) // 8 + 64
    total = int.from_bytes(info[13:18], "big") & ((1 << _TOTAL_BITS) - 1)
    tail = file.read_at(max(0, file.size - window - _ID3V1_BYTES), window + _ID3V1_BYTES)
    last = next(_frames(tail, largest_block, backwards=True), None)
    as_announced = last is not None and last.start + last.length == total
    if as_announced and not _starts_over(file, window, largest_block):
        return Length(frames=total)
    find_joined(file)
    if tail[-_ID3V1_BYTES : -_ID3V1_BYTES + 3] == b"TAG":
        tail = tail[:-_ID3V1_BYTES]
    # The samples may contain bytes that look like the header of a frame. The checksum of the frame rules them out.
    frames = _frames(tail, largest_block, backwards=True)
    last = next((frame for frame in frames if _crc(_CRC16, 16, tail[frame.position :]) == 0), None)
    if last is None:
        if total:
            return Length(frames=total)  # the file is truncated; reading its end will raise an error
        raise header_error(file.path, "it does not say how many samples the file has")
    actual = last.start + last.length
    if not total:
        head = bytearray(file.read_at(0, begin + 42))
        head[begin + 21] |= actual >> 32
        head[begin + 22 : begin + 26] = (actual & 0xFFFFFFFF).to_bytes(4, "big")
        return Length(frames=actual, head=bytes(head))
    if actual > total:
        raise header_error(file.path, f"it announces {total} samples, but the file has {actual}")
    return Length(frames=total)


def find_joined(file: Bytes) -> None:
    """Searches the whole file for the beginning of another FLAC file.

    Raises:
        DataError: another FLAC file begins within the file.
    """
    content = file.read_all()
    position = file.id3_end()
    while (position := content.find(_MARKER, position + 4)) >= 0:
        # A FLAC file begins with the block STREAMINFO: type 0, 34 bytes. The bit 0x80 marks the last block.
        if content[position + 4 : position + 8] in (b"\x00\x00\x00\x22", b"\x80\x00\x00\x22"):
            raise joined_files_error(file.path, position)


def _starts_over(file: Bytes, window: int, largest_block: int) -> bool:
    """Returns whether the sample numbers start again within the file, as in two joined files of the same length."""
    if file.size < 4 * window:
        return False
    quarters = [next(_frames(file.read_at(file.size * part // 4, window), largest_block), None) for part in (1, 3)]
    first, second = quarters
    return first is not None and second is not None and first.start >= second.start


def _frames(content: bytes, largest_block: int, *, backwards: bool = False) -> Iterator[_Frame]:
    position = len(content) if backwards else -1
    while True:
        position = content.rfind(b"\xff", 0, position) if backwards else content.find(b"\xff", position + 1)
        if position < 0:
            return
        if content[position + 1 : position + 2] in (b"\xf8", b"\xf9"):
            frame = _parse(content[position : position + 16], position, largest_block)
            if frame is not None:
                yield frame


def _parse(head: bytes, position: int, largest_block: int) -> _Frame | None:
    """Reads the header of a frame. Returns None if these bytes are not a header."""
    if len(head) < 16:
        head = head + bytes(16 - len(head))
    block, rate = head[2] >> 4, head[2] & 15
    if block == 0 or rate == 15 or head[3] >> 4 > 10 or head[3] & 1:
        return None
    # The number of the frame or of its first sample is coded as in UTF-8, with up to seven bytes.
    lead = head[4]
    more = 0
    if lead & 0x80:
        while more < 7 and lead & (0x40 >> more):
            more += 1
        if not 1 <= more <= 6 or any(byte & 0xC0 != 0x80 for byte in head[5 : 5 + more]):
            return None
    number = lead & (0x7F if more == 0 else 0x3F >> more)
    for byte in head[5 : 5 + more]:
        number = number << 6 | byte & 0x3F
    place = 5 + more
    if block == 1:
        length = 192
    elif block <= 5:
        length = 576 << (block - 2)
    elif block == 6:
        length, place = head[place] + 1, place + 1
    elif block == 7:
        length, place = int.from_bytes(head[place : place + 2], "big") + 1, place + 2
    else:
        length = 256 << (block - 8)
    place += {12: 1, 13: 2, 14: 2}.get(rate, 0)
    if place >= 16 or _crc(_CRC8, 8, head[:place]) != head[place]:
        return None
    return _Frame(position, number if head[1] & 1 else number * largest_block, length)


def _crc(table: list[int], bits: int, content: bytes) -> int:
    value, mask = 0, (1 << bits) - 1
    for byte in content:
        value = (value << 8 & mask) ^ table[(value >> (bits - 8)) ^ byte]
    return value
