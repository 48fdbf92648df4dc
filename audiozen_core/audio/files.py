"""Reads and writes audio files, with an error for each way in which a file can be unreadable.

libsndfile supports WAV, FLAC, Ogg Vorbis and Opus, MP3, AIFF and more. Files are never resampled: if the sample rate
differs from that of the experiment, an error says how to convert the file.

Every read returns the same samples as a read of the whole file, and a whole read returns all audio of the file. Where
libsndfile would not do this, the file is decoded from its start, gets a corrected header in memory, or is an error.
"""

from __future__ import annotations

import io
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

from audiozen_core.audio.damage import damaged, ffmpeg, misleading, tagged, undecodable, unverifiable
from audiozen_core.audio.flac_frames import check_flac, find_joined
from audiozen_core.audio.length import Bytes, Length, PatchedFile
from audiozen_core.audio.mpeg_frames import check_mpeg
from audiozen_core.audio.ogg_pages import check_ogg
from audiozen_core.audio.pcm_chunks import BEGINNINGS, check_pcm
from audiozen_core.errors import DataError
from audiozen_core.logging import get_logger
from audiozen_core.storage.atomic import INCOMPLETE, make_folder, write_whole

# The bytes of a sample, for the encodings in which a sample has a fixed place. In others, libsndfile's `seek` is not
# exact: an MP3 frame needs earlier frames, and a Vorbis block overlaps with the one before.
_SAMPLE_BYTES = {
    "PCM_S8": 1, "PCM_U8": 1, "PCM_16": 2, "PCM_24": 3, "PCM_32": 4, "FLOAT": 4, "DOUBLE": 8, "ULAW": 1, "ALAW": 1
}  # fmt: skip

# A file of these formats says whether it is complete. We check it, except for HTK, where libsndfile does.
_VERIFIED = ("WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "CAF", "NIST", "FLAC", "OGG", "MP3", "HTK")

_UNKNOWN_FRAMES = 1 << 62  # libsndfile gives a number near 2 ** 63 if it does not know the length


@dataclass(frozen=True, slots=True)
class AudioInfo:
    """The header of an audio file.

    Attributes:
        frames: the number of samples in each channel.
        sr: the sample rate, in hertz.
        channels: the number of channels.
        may_be_cut_off: whether nothing shows that the audio is complete: a WAV file, for example, whose header gives no
            size because it was streamed, or an Ogg file without the mark at its end.
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
    """An open audio file, with its header and access to any segment of its samples. `open_audio` returns one.

    Attributes:
        path: the file.
        info: its header.

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
        # Read once: for each of these two, soundfile searches a table at each access.
        self._format = self._decoder.format
        self._subtype = self._decoder.subtype
        self._sample_bytes = None if self._format == "OGG" else _SAMPLE_BYTES.get(self._subtype)
        try:
            self._check_form()
            self.info = AudioInfo(
                self._frames(), self._decoder.samplerate, self._decoder.channels, self._length.may_be_cut_off
            )
        except DataError:
            self.close()
            raise

    def close(self) -> None:
        """Closes the decoder. `open_audio` does this at the end of its block."""
        self._decoder.close()

    def read(self, start: int = 0, num_frames: int | None = None, *, channel: int | Literal["mean"] = "mean") -> Tensor:
        """Reads a segment as a mono wave.

        Args:
            start: the first sample to read.
            num_frames: the number of samples to read; None reads to the end.
            channel: what to read from a file with several channels: `"mean"`, their average, or the index of one. A
                file with one channel is read as it is.

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
            raise undecodable(self.path, str(error), self._format) from error
        if len(samples) < end - start:
            raise damaged(self.path, f"it ends after {start + len(samples)} of {self.info.frames} samples")
        wave = _to_mono(self.path, samples, channel)
        if not np.isfinite(wave).all():
            place = start + int(np.flatnonzero(~np.isfinite(wave))[0])
            seconds = place / self.info.sr
            raise DataError(
                f"`{self.path}` has a sample that is NaN or infinite, the first at {place} ({seconds:.3f} s)",
                remedy="create the file again, or leave it out",
            )
        return torch.from_numpy(wave)

    def _decode(self, start: int, end: int) -> np.ndarray:
        samples: np.ndarray
        if self._sample_bytes is not None:
            self._decoder.seek(start)
            samples = self._decoder.read(end - start, dtype="float32", always_2d=True)
            # The check when a FLAC file is opened looks at parts of it only, so that reading a segment stays cheap.
            if self._format == "FLAC" and len(samples) == self.info.frames:
                find_joined(self._bytes)
            return samples
        # Decoding begins at the start, with a decoder that has not read anything: soundfile seeks after each read.
        if not self._is_new:
            self._decoder.close()
            self._decoder = self._new_decoder()
        self._is_new = False
        samples = self._decoder.read(end, dtype="float32", always_2d=True)
        return samples[start:].copy() if start else samples  # a view would keep all that comes before in memory

    def _new_decoder(self) -> soundfile.SoundFile:
        length = self._length
        try:
            if length.head or length.size is not None:
                return soundfile.SoundFile(PatchedFile(self._stream, length.head, length.size or self._bytes.size))
            # libsndfile gets the file descriptor, because it would read a Python file object through slow callbacks.
            self._stream.seek(0)
            return soundfile.SoundFile(self._stream.fileno(), closefd=False)
        except soundfile.LibsndfileError as error:
            raise DataError(
                f"`{self.path}` can't be read as audio: {error.error_string.strip()}",
                remedy="libsndfile reads WAV, FLAC, Ogg, MP3, AIFF; convert other formats: "
                f"{ffmpeg(self.path, folder='converted')}",
            ) from error

    def _check_form(self) -> None:
        """Raises an error if the form of the file does not tell whether all of it is there."""
        if self._format not in _VERIFIED:
            raise unverifiable(self.path, self._format)
        # libsndfile decodes a GSM 6.10 block that is cut off, and one too many if a byte for padding follows.
        if self._subtype == "GSM610":
            raise unverifiable(self.path, "GSM 6.10")
        if self._format == "NIST" and self._length.data_bytes is None:
            raise unverifiable(self.path, "NIST SPHERE without `sample_count`")

    def _frames(self) -> int:
        """Returns the number of samples, after comparing what the decoder will return with what the file has."""
        decodable, frames = self._decoder.frames, self._length.frames
        if frames is None and self._sample_bytes and self._length.data_bytes is not None:
            frames = self._length.data_bytes // (self._sample_bytes * self._decoder.channels)
        if frames is None and decodable < _UNKNOWN_FRAMES:
            frames = decodable
        if frames == 0:
            raise DataError(f"`{self.path}` has no samples", remedy="create the file again, or leave it out")
        if frames is None or (self._format != "MP3" and self._subtype.startswith("MPEG")):
            raise misleading(self.path, "it does not say how many samples the file has")
        if decodable < frames:
            raise misleading(self.path, f"the file has {frames} samples, of which {decodable} would be read")
        return frames


@contextmanager
def open_audio(path: str | Path, *, sr: int | None = None) -> Iterator[AudioFile]:
    """Opens an audio file once, to read its header and any segment of its samples.

    Args:
        path: the file.
        sr: the sample rate that the file must have, in hertz; None accepts any.

    Raises:
        DataError: the file is missing, empty, or shorter than its header says, has another sample rate, is not audio,
            consists of several files joined byte by byte, has a header that would make libsndfile return less than all
            of its audio, or is of a format that does not tell whether a file is complete.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     clipped = write_audio(f"{folder}/a.wav", torch.tensor([0.0, 0.25, 0.5]), sr=16000)
        ...     with open_audio(f"{folder}/a.wav", sr=16000) as audio:
        ...         audio.info.frames, audio.read(start=1, num_frames=1).tolist()
        (3, [0.25])
    """
    path = path if isinstance(path, Path) else Path(path)  # parsing it again takes as long as opening the file
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
        channel: what to read from a file with several channels: `"mean"`, their average, or the index of one. A file
            with one channel is read as it is.

    Returns:
        The wave, float32 [time]; full scale is 1.

    Raises:
        DataError: as for `open_audio` and `AudioFile.read`.
    """
    with open_audio(path, sr=sr) as audio:
        return audio.read(start, num_frames, channel=channel)


def write_audio(path: str | Path, wave: Tensor, sr: int, *, encoding: Literal["pcm_16", "float"] = "pcm_16") -> int:
    """Writes a mono wave as a WAV file, completely or not at all, and makes its folder if that is missing.

    With `pcm_16`, samples are rounded to steps of 1/32768, and samples beyond full scale are clipped, with a warning in
    the log. The wave is not scaled down instead, because its level could then not be compared with that of other files.
    With `float` (32 bits) the samples are written as they are.

    Args:
        path: the file; its name ends in `.wav`.
        wave: [time], on any device and of any floating type.
        sr: the sample rate, in hertz.
        encoding: `pcm_16` or `float`.

    Returns:
        The number of clipped samples. If there are any, a warning in the log names the file. A file in the results of a
        test or a prediction is named within the result folder, because this folder is renamed at the end.

    Raises:
        DataError: the wave is not [time], or has a sample that is NaN or infinite; the name does not end in `.wav`;
            the file can't be written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     clipped = write_audio(f"{folder}/a.wav", torch.tensor([0.0, 0.5, 1.5]), sr=16000)
        ...     clipped, read_audio(f"{folder}/a.wav", sr=16000)[:2].tolist()
        (1, [0.0, 0.5])
    """
    path = Path(path)
    samples = wave.detach().to("cpu", torch.float32).numpy()
    if samples.ndim != 1:
        raise DataError(f"the wave for `{path}` has the shape {list(wave.shape)}", remedy="give it as [time]")
    if path.suffix.lower() != ".wav":
        raise DataError(f"`{path}` must end in `.wav`", remedy=f"name it `{path.with_suffix('.wav').name}`")
    if not np.isfinite(samples).all():
        raise DataError(
            f"the wave for `{path}` has a sample that is NaN or infinite, so it was not written",
            remedy="find the part of the model that produces the NaN or infinity",
        )
    clipped, peak = 0, float(np.abs(samples).max(initial=0.0))
    if encoding == "pcm_16":
        scaled = np.round(samples.astype(np.float64) * 32768)
        samples = scaled.clip(-32768, 32767).astype(np.int16)
        clipped = int((np.abs(scaled) > 32768).sum())
    memory = io.BytesIO()
    soundfile.write(memory, samples, sr, format="WAV", subtype="PCM_16" if encoding == "pcm_16" else "FLOAT")
    content = memory.getvalue()
    if encoding == "float":
        # libsndfile writes the time of day into this chunk, but the same wave must give the same file.
        stamp = content.index(b"PEAK") + 12
        content = content[:stamp] + bytes(4) + content[stamp + 4 :]
    try:
        make_folder(path.parent)
        write_whole(path, content)
    except OSError as error:
        raise DataError(
            f"`{path}` can't be written: {error.strerror or error}",
            remedy="check the free disk space and the permissions of the folder",
        ) from error
    if clipped:
        get_logger().warning(
            f"{clipped} of {len(samples)} samples of `{_lasting(path)}` are louder than full scale and were clipped",
            peak=round(peak, 3),
            remedy="lower the level of the data or of the model's output",
        )
    return clipped


def _lasting(path: Path) -> Path:
    """Returns a path for the log. A path in a result folder is relative to it, because the folder is renamed later."""
    results = next((folder for folder in path.parents if folder.name.endswith(INCOMPLETE)), None)
    return path if results is None else path.relative_to(results)


def _open_bytes(path: Path) -> io.FileIO:
    """Opens a file. Raises a `DataError` if it is missing, empty, or not a regular file."""
    try:
        # This check comes before opening the file, because opening a named pipe waits until somebody writes to it.
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            what = "a folder" if stat.S_ISDIR(status.st_mode) else "not a regular file"
            raise DataError(f"`{path}` is {what}", remedy="give the path of an audio file")
        if status.st_size == 0:
            raise DataError(f"`{path}` is empty (0 bytes)", remedy="create the file again, or leave it out")
        return io.FileIO(path)
    except FileNotFoundError as error:
        remedy = f"relative paths are resolved from `{Path.cwd()}`"
        raise DataError(f"the audio file `{path}` does not exist", remedy=remedy) from error
    except OSError as error:
        raise DataError(f"`{path}` can't be read: {error.strerror}", remedy="check its permissions") from error


def _check_length(file: Bytes) -> Length:
    """Compares the header with the bytes of the file. Raises a `DataError` if not all audio could be read."""
    after_tags = file.id3_end() if file.head[:3] == b"ID3" else 0
    magic = file.at(after_tags, 4)
    if magic == b"fLaC":
        return check_flac(file)
    if magic == b"OggS":
        return check_ogg(file)
    if after_tags and file.at(after_tags, 8).startswith(BEGINNINGS):
        raise tagged(file.path, after_tags)
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
