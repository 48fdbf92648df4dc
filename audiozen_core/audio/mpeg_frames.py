"""Counts the frames of an MP3 file (MPEG audio, layers I to III). Only this count gives a reliable length."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from audiozen_core.audio.damage import damage_error, header_error, joined_files_error
from audiozen_core.audio.length import Bytes, Length, id3_size

_KBPS = {  # the bit rates in kbit/s by (whether it is MPEG 1, layer), without the values "free" and "bad"
    (True, 1): range(32, 449, 32),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES = (44100, 48000, 32000)
_LARGEST_FRAME = 2881  # 320 kbit/s at 8000 Hz
_MONO = 0xC0  # the bits of the channel mode, all set in mono
_APE, _LYRICS = b"APETAGEX", b"LYRICSBEGIN"
_LARGEST_TAG = 1 << 24  # 16 MiB, because tags may contain pictures
_SAME = 0xFFFE0C00  # the bits of a header that are equal in all frames: sync, version, layer, sample rate


@dataclass(frozen=True, slots=True)
class _Frame:
    """The contents of the 4-byte header of a frame, such as the frame's size in bytes and its number of samples."""

    header: int
    layer: int
    mpeg1: bool
    mono: bool
    size: int
    samples: int


def check_mpeg(file: Bytes) -> Length:
    """Counts the frames of a file, and returns a length that makes the decoder read all of them.

    A file may begin with a Xing header, which contains the number of frames. If the file has no Xing header, libsndfile
    guesses the length from the size of the file and the bit rate of the first frame.

    Raises:
        DataError: the file ends earlier than its header says, or within a frame; its frames can't be counted; or the
            sample rate or the number of channels changes within the file.
    """
    content = file.read_all()
    begin = _skip_to_frame(content, file.id3_end())
    frame = _parse(content, begin)
    if frame is None:
        return Length()  # libsndfile reports what is wrong
    xing = _find_xing(content, begin, frame)
    first = begin if xing is None else begin + frame.size
    count, cut = _count(file.path, content, first, frame)
    if not count:
        raise header_error(file.path, "its MPEG frames can't be counted")
    if xing is None or not content[xing + 7] & 1:
        if cut:
            raise damage_error(file.path, f"it ends within its frame {count + 1}")
        # libsndfile guesses the number of frames from the size of the file. We report a size for which the guess can't
        # be too small: the size if each frame were as large as possible.
        largest = len(content) + (count + 1) * _LARGEST_FRAME
        return Length(frames=count * frame.samples, size=largest)
    announced = int.from_bytes(content[xing + 8 : xing + 12], "big")
    # Some encoders also count the frame that holds the header.
    if count < announced - 1 or (cut and count < announced):
        raise damage_error(file.path, f"it has {count} of {announced} frames")
    if count == announced:
        return Length()
    head = bytearray(content[:first])
    head[xing + 8 : xing + 12] = count.to_bytes(4, "big")
    if content[xing + 7] & 2:
        head[xing + 12 : xing + 16] = (len(content) - begin).to_bytes(4, "big")
    return Length(head=bytes(head))


def _parse(content: bytes, position: int) -> _Frame | None:
    """Reads the header of a frame. Returns None if these bytes are not a header or do not give the frame's size."""
    header = int.from_bytes(content[position : position + 4], "big")
    version, layer = header >> 19 & 3, 4 - (header >> 17 & 3)
    bit_rate, rate, padding = header >> 12 & 15, header >> 10 & 3, header >> 9 & 1
    if header >> 21 != 0x7FF or version == 1 or layer == 4 or bit_rate in (0, 15) or rate == 3:
        return None
    mpeg1 = version == 3
    hertz = _RATES[rate] // {3: 1, 2: 2, 0: 4}[version]
    bits = 1000 * _KBPS[mpeg1, layer][bit_rate - 1]
    if layer == 1:
        size, samples = (12 * bits // hertz + padding) * 4, 384
    else:
        samples = 1152 if layer == 2 or mpeg1 else 576
        size = samples // 8 * bits // hertz + padding
    return _Frame(header, layer, mpeg1, header & _MONO == _MONO, size, samples)


def _skip_to_frame(content: bytes, position: int) -> int:
    """Returns the position of the first frame whose header gives the correct position of the next frame."""
    while (position := content.find(b"\xff", position)) >= 0:
        frame = _parse(content, position)
        if frame is not None:
            after = position + frame.size
            following = int.from_bytes(content[after : after + 4], "big")
            if after >= len(content) or (following ^ frame.header) & _SAME == 0:
                return position
        position += 1
    return len(content)


def _count(path: Path, content: bytes, position: int, like: _Frame) -> tuple[int, bool]:
    """Counts the frames from a position on, and skips everything else, such as tags.

    Returns:
        The number of complete frames, and whether an incomplete frame follows.

    Raises:
        DataError: the decoder would drop some frames, because their sample rate or number of channels differs, or
            because they come after a tag that the decoder does not know.
    """
    count = 0
    lost = False  # whether the decoder stops before this position
    sizes: dict[int, int] = {}
    same = like.header & _SAME
    end = len(content)
    while position < end:
        header = int.from_bytes(content[position : position + 4], "big")
        if header & _SAME == same and (header & _MONO == _MONO) == like.mono and position + 4 <= end:
            # Within one file, only the bit rate and the padding change the size of a frame.
            size = sizes.get(header & 0xF200)
            if size is None:
                frame = _parse(content, position)
                size = sizes[header & 0xF200] = frame.size if frame else 0
            if size:
                if position + size > end:
                    return count, True
                count += 1
                position += size
                continue
        tag_end = _tag_end(content, position)
        # The decoder skips tags of any length that begin with one of these marks. At any other tag, it stops.
        if tag_end is not None and not content.startswith((b"ID3", b"TAG", _APE), position):
            lost = True
        position = _skip_to_frame(content, position) if tag_end is None else tag_end
        other = _parse(content, position)
        if other is not None and (lost or other.header & _SAME != same or other.mono != like.mono):
            raise joined_files_error(path, position)
    return count, False


def _tag_end(content: bytes, position: int) -> int | None:
    """Returns the end of the tag that begins at a position; None if no complete tag begins there."""
    end = None
    if content.startswith(b"ID3", position):
        end = position + id3_size(content[position : position + 10].ljust(10, b"\0"))
    elif content.startswith(b"TAG", position):  # ID3v1
        end = position + 128
    elif content.startswith(_LYRICS, position):
        ends = [content.find(mark, position) for mark in (b"LYRICS200", b"LYRICSEND")]
        end = min((place + 9 for place in ends if place >= 0), default=None)
    elif (place := content.find(_APE, position, position + _LARGEST_TAG)) >= 0:
        # The mark begins the header of the tag or, in a tag without a header, its footer. The size that follows the
        # mark does not include the header.
        size, header = int.from_bytes(content[place + 12 : place + 16], "little"), content[place + 23 : place + 24]
        if place == position:
            end = position + size + (32 if header and header[0] & 0x20 else 0)
        elif place + 32 - size == position:
            end = place + 32
    return end if end is not None and end <= len(content) else None


def _side_bytes(frame: _Frame) -> int:
    """Returns the size of a layer III frame's side information, which lies between its header and the Xing header."""
    if frame.mpeg1:
        return 17 if frame.mono else 32
    return 9 if frame.mono else 17


def _find_xing(content: bytes, first: int, frame: _Frame) -> int | None:
    """Returns the position of the Xing header in the first frame, or None.

    Other headers of this kind, such as VBRI, are not looked for, because the decoder ignores them.
    """
    if frame.layer < 3:
        return None
    # Only some encoders leave room for the frame's checksum before the Xing header.
    for place in (first + 4 + _side_bytes(frame), first + 6 + _side_bytes(frame)):
        if content[place : place + 4] in (b"Xing", b"Info"):
            return place
    return None
