"""Reads WAV files with 16-bit integers or 32-bit floats, and writes 16-bit integers, without libsndfile.

Most training data and most results have one of these encodings. Opening a file in libsndfile takes longer than reading
or writing one second of audio in these encodings.
"""

from __future__ import annotations

import errno
import io
import os
import struct
import sys
from typing import Any

import numpy as np

from audiozen_core.audio.length import Length

_HEADER_BYTES = 44
_MOST_SAMPLE_BYTES = 2**32 - _HEADER_BYTES  # the header has 32 bits for the size of the file
# Maps (format tag, bits per sample) to libsndfile's name of the encoding and the dtype of a sample.
_ENCODINGS: dict[tuple[int, int], tuple[str, np.dtype[Any]]] = {
    (1, 16): ("PCM_16", np.dtype("<i2")),
    (3, 32): ("FLOAT", np.dtype("<f4")),
}
_MOST_CHANNELS = 64
_HIGHEST_RATE = 1_000_000
_BLOCK = 1 << 20  # samples of each channel
_FULL_SCALE = np.float32(1 / 32768)  # a power of two, so the product is exact, as in libsndfile


class PlainWav:
    """Reads samples [time, channels] directly from a file. It has the methods of `SoundFile` that `AudioFile` uses.

    Args:
        stream: the file.
        start: the position of the first sample.
        frames: the number of samples in each channel.
        samplerate: the sample rate in hertz.
        channels: the number of channels.
        encoding: libsndfile's name of the encoding, and the dtype of a sample in the file.
    """

    format = "WAV"

    def __init__(
        self,
        stream: io.FileIO,
        *,
        start: int,
        frames: int,
        samplerate: int,
        channels: int,
        encoding: tuple[str, np.dtype[Any]],
    ) -> None:
        self._stream = stream
        self._start = start
        self._place = 0
        self.frames = frames
        self.samplerate = samplerate
        self.channels = channels
        self.subtype, self._dtype = encoding

    @classmethod
    def from_stream(cls, stream: io.FileIO, length: Length) -> PlainWav | None:
        """Returns the decoder for a file; None if the file has another encoding or an unusual header."""
        data_bytes = length.data_bytes
        if data_bytes is None or len(length.wav_format) < 16 or length.head or sys.byteorder != "little":
            return None
        tag, channels, samplerate, _, block, bits = struct.unpack_from("<HHIIHH", length.wav_format)
        encoding = _ENCODINGS.get((tag, bits))
        usual = 1 <= channels <= _MOST_CHANNELS and 1 <= samplerate <= _HIGHEST_RATE and block == channels * bits // 8
        if encoding is None or not usual:
            return None
        return cls(
            stream,
            start=length.data_start,
            frames=data_bytes // block,
            samplerate=samplerate,
            channels=channels,
            encoding=encoding,
        )

    def seek(self, frames: int) -> None:
        """Moves to a sample, counted from the first sample of the file."""
        self._place = frames

    def read(self, frames: int, *, out: np.ndarray) -> np.ndarray:
        """Reads the next samples into `out` (float32 [time, channels]), and returns the filled part of `out`."""
        self._stream.seek(self._start + self._place * self.channels * self._dtype.itemsize)
        if self._dtype.kind == "f":
            found = self._fill(out)
        else:
            found = 0
            # Integers need a buffer of their own, so a long file is read in blocks.
            integers = np.empty((min(frames, _BLOCK), self.channels), self._dtype)
            for start in range(0, frames, _BLOCK):
                part = out[start : start + _BLOCK]
                count = self._fill(integers[: len(part)])
                np.multiply(integers[:count], _FULL_SCALE, out=part[:count])
                found += count
                if count < len(part):
                    break
        self._place += found
        return out if found == frames else out[:found]

    def _fill(self, samples: np.ndarray) -> int:
        """Reads bytes of the file into `samples`, and returns how many of the samples are complete."""
        rest = samples.data.cast("B") if samples.size else memoryview(b"")
        # The system may return only a part of the bytes.
        while rest and (count := self._stream.readinto(rest)):
            rest = rest[count:]
        return len(samples) - -(-len(rest) // (self.channels * self._dtype.itemsize))

    def close(self) -> None:
        """Does nothing: the stream belongs to the caller."""


class PlainWavWriter:
    """Writes samples of 16-bit integers. The file has the same bytes as a file that libsndfile writes.

    Args:
        file: the file, open at its start.
        samplerate: the sample rate in hertz.
        channels: the number of channels.
        frames: the number of samples that each channel will have, if it is known. The header is then written only once.
    """

    def __init__(self, file: io.RawIOBase | io.BytesIO, samplerate: int, channels: int, frames: int) -> None:
        self._file = file
        self._samplerate = samplerate
        self._channels = channels
        self._header = self._header_for(frames)
        self._data_bytes = 0
        self._is_new = True

    @staticmethod
    def supports(samplerate: int, channels: int, form: str, subtype: str) -> bool:
        """Returns whether a format can be written. The arguments are as in `soundfile.SoundFile`."""
        is_usual = 1 <= channels <= _MOST_CHANNELS and 1 <= samplerate <= _HIGHEST_RATE
        return (form, subtype) == ("WAV", "PCM_16") and is_usual

    def write(self, samples: np.ndarray) -> None:
        """Appends samples int16 [time, channels], or [time] for one channel.

        Raises:
            OSError: the file would be larger than a WAV file can be.
        """
        data = samples.astype("<i2", order="C", copy=False)
        _check_size(self._data_bytes + data.nbytes)
        if self._is_new:
            self._file.write(self._header)
            self._is_new = False
        self._file.write(data.data.cast("B"))
        self._data_bytes += data.nbytes

    def close(self) -> None:
        """Corrects the header if the number of samples differs from the expected number."""
        header = self._header_for(self._data_bytes // (2 * self._channels))
        if self._is_new or header != self._header:
            self._file.seek(0)
            self._file.write(header)

    def _header_for(self, frames: int) -> bytes:
        block = 2 * self._channels
        data_bytes = frames * block
        _check_size(data_bytes)
        size = struct.pack("<I", _HEADER_BYTES - 8 + data_bytes)
        form = struct.pack("<IHHIIHH", 16, 1, self._channels, self._samplerate, self._samplerate * block, block, 16)
        return b"".join((b"RIFF", size, b"WAVEfmt ", form, b"data", struct.pack("<I", data_bytes)))


def _check_size(data_bytes: int) -> None:
    if data_bytes > _MOST_SAMPLE_BYTES:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
