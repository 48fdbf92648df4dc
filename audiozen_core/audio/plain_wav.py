"""Decodes the samples of WAV files that need no decoder: 16-bit integers and 32-bit floats.

Most training data is of this kind. To open a decoder of libsndfile takes longer than to read a second of such samples.
"""

from __future__ import annotations

import io
import struct
import sys
from typing import Any

import numpy as np

from audiozen_core.audio.length import Length

# By the tag of the format and the bits of a sample: the encoding, as libsndfile calls it, and how its samples are read.
_ENCODINGS: dict[tuple[int, int], tuple[str, np.dtype[Any]]] = {
    (1, 16): ("PCM_16", np.dtype("<i2")),
    (3, 32): ("FLOAT", np.dtype("<f4")),
}
_MOST_CHANNELS = 64
_HIGHEST_RATE = 1_000_000
_BLOCK = 1 << 20  # samples of each channel
_FULL_SCALE = np.float32(1 / 32768)  # a power of two, so the product is exact, as in libsndfile


class PlainWav:
    """Reads samples [time, channels] from their places in the file. It has what `AudioFile` uses of a `SoundFile`.

    Args:
        stream: the file.
        start: the position of the first sample.
        frames: the number of samples in each channel.
        samplerate: the sample rate in hertz.
        channels: the number of channels.
        encoding: the encoding, as libsndfile calls it, and the dtype of a sample in the file.
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
    def of(cls, stream: io.FileIO, length: Length) -> PlainWav | None:
        """Returns the decoder of a file; None if its samples are of another kind, or its header is unusual."""
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
        """Moves to a sample, counted from the first."""
        self._place = frames

    def read(self, frames: int, *, out: np.ndarray) -> np.ndarray:
        """Reads the next samples into `out` (float32 [time, channels]), and returns those that the file has."""
        self._stream.seek(self._start + self._place * self.channels * self._dtype.itemsize)
        if self._dtype.kind == "f":
            found = self._fill(out)
        else:
            found = 0
            # Integers need memory of their own, so a file of hours is read in blocks.
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
