"""Reads, writes and lists audio files, with an error for each way in which a file can be unreadable.

libsndfile supports WAV, FLAC, Ogg Vorbis and Opus, MP3, AIFF and more. Files are never resampled: if the sample rate
differs from that of the experiment, an error says how to convert the file.
"""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import soundfile
import torch
from torch import Tensor

from audiozen_core.errors import DataError
from audiozen_core.storage.atomic import make_folder, write_whole

AUDIO_SUFFIXES = (".aif", ".aiff", ".au", ".caf", ".flac", ".mp3", ".ogg", ".opus", ".rf64", ".sph", ".w64", ".wav")
"""The endings that `list_audio` looks for, in upper or lower case."""

# Programs that stream a WAV to a pipe write one of these as its size.
_UNKNOWN_SIZES = (0, 0x7FFFFFFF, 0xFFFFFFFF)


@dataclass(frozen=True, slots=True)
class AudioInfo:
    """The header of an audio file.

    Attributes:
        frames: the number of samples in each channel.
        sr: the sample rate, in hertz.
        channels: the number of channels.
    """

    frames: int
    sr: int
    channels: int

    @property
    def seconds(self) -> float:
        """The duration in seconds."""
        return self.frames / self.sr


class AudioFile:
    """An open audio file, with its header and access to any stretch of its samples. `open_audio` returns one.

    Attributes:
        path: the file.
        info: its header.
    """

    def __init__(self, path: Path, decoder: soundfile.SoundFile) -> None:
        self.path = path
        self.info = AudioInfo(decoder.frames, decoder.samplerate, decoder.channels)
        self._decoder = decoder

    def read(self, start: int = 0, num_frames: int | None = None, *, channel: int | Literal["mean"] = "mean") -> Tensor:
        """Reads a stretch as a mono wave.

        Args:
            start: the first sample to read.
            num_frames: the number of samples to read; None reads to the end.
            channel: what to read from a file with several channels: `"mean"`, their average, or the index of one. A
                file with one channel is read as it is.

        Returns:
            The wave, float32 [time]; full scale is 1.

        Raises:
            DataError: the stretch reaches past the end of the file; the file is truncated or damaged, or lacks the
                channel; the stretch has a sample that is NaN or infinite.
        """
        end = self.info.frames if num_frames is None else start + num_frames
        if not 0 <= start <= end <= self.info.frames:
            raise DataError(
                f"samples {start} to {end} of `{self.path}` are needed, but it has {self.info.frames} samples",
                remedy="leave the file out, or read a stretch within it",
            )
        try:
            self._decoder.seek(start)
            samples = self._decoder.read(end - start, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            raise _damaged(self.path, str(error)) from error
        if len(samples) < end - start:
            raise _damaged(self.path, f"it ends after {start + len(samples)} of {self.info.frames} samples")
        wave = _to_mono(self.path, samples, channel)
        if not np.isfinite(wave).all():
            place = start + int(np.flatnonzero(~np.isfinite(wave))[0])
            seconds = place / self.info.sr
            raise DataError(
                f"`{self.path}` has a sample that is NaN or infinite, the first at {place} ({seconds:.3f} s)",
                remedy="create the file again, or leave it out",
            )
        return torch.from_numpy(wave)


@contextmanager
def open_audio(path: str | Path, *, sr: int | None = None) -> Iterator[AudioFile]:
    """Opens an audio file once, to read its header and any stretch of its samples.

    Args:
        path: the file.
        sr: the sample rate that the file must have, in hertz; None accepts any.

    Raises:
        DataError: the file is missing, empty, or shorter than its header says, has another sample rate, or is not
            audio.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     clipped = write_audio(f"{folder}/a.wav", torch.tensor([0.0, 0.25, 0.5]), sr=16000)
        ...     with open_audio(f"{folder}/a.wav", sr=16000) as audio:
        ...         audio.info.frames, audio.read(start=1, num_frames=1).tolist()
        (3, [0.25])
    """
    path = Path(path)
    with _open_bytes(path) as stream, _decoder(path, stream) as decoder:
        audio = AudioFile(path, decoder)
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
    """Reads an audio file, or a stretch of it, as a mono wave.

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

    With `pcm_16`, samples are rounded to steps of 1/32768, and samples beyond full scale are clipped. The wave is not
    scaled down instead, because its level could then not be compared with that of other files. With `float` (32 bits)
    the samples are written as they are.

    Args:
        path: the file; its name ends in `.wav`.
        wave: [time], on any device and of any floating type.
        sr: the sample rate, in hertz.
        encoding: `pcm_16` or `float`.

    Returns:
        The number of clipped samples, for a warning.

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
    clipped = 0
    if encoding == "pcm_16":
        scaled = np.round(samples.astype(np.float64) * 32768)
        samples = scaled.clip(-32768, 32767).astype(np.int16)
        clipped = int((np.abs(scaled) > 32768).sum())
    memory = io.BytesIO()
    soundfile.write(memory, samples, sr, format="WAV", subtype="PCM_16" if encoding == "pcm_16" else "FLOAT")
    try:
        make_folder(path.parent)
        write_whole(path, memory.getvalue())
    except OSError as error:
        raise DataError(
            f"`{path}` can't be written: {error.strerror or error}",
            remedy="check the free disk space and the permissions of the folder",
        ) from error
    return clipped


def list_audio(folder: str | Path) -> list[Path]:
    """Lists the audio files of a folder and its subfolders, sorted.

    Symbolic links are followed. Hidden files and folders are ignored.

    Raises:
        DataError: the folder is missing, is a file, or has no audio file in it.
    """
    folder = Path(folder)
    require_folder(folder)
    found: list[Path] = []
    seen: set[str] = set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        # Links can form a cycle, so each folder is listed once.
        real = os.path.realpath(parent)
        folders[:] = [] if real in seen else [name for name in folders if not name.startswith(".")]
        if real not in seen:
            suffixed = [name for name in names if name.lower().endswith(AUDIO_SUFFIXES) and not name.startswith(".")]
            found += [Path(parent, name) for name in suffixed]
        seen.add(real)
    if not found:
        raise DataError(
            f"the folder `{folder}` has no audio files",
            remedy=f"give a folder with files that end in {', '.join(AUDIO_SUFFIXES)}",
        )
    return sorted(found)


def require_folder(folder: Path) -> None:
    """Raises a `DataError` unless `folder` is a folder."""
    if not folder.exists():
        raise DataError(
            f"the folder `{folder}` does not exist", remedy=f"relative paths are resolved from `{Path.cwd()}`"
        )
    if not folder.is_dir():
        raise DataError(f"`{folder}` is not a folder", remedy="give the folder that holds the audio files")


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


def _decoder(path: Path, stream: io.FileIO) -> soundfile.SoundFile:
    """Reads the header of an open file. Raises a `DataError` if it is truncated, is not audio, or has no samples."""
    size = os.fstat(stream.fileno()).st_size
    head = stream.read(12)
    stream.seek(0)
    announced = int.from_bytes(head[4:8], "little")
    # libsndfile accepts a truncated WAV, so its size is compared with the header here. Many programs leave out the pad
    # byte at the end, which does no harm, so one byte may be missing.
    if head[:4] == b"RIFF" and announced not in _UNKNOWN_SIZES and announced + 8 > size + 1:
        raise _damaged(path, f"it has {size} bytes, but its header announces {announced + 8}")
    try:
        # libsndfile gets the file descriptor, because it would read a Python file object through slow callbacks.
        decoder = soundfile.SoundFile(stream.fileno(), closefd=False)
    except soundfile.LibsndfileError as error:
        raise DataError(
            f"`{path}` can't be read as audio: {error.error_string.strip()}",
            remedy="libsndfile reads WAV, FLAC, Ogg, MP3, AIFF; convert other formats: ffmpeg -i FILE out.wav",
        ) from error
    if decoder.frames == 0:
        decoder.close()
        raise DataError(f"`{path}` has no samples", remedy="create the file again, or leave it out")
    return decoder


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
        remedy=f"resample it: ffmpeg -i {path.name} -ar {wanted} resampled/{path.stem}.wav "
        f"(or set `sr = {rate}` in the whole experiment)",
    )


def _damaged(path: Path, why: str) -> DataError:
    return DataError(
        f"`{path}` is truncated or damaged: {why}", remedy="download or create the file again, or leave it out"
    )
