"""Reads audio files, and raises a specific error for each way in which a file can be unreadable.

Plain WAV files are read directly. libsndfile decodes all other files: other WAV files, FLAC, Ogg Vorbis and Opus, MP3,
AIFF and more. Files are never resampled: if the sample rate differs from the experiment's rate, an error says how to
convert the file.

Reading a segment returns the same samples as reading the whole file, and reading the whole file returns all of its
audio. Where libsndfile does not guarantee this, the file is decoded from its start, its header is corrected in memory,
or an error is raised.
"""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import soundfile
import torch
from torch import Tensor

from audiozen_core.audio.damage import damage_error, decoding_error, ffmpeg, header_error, tag_error, unverifiable_error
from audiozen_core.audio.flac_frames import check_flac, find_joined
from audiozen_core.audio.length import Bytes, Length, PatchedFile
from audiozen_core.audio.mpeg_frames import check_mpeg
from audiozen_core.audio.ogg_pages import check_ogg
from audiozen_core.audio.pcm_chunks import BEGINNINGS, check_pcm
from audiozen_core.audio.plain_wav import PlainWav
from audiozen_core.errors import DataError

# The bytes of a sample, for the encodings whose samples have a fixed size. For other encodings, libsndfile's `seek` is
# not exact: an MP3 frame needs earlier frames, and a Vorbis block overlaps with the previous block.
_SAMPLE_BYTES = {
    "PCM_S8": 1, "PCM_U8": 1, "PCM_16": 2, "PCM_24": 3, "PCM_32": 4, "FLOAT": 4, "DOUBLE": 8, "ULAW": 1, "ALAW": 1
}  # fmt: skip

_INTEGERS = frozenset(_SAMPLE_BYTES) - {"FLOAT", "DOUBLE"}  # integer samples are never NaN or infinite

# The formats that show whether a file is complete. We check this ourselves, except for HTK, which libsndfile checks.
_VERIFIED = ("WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "CAF", "NIST", "FLAC", "OGG", "MP3", "HTK")

_CHECKED_AT_ONCE = 1 << 20  # samples

# O_NONBLOCK, because opening a named pipe would otherwise wait for a writer.
_OPEN = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)

_UNKNOWN_FRAMES = 1 << 62  # libsndfile returns a number near 2 ** 63 if it does not know the length


@dataclass(frozen=True, slots=True)
class AudioInfo:
    """The header of an audio file.

    Attributes:
        frames: the number of samples in each channel.
        sr: the sample rate, in hertz.
        channels: the number of channels.
        may_be_cut_off: whether the audio may be incomplete, because the file does not show where it ends. Examples are
            a streamed WAV file whose header has no size, and an Ogg file without an end mark.
    """

    frames: int
    sr: int
    channels: int
    may_be_cut_off: bool = False

    @property
    def seconds(self) -> float:
        """The duration in seconds."""
        return self.frames / self.sr


class AudioFile:
    """An open audio file, as returned by `open_audio`: its header, and access to any segment of its samples.

    Attributes:
        path: the file.
        info: the header of the file.
        subtype: the encoding of the samples, in libsndfile's terms, such as `PCM_16`.

    Args:
        path: the file.
        stream: the file, opened for reading bytes.
    """

    def __init__(self, path: Path, stream: io.FileIO) -> None:
        self.path = path
        self._stream = stream
        self._bytes = Bytes(path, stream)
        self._length = _check_length(self._bytes)
        self._decoder = self._new_decoder()
        self._is_new = True
        # The format is stored here, because soundfile searches a table whenever `format` or `subtype` is read.
        self._format = self._decoder.format
        self.subtype: str = self._decoder.subtype
        self._sample_bytes = None if self._format == "OGG" else _SAMPLE_BYTES.get(self.subtype)
        try:
            self._check_form()
            self.info = AudioInfo(
                self._frames(), self._decoder.samplerate, self._decoder.channels, self._length.may_be_cut_off
            )
        except DataError:
            self.close()
            raise

    def close(self) -> None:
        """Closes the decoder. `open_audio` calls this at the end of its block."""
        self._decoder.close()

    def read(self, start: int = 0, num_frames: int | None = None, *, channel: int | Literal["mean"] = "mean") -> Tensor:
        """Reads a segment as a mono wave.

        Args:
            start: the first sample to read.
            num_frames: the number of samples to read; None reads to the end.
            channel: `"mean"` for the average of all channels, or the index of a channel. It has no effect on a file
                with one channel.

        Returns:
            The wave, float32 [time]; full scale is 1.

        Raises:
            DataError: the segment reaches past the end of the file; the file is truncated or damaged, or lacks the
                channel; the segment has a sample that is NaN or infinite.
        """
        end = self.info.frames if num_frames is None else start + num_frames
        if not 0 <= start <= end <= self.info.frames:
            raise DataError(
                f"samples {start} to {end} of `{self.path}` are needed, but it has {self.info.frames} samples",
                remedy="leave the file out, or read a segment within it",
            )
        try:
            samples = self._decode(start, end)
        except soundfile.LibsndfileError as error:
            raise decoding_error(self.path, str(error), self._format) from error
        if len(samples) < end - start:
            raise damage_error(self.path, f"it ends after {start + len(samples)} of {self.info.frames} samples")
        wave = _to_mono(self.path, samples, channel)
        if self.subtype not in _INTEGERS:
            self._check_finite(wave, start)
        return torch.from_numpy(wave)

    def blocks(self, num_frames: int) -> Iterator[Tensor]:
        """Reads the whole file once, from its start, with all channels.

        Args:
            num_frames: the number of samples of a block.

        Yields:
            The samples [channels, time], float32, in blocks; full scale is 1. In total, there are `info.frames` samples
            in each channel.

        Raises:
            DataError: as for `read`.
        """
        self._renew()
        for start in range(0, self.info.frames, num_frames):
            wanted = min(num_frames, self.info.frames - start)
            try:
                samples = self._next(wanted)
            except soundfile.LibsndfileError as error:
                raise decoding_error(self.path, str(error), self._format) from error
            if len(samples) < wanted:
                raise damage_error(self.path, f"it ends after {start + len(samples)} of {self.info.frames} samples")
            if self.subtype not in _INTEGERS:
                self._check_finite(samples, start)
            yield torch.from_numpy(np.ascontiguousarray(samples.T))
        self._renew()
        if self._format == "FLAC":
            find_joined(self._bytes)

    def _check_finite(self, samples: np.ndarray, start: int) -> None:
        """Raises a `DataError` if a sample is NaN or infinite. The samples [time, …] begin at `start` in the file."""
        # The samples are checked in blocks, because the booleans for an hour of samples would take 58 MB.
        for begin in range(0, len(samples), _CHECKED_AT_ONCE):
            finite = np.isfinite(samples[begin : begin + _CHECKED_AT_ONCE])
            if not finite.all():
                place = start + begin + int(np.argwhere(~finite)[0][0])
                seconds = place / self.info.sr
                raise DataError(
                    f"`{self.path}` has a sample that is NaN or infinite, the first at {place} ({seconds:.3f} s)",
                    remedy="create the file again, or leave it out",
                )

    def _decode(self, start: int, end: int) -> np.ndarray:
        samples: np.ndarray
        if self._sample_bytes is not None:
            if not self._is_new:
                self._renew()
            self._decoder.seek(start)
            samples = self._next(end - start)
            # Opening a FLAC file checks only parts of it, so that reading a segment is cheap. Reading the whole file
            # checks the remaining parts.
            if self._format == "FLAC" and len(samples) == self.info.frames:
                find_joined(self._bytes)
            # The FLAC decoder can't seek back from the end.
            self._is_new = self._format != "FLAC" or end < self.info.frames
            return samples
        # Decode from the start of the file. This needs a decoder that has not read anything yet.
        if not self._is_new:
            self._renew()
        self._is_new = False
        samples = self._next(end)
        return samples[start:].copy() if start else samples  # a view would keep the samples before `start` in memory

    def _next(self, count: int) -> np.ndarray:
        """Decodes the next `count` samples, or fewer at the end of the file: float32 [time, channels]."""
        # Memory that torch allocates has the alignment that a batch needs, so a long file is not copied later.
        memory = torch.empty(count, self._decoder.channels).numpy()
        samples: np.ndarray = self._decoder.read(count, out=memory)
        return samples

    def _renew(self) -> None:
        """Replaces the decoder by a new decoder at the start of the file."""
        self._decoder.close()
        self._decoder = self._new_decoder()
        self._is_new = True

    def _new_decoder(self) -> soundfile.SoundFile | PlainWav:
        length = self._length
        if (plain := PlainWav.from_stream(self._stream, length)) is not None:
            return plain
        file: PatchedFile | int = self._stream.fileno()
        if length.head or length.size is not None:
            file = PatchedFile(self._stream, length.head, length.size or self._bytes.size)
        else:
            # libsndfile gets the file descriptor, because it would read a Python file object through slow callbacks.
            self._stream.seek(0)
        try:
            decoder = soundfile.SoundFile(file, closefd=False)
        except soundfile.LibsndfileError as error:
            raise DataError(
                f"`{self.path}` can't be read as audio: {error.error_string.strip()}",
                remedy="libsndfile reads WAV, FLAC, Ogg, MP3, AIFF; convert other formats: "
                f"{ffmpeg(self.path, folder='converted')}",
            ) from error
        # soundfile would otherwise seek after each read, which is slow for FLAC, and not exact for every format.
        decoder._info.seekable = 0
        return decoder

    def _check_form(self) -> None:
        """Raises a `DataError` if the format does not show whether the file is complete."""
        if self._format not in _VERIFIED:
            raise unverifiable_error(self.path, self._format)
        # libsndfile also decodes an incomplete GSM 6.10 block, and decodes a padding byte as an additional block.
        if self.subtype == "GSM610":
            raise unverifiable_error(self.path, "GSM 6.10")
        if self._format == "NIST" and self._length.data_bytes is None:
            raise unverifiable_error(self.path, "NIST SPHERE without `sample_count`")

    def _frames(self) -> int:
        """Returns the number of samples in each channel. Raises a `DataError` if the decoder would miss samples."""
        decodable, frames = self._decoder.frames, self._length.frames
        if frames is None and self._sample_bytes and self._length.data_bytes is not None:
            frames = self._length.data_bytes // (self._sample_bytes * self._decoder.channels)
        if frames is None and decodable < _UNKNOWN_FRAMES:
            frames = decodable
        if frames == 0:
            raise DataError(f"`{self.path}` has no samples", remedy="create the file again, or leave it out")
        if frames is None or (self._format != "MP3" and self.subtype.startswith("MPEG")):
            raise header_error(self.path, "it does not say how many samples the file has")
        if decodable < frames:
            raise header_error(self.path, f"the file has {frames} samples, but only {decodable} would be read")
        return frames


@contextmanager
def open_audio(path: str | Path, *, sr: int | None = None) -> Iterator[AudioFile]:
    """Opens an audio file once, to read its header and any segment of its samples.

    Args:
        path: the file.
        sr: the sample rate that the file must have, in hertz; None accepts any.

    Raises:
        DataError: the file is missing, empty, not audio, or shorter than its header says; it has another sample rate;
            it consists of several files joined byte by byte; its header would make libsndfile return only a part of the
            audio; or its format does not show whether a file is complete.

    Example:
        >>> import tempfile
        >>> from audiozen_core.audio.writing import write_audio
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     clipped = write_audio(f"{folder}/a.wav", torch.tensor([0.0, 0.25, 0.5]), sr=16000)
        ...     with open_audio(f"{folder}/a.wav", sr=16000) as audio:
        ...         audio.info.frames, audio.read(start=1, num_frames=1).tolist()
        (3, [0.25])
    """
    path = path if isinstance(path, Path) else Path(path)  # creating a `Path` takes as long as opening the file
    with _open_bytes(path) as stream, closing(AudioFile(path, stream)) as audio:
        if sr is not None and audio.info.sr != sr:
            raise _wrong_rate(path, audio.info.sr, sr)
        yield audio


def audio_info(path: str | Path, *, sr: int | None = None) -> AudioInfo:
    """Reads the header of an audio file.

    Args:
        path: the file.
        sr: the sample rate that the file must have, in hertz; None accepts any.

    Raises:
        DataError: as for `open_audio`.
    """
    with open_audio(path, sr=sr) as audio:
        return audio.info


def read_audio(
    path: str | Path,
    *,
    sr: int,
    start: int = 0,
    num_frames: int | None = None,
    channel: int | Literal["mean"] = "mean",
) -> Tensor:
    """Reads an audio file, or a segment of it, as a mono wave.

    Args:
        path: the file.
        sr: the sample rate that the file must have, in hertz.
        start: the first sample to read.
        num_frames: the number of samples to read; None reads to the end.
        channel: `"mean"` for the average of all channels, or the index of a channel. It has no effect on a file with
            one channel.

    Returns:
        The wave, float32 [time]; full scale is 1.

    Raises:
        DataError: as for `open_audio` and `AudioFile.read`.
    """
    with open_audio(path, sr=sr) as audio:
        return audio.read(start, num_frames, channel=channel)


def _open_bytes(path: Path) -> io.FileIO:
    """Opens a file. Raises a `DataError` if it is missing, empty, or not a regular file."""
    try:
        descriptor = os.open(path, _OPEN)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                what = "a folder" if stat.S_ISDIR(status.st_mode) else "not a regular file"
                raise DataError(f"`{path}` is {what}", remedy="give the path of an audio file")
            if status.st_size == 0:
                raise DataError(f"`{path}` is empty (0 bytes)", remedy="create the file again, or leave it out")
            return io.FileIO(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
    except FileNotFoundError as error:
        remedy = f"relative paths are resolved from `{Path.cwd()}`"
        raise DataError(f"the audio file `{path}` does not exist", remedy=remedy) from error
    except OSError as error:
        raise DataError(f"`{path}` can't be read: {error.strerror}", remedy="check its permissions") from error


def _check_length(file: Bytes) -> Length:
    """Compares the header with the bytes of the file. Raises a `DataError` if a part of the audio can't be read."""
    after_tags = file.id3_end() if file.head[:3] == b"ID3" else 0
    magic = file.read_at(after_tags, 4)
    if magic == b"fLaC":
        return check_flac(file)
    if magic == b"OggS":
        return check_ogg(file)
    if after_tags and file.read_at(after_tags, 8).startswith(BEGINNINGS):
        raise tag_error(file.path, after_tags)
    if after_tags or (magic[:1] == b"\xff" and len(magic) == 4 and magic[1] >= 0xE0):
        return check_mpeg(file)
    return check_pcm(file)


def _to_mono(path: Path, samples: np.ndarray, channel: int | Literal["mean"]) -> np.ndarray:
    channels = samples.shape[1]
    if channels == 1:
        return samples[:, 0]
    if channel == "mean":
        return np.asarray(samples.mean(axis=1), np.float32)
    if not 0 <= channel < channels:
        raise DataError(
            f"channel {channel} of `{path}` is needed, but it has {channels} channels",
            remedy=f'choose a channel from 0 to {channels - 1}, or "mean"',
        )
    return np.ascontiguousarray(samples[:, channel])


def _wrong_rate(path: Path, rate: int, wanted: int) -> DataError:
    return DataError(
        f"`{path}` has a sample rate of {rate} Hz, but {wanted} Hz is needed",
        remedy=f"resample it: {ffmpeg(path, folder='resampled', output=f'-ar {wanted}')} "
        f"(or set `sr = {rate}` in [acoustics])",
    )
