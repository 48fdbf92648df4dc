"""Writes audio files, completely or not at all, in pieces of any length."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import soundfile
from torch import Tensor

from audiozen_core.audio.plain_wav import PlainWavWriter
from audiozen_core.errors import DataError
from audiozen_core.logging import get_logger
from audiozen_core.storage.atomic import INCOMPLETE, creating, make_folder, replacing

SUBTYPES = {"pcm_16": "PCM_16", "float": "FLOAT"}
"""The names that libsndfile has for the encodings of `write_audio`."""

# The bits of the integer encodings, for which we scale the samples. libsndfile multiplies by 2 ** (bits - 1) - 1 when
# it writes, but divides by 2 ** (bits - 1) when it reads, so reading would not return the samples that were written.
_BITS = {"PCM_S8": 8, "PCM_U8": 8, "PCM_16": 16, "PCM_24": 24, "PCM_32": 32}
_BYTES = {"PCM_16": 2, "PCM_24": 3, "PCM_32": 4, "FLOAT": 4, "DOUBLE": 8}

# The largest size that the size field of a WAV file can hold, less some room for the header.
_MOST_BYTES = 2**32 - 2**16
# libsndfile overflows its stack if it writes long pieces of Ogg Vorbis.
_PIECE = 1 << 16
# Above these limits, libsndfile 1.2.2 aborts the process when it closes the file.
_MOST_VORBIS_RATE = 200_000
_MOST_VORBIS_CHANNELS = 255


class AudioWriter:
    """An open audio file for writing, as returned by `write_pieces` and `encode_pieces`.

    Attributes:
        path: the file.
        channels: the number of channels.
        frames: the number of samples that have been written to each channel.
        clipped: the number of samples in all channels that were clipped, because they were louder than full scale.
        peak: the largest magnitude of a sample, before clipping.
    """

    def __init__(
        self, path: Path, sink: _Sink | _Memory, sr: int, channels: int, form: str, subtype: str, *, frames: int = 0
    ) -> None:
        self.path = path
        self.channels = channels
        self.frames = 0
        self.clipped = 0
        self.peak = 0.0
        self._sink = sink
        self._subtype = subtype
        self._file: PlainWavWriter | soundfile.SoundFile
        if PlainWavWriter.supports(sr, channels, form, subtype):
            self._file = PlainWavWriter(sink, sr, channels, frames)
            return
        cause = None
        if subtype == "VORBIS" and (sr > _MOST_VORBIS_RATE or channels > _MOST_VORBIS_CHANNELS):
            reason = f"Vorbis has at most {_MOST_VORBIS_CHANNELS} channels and {_MOST_VORBIS_RATE} Hz"
        else:
            try:
                self._file = soundfile.SoundFile(sink, "w", sr, channels, subtype, format=form)
                return
            except soundfile.LibsndfileError as error:
                sink.check()
                cause, reason = error, error.error_string.strip()
        raise DataError(
            f"`{path}` can't be written with {channels} channels of {sr} Hz as {form} {subtype}: {reason}",
            remedy="choose another format, such as `wav`",
        ) from cause

    def write(self, wave: Tensor) -> None:
        """Appends samples.

        Args:
            wave: [channels, time], or [time] for one channel, on any device and of any floating type.

        Raises:
            DataError: the wave has another number of channels than the file, or a sample is NaN or infinite.
            OSError: the disk is full, for example.
        """
        samples = wave.detach().to("cpu").float().numpy()
        if samples.shape[:-1] != (self.channels,) and (samples.ndim != 1 or self.channels != 1):
            raise DataError(
                f"the wave for `{self.path}` has the shape {list(samples.shape)}, but the file has {self.channels} "
                f"channel{'s' if self.channels > 1 else ''}",
                remedy="give it as [channels, time], and open the file with its number of channels",
            )
        for begin in range(0, samples.shape[-1], _PIECE):
            self._write(samples[..., begin : begin + _PIECE])

    def _write(self, samples: np.ndarray) -> None:
        # The smallest and the largest sample show all at once: whether a sample is NaN or infinite, and the peak.
        limits = (float(samples.min()), float(samples.max()))
        if not all(map(math.isfinite, limits)):
            raise DataError(
                f"the wave for `{self.path}` has a sample that is NaN or infinite, so it was not written",
                remedy="find the part of the model that produces the NaN or infinity",
            )
        peak = max(map(abs, limits))
        self.frames += samples.shape[-1]
        self.peak = max(self.peak, peak)
        self._file.write(np.ascontiguousarray(self._encoded(samples, peak).T))
        self._sink.check()

    def _encoded(self, samples: np.ndarray, peak: float) -> np.ndarray:
        bits = _BITS.get(self._subtype)
        if bits is None:
            return samples
        full = 2 ** (bits - 1)
        # The mantissa of float32 has 24 bits. Scaling by a power of two is exact, unless the numbers become too large.
        is_exact = bits <= 24 and peak <= 1
        scaled = samples * np.float32(full) if is_exact else samples.astype(np.float64) * full
        np.rint(scaled, out=scaled)
        if peak > 1:
            self.clipped += int((np.abs(scaled) > full).sum())
        np.clip(scaled, -full, full - 1, out=scaled)
        # libsndfile accepts integers of 16 or 32 bits, and uses their upper bits for a sample of 8 or 24 bits.
        width = 16 if bits <= 16 else 32
        if width > bits:
            scaled *= 2 ** (width - bits)
        encoded: np.ndarray = scaled.astype(f"int{width}")
        return encoded

    def close(self) -> None:
        """Finishes the file. This is called at the end of the block."""
        self._file.close()
        self._sink.check()
        if self._subtype in ("FLOAT", "DOUBLE"):
            _remove_time(self._sink)

    @property
    def content(self) -> bytes:
        """The bytes of the file, after the block of `encode_pieces`."""
        assert isinstance(self._sink, _Memory)
        return self._sink.getvalue()


@contextmanager
def write_pieces(
    path: str | Path,
    sr: int,
    *,
    channels: int = 1,
    form: str = "WAV",
    subtype: str = "PCM_16",
    frames: int = 0,
    temporary: Path | None = None,
) -> Iterator[AudioWriter]:
    """Writes an audio file in pieces. The file appears when the block ends without an error.

    The folder of the file is created if it does not exist.

    Args:
        path: the file.
        sr: the sample rate, in hertz.
        channels: the number of channels.
        form: the format, in libsndfile's terms: `WAV`, `FLAC`, `OGG`, … A WAV file that may exceed 4 GiB is written as
            RF64.
        subtype: the encoding of the samples, such as `PCM_16`.
        frames: the number of samples that each channel will have, if the number is known.
        temporary: a new file to write instead, in the same folder, which the caller renames to `path`. Errors name
            `path`, and the caller warns about clipped samples; see `warn_if_clipped`.

    Raises:
        DataError: libsndfile does not support this combination of format, encoding, rate and channels, a sample is NaN
            or infinite, or the file can't be written.
    """
    path = Path(path)
    form = _fitting_form(form, frames * channels * _BYTES.get(subtype, 1))
    try:
        make_folder(path.parent)
        with creating(temporary) if temporary else replacing(path) as descriptor:
            sink = _Sink(descriptor)
            writer = AudioWriter(path, sink, sr, channels, form, subtype, frames=frames)
            try:
                yield writer
            finally:
                writer.close()
    except OSError as error:
        raise not_writable(path, error) from error
    if temporary is None:
        warn_if_clipped(path, writer.clipped, writer.frames * channels, writer.peak)


@contextmanager
def encode_pieces(
    path: str | Path, sr: int, *, channels: int = 1, form: str = "WAV", subtype: str = "PCM_16", frames: int = 0
) -> Iterator[AudioWriter]:
    """Encodes an audio file in memory, as `write_pieces` writes it. `AudioWriter.content` is then the file.

    The arguments and the errors are the same. The path is only needed for messages. The caller warns about clipped
    samples; see `warn_if_clipped`.
    """
    form = _fitting_form(form, frames * channels * _BYTES.get(subtype, 1))
    writer = AudioWriter(Path(path), _Memory(), sr, channels, form, subtype, frames=frames)
    try:
        yield writer
    finally:
        writer.close()


def _fitting_form(form: str, size: int) -> str:
    return "RF64" if form == "WAV" and size > _MOST_BYTES else form


def not_writable(path: Path, error: OSError) -> DataError:
    """Returns the error of a file that can't be written."""
    return DataError(
        f"`{path}` can't be written: {error.strerror or error}",
        remedy="check the free disk space and the permissions of the folder",
    )


def warn_if_clipped(path: Path, clipped: int, samples: int, peak: float) -> None:
    """Logs a warning if some of the samples of a file were clipped. The arguments are as in `AudioWriter`."""
    if clipped:
        get_logger().warning(
            f"{clipped} of {samples} samples of `{_lasting(path)}` are louder than full scale and were clipped",
            peak=round(peak, 3),
            remedy="lower the level of the data or of the model's output",
        )


def write_audio(path: str | Path, wave: Tensor, sr: int, *, encoding: Literal["pcm_16", "float"] = "pcm_16") -> int:
    """Writes a mono wave as a WAV file, completely or not at all. Creates its folder if the folder does not exist.

    With `pcm_16`, samples are rounded to steps of 1/32768, and samples beyond full scale are clipped, with a warning in
    the log. The wave is never scaled down, because the levels of different files could then not be compared. With
    `float` (32 bits), the samples are written unchanged.

    Args:
        path: the file; its name ends in `.wav`.
        wave: [time], on any device and of any floating type.
        sr: the sample rate, in hertz.
        encoding: `pcm_16` or `float`.

    Returns:
        The number of clipped samples. If samples were clipped, a warning in the log names the file. If the file is in a
        result folder, the warning gives its path within that folder, because the folder is renamed at the end.

    Raises:
        DataError: the wave is not [time], or has a sample that is NaN or infinite; the name does not end in `.wav`;
            the file can't be written.

    Example:
        >>> import tempfile, torch
        >>> from audiozen_core.audio.files import read_audio
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     clipped = write_audio(f"{folder}/a.wav", torch.tensor([0.0, 0.5, 1.5]), sr=16000)
        ...     clipped, read_audio(f"{folder}/a.wav", sr=16000)[:2].tolist()
        (1, [0.0, 0.5])
    """
    path = Path(path)
    if wave.ndim != 1:
        raise DataError(f"the wave for `{path}` has the shape {list(wave.shape)}", remedy="give it as [time]")
    if path.suffix.lower() != ".wav":
        raise DataError(f"`{path}` must end in `.wav`", remedy=f"name it `{path.with_suffix('.wav').name}`")
    with write_pieces(path, sr, subtype=SUBTYPES[encoding], frames=len(wave)) as writer:
        writer.write(wave)
    return writer.clipped


class _Sink(io.RawIOBase):
    """The file that libsndfile writes to. It keeps the error of a failed write, because libsndfile reports only that
    bytes are missing.

    Args:
        descriptor: the open file.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._error: OSError | None = None

    def check(self) -> None:
        """Raises the error that an earlier call of `write` stored, if any."""
        if self._error:
            raise self._error

    def write(self, data: Any) -> int:
        """Writes all bytes. After an error, nothing more is written."""
        rest = memoryview(data)
        try:
            # The system may write only a part of the bytes.
            while rest and not self._error:
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError as error:
            self._error = error
        # If the count were smaller, soundfile would raise an exception of its own.
        return len(data)

    def readinto(self, buffer: Any) -> int:
        """Reads into a buffer, and returns the number of bytes. libsndfile rereads the header of some formats."""
        data = os.read(self._descriptor, len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Moves the position."""
        return os.lseek(self._descriptor, offset, whence)

    def tell(self) -> int:
        """Returns the position."""
        return os.lseek(self._descriptor, 0, io.SEEK_CUR)


class _Memory(io.BytesIO):
    """A file in memory, with the methods of `_Sink`."""

    def check(self) -> None:
        """Does nothing, because writing to memory does not fail."""


def _remove_time(file: _Sink | _Memory) -> None:
    """Zeroes the time stamp that libsndfile writes next to the peaks, so that equal waves give equal files."""
    file.seek(0)
    place = file.read(4096).find(b"PEAK")
    if place >= 0:
        file.seek(place + 12)
        file.write(bytes(4))
        file.check()


def _lasting(path: Path) -> Path:
    """Returns a path for the log. A path in a result folder is relative to the folder, which is renamed later."""
    results = next((folder for folder in path.parents if folder.name.endswith(INCOMPLETE)), None)
    return path if results is None else path.relative_to(results)
