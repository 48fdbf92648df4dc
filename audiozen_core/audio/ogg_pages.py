"""Walks through the pages of an Ogg file: Vorbis, Opus, FLAC in Ogg. RFC 3533 describes them."""

from __future__ import annotations

import struct

from audiozen_core.audio.damage import damaged, joined
from audiozen_core.audio.length import Bytes, Length

_HEADER = struct.Struct("<4sBBqIIIB")
_BEGINS, _ENDS = 2, 4  # bits of the header type


def check_ogg(file: Bytes) -> Length:
    """Checks that all pages are there and that they belong to one stream.

    libsndfile decodes the first stream only, skips pages that are missing, and ends at the last complete page.

    Raises:
        DataError: a page is missing or cut off; a second stream follows the first one.
    """
    content = file.all()
    position = 0
    has_data = ended = False
    numbers: dict[int, int] = {}  # the next page of each stream
    while content.startswith(b"OggS", position):
        table = position + _HEADER.size
        segments = content[table - 1] if table <= len(content) else 0
        end = table + segments + sum(content[table : table + segments])
        if end > len(content):
            raise damaged(file.path, f"its page at byte {position} is cut off")
        _, _, kind, _, serial, number, _, _ = _HEADER.unpack_from(content, position)
        # Streams side by side, such as audio and video, all begin before the first page with data.
        if kind & _BEGINS and has_data:
            raise joined(file.path, position)
        if numbers.get(serial, number) != number:
            raise damaged(file.path, f"pages are missing before byte {position}")
        numbers[serial] = number + 1
        has_data = has_data or not kind & _BEGINS
        ended = bool(kind & _ENDS)
        position = end
    if position < len(content) and not ended:
        raise damaged(file.path, f"what follows byte {position} is not an Ogg page")
    return Length()
