"""Checks the pages of an Ogg file, which may contain Vorbis, Opus or FLAC. RFC 3533 describes the format."""

from __future__ import annotations

import struct
import zlib

from audiozen_core.audio.damage import damage_error, joined_files_error
from audiozen_core.audio.length import Bytes, Length

_HEADER = struct.Struct("<4sBBqIIIB")
_MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))  # each byte with its bits in reverse order
_BEGINS, _ENDS = 2, 4  # bits of the header type


def check_ogg(file: Bytes) -> Length:
    """Checks that no page is missing or changed, and that the file does not consist of several streams in sequence.

    libsndfile decodes only the first stream, skips missing and changed pages without an error, and stops at the last
    complete page. The last page of a stream has an end mark. If the mark is missing, pages may be missing at the end,
    but some programs never write the mark.

    Raises:
        DataError: a page is missing, cut off or changed; a second stream follows the first one.
    """
    content = file.read_all()
    position = 0
    has_data = ended = False
    numbers: dict[int, int] = {}  # the next page of each stream
    open_streams: set[int] = set()
    while content.startswith(b"OggS", position):
        table = position + _HEADER.size
        segments = content[table - 1] if table <= len(content) else 0
        end = table + segments + sum(content[table : table + segments])
        if end > len(content):
            raise damage_error(file.path, f"its page at byte {position} is cut off")
        _, _, kind, _, serial, number, checksum, _ = _HEADER.unpack_from(content, position)
        if _checksum(content[position : position + 22] + bytes(4) + content[position + 26 : end]) != checksum:
            raise damage_error(file.path, f"its page at byte {position} has changed")
        # Multiplexed streams, such as audio and video, all begin before the first page with data.
        if kind & _BEGINS and has_data:
            raise joined_files_error(file.path, position)
        if numbers.get(serial, number) != number:
            raise damage_error(file.path, f"pages are missing before byte {position}")
        numbers[serial] = number + 1
        has_data = has_data or not kind & _BEGINS
        ended = bool(kind & _ENDS)
        open_streams = open_streams - {serial} if ended else open_streams | {serial}
        position = end
    if position < len(content) and not ended:
        raise damage_error(file.path, f"what follows byte {position} is not an Ogg page")
    return Length(may_be_cut_off=bool(open_streams))


def _checksum(page: bytes) -> int:
    """Returns the CRC-32 of Ogg. zlib uses the same polynomial, but reverses the order of the bits and inverts them."""
    inverted = zlib.crc32(page.translate(_MIRRORED), 0xFFFFFFFF)
    return int(f"{inverted ^ 0xFFFFFFFF:032b}"[::-1], 2)
