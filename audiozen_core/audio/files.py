"""Audio files: read, written, looked into and listed, with an error for each way in which one can be unusable.

Formats are those of libsndfile (WAV, FLAC, Ogg Vorbis and Opus, MP3, AIFF and more). Nothing is resampled on the way:
a file of another rate than the experiment's is an error that says how to convert it.
"""

from __future__ import annotations

import io
import os
import stat
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
"""What `list_audio` takes for audio, in any case."""

_UNKNOWN_SIZES = (0, 0x7FFFFFFF, 0xFFFFFFFF)  # what programs write that stream a WAV to a pipe


@dataclass(frozen=True, slots=True)
class AudioInfo:
    """What the header of an audio file says.

    Attributes:
        frames: the number of samples of each channel.
        sr: the sample rate, in hertz.
        channels: the number of channels.
    """

    frames: int
    sr: int
    channels: int

    @property
    def seconds(self) -> float:
        """The duration."""
        return self.frames / self.sr


def audio_info(path: str | Path) -> AudioInfo:
    """Reads the header of an audio file.

    Raises:
        DataError: the file is missing, empty, truncated (as far as its header tells), or not audio.
    """
    path = Path(path)
    with _open(path) as file:
        return AudioInfo(file.frames, file.samplerate, file.channels)


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
        sr: the sample rate that it must have, in hertz.
        start: the first sample to read.
        num_frames: how many samples to read; None reads to the end.
        channel: what to take of a file of several channels: `"mean"`, their average, or the index of one. A file with
            one channel is read as it is.

    Returns:
        The wave, float32 [time]; full scale is 1.

    Raises:
        DataError: the file is missing, empty, truncated, of another sample rate, not audio, shorter than `start` and
            `num_frames` ask for, lacks the channel, or holds a sample that is NaN or infinite.
    """
    path = Path(path)
    with _open(path) as file:
        if file.samplerate != sr:
            raise _wrong_rate(path, file.samplerate, sr)
        wanted = file.frames - start if num_frames is None else num_frames
        if start < 0 or wanted < 0 or start + wanted > file.frames:
            raise DataError(
                f"`{path}` has {file.frames} samples, but samples {start} to {start + wanted} are asked for",
                remedy="leave the file out, or ask for a stretch that lies within it",
            )
        try:
            file.seek(start)
            samples = file.read(wanted, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            raise _damaged(path, str(error)) from error
    if len(samples) < wanted:
        raise _damaged(path, f"it ends after {start + len(samples)} of the {start + wanted} samples it announces")
    wave = _to_mono(path, samples, channel)
    if not np.isfinite(wave).all():
        place = start + int(np.flatnonzero(~np.isfinite(wave))[0])
        raise DataError(
            f"`{path}` holds a sample that is NaN or infinite, first at {place} ({place / sr:.3f} s)",
            remedy="make the file anew, or leave it out",
        )
    return torch.from_numpy(wave)


def write_audio(path: str | Path, wave: Tensor, sr: int, *, encoding: Literal["pcm_16", "float"] = "pcm_16") -> int:
    """Writes a mono wave as a WAV file, whole or not at all; the folder is made where it is missing.

    With `pcm_16`, samples are rounded to steps of 1/32768 and those beyond full scale are clipped, which keeps the
    level of a clip comparable to that of its neighbours; the number of clipped samples is returned, so that a caller
    can say so. With `float` (32 bits) the samples are written as they are, whatever their size.

    Args:
        path: the file; its name ends in `.wav`.
        wave: [time], of any device and floating type.
        sr: the sample rate, in hertz.
        encoding: `pcm_16` or `float`.

    Returns:
        How many samples were clipped.

    Raises:
        DataError: the wave is not [time], or holds NaN or infinity; the name does not end in `.wav`; the disk refused.

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
        raise DataError(f"a wave for `{path}` has the shape {list(wave.shape)}", remedy="give it as [time]")
    if path.suffix.lower() != ".wav":
        raise DataError(f"`{path}` is to be a WAV file", remedy=f"name it `{path.with_suffix('.wav').name}`")
    if not np.isfinite(samples).all():
        raise DataError(
            f"the wave for `{path}` holds NaN or infinity and was not written",
            remedy="look for the step of the model that gives it",
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
            f"`{path}` cannot be written: {error.strerror or error}", remedy="look at the disk's space and the rights"
        ) from error
    return clipped


def list_audio(folder: str | Path) -> list[Path]:
    """The audio files of a folder and all folders below it (links included), sorted; hidden ones are left out.

    Raises:
        DataError: the folder is missing or is a file, or there is no audio file in it.
    """
    folder = Path(folder)
    require_folder(folder)
    found: list[Path] = []
    seen: set[str] = set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        folders[:] = [] if real in seen else [name for name in folders if not name.startswith(".")]
        if real not in seen:
            suffixed = [name for name in names if name.lower().endswith(AUDIO_SUFFIXES) and not name.startswith(".")]
            found += [Path(parent, name) for name in suffixed]
        seen.add(real)
    if not found:
        raise DataError(
            f"there is no audio file in `{folder}`",
            remedy=f"looked there and below for files that end in {', '.join(AUDIO_SUFFIXES)}",
        )
    return sorted(found)


def require_folder(folder: Path) -> None:
    """Raises a `DataError` unless `folder` is a folder."""
    if not folder.exists():
        raise DataError(f"there is no folder `{folder}`", remedy=f"relative paths start at `{Path.cwd()}`")
    if not folder.is_dir():
        raise DataError(f"`{folder}` is not a folder", remedy="give the folder that holds the audio files")


def _open(path: Path) -> soundfile.SoundFile:
    """Opens an audio file that has samples, or says what is wrong with it."""
    try:
        status = path.stat()
        size = status.st_size
        if not stat.S_ISREG(status.st_mode):
            what = "a folder" if stat.S_ISDIR(status.st_mode) else "no regular file"
            raise DataError(f"`{path}` is {what}, not an audio file", remedy="give the path of a file")
        if size == 0:
            raise DataError(f"`{path}` is empty (0 bytes)", remedy="make the file anew, or leave it out")
        with path.open("rb") as stream:
            head = stream.read(12)
    except FileNotFoundError as error:
        remedy = f"relative paths start at `{Path.cwd()}`"
        raise DataError(f"there is no audio file `{path}`", remedy=remedy) from error
    except OSError as error:
        raise DataError(f"`{path}` cannot be read: {error.strerror}", remedy="look at its rights") from error
    announced = int.from_bytes(head[4:8], "little")
    if head[:4] == b"RIFF" and announced not in _UNKNOWN_SIZES and announced + 8 > size + 1:  # + 1: a pad byte left out
        raise _damaged(path, f"it has {size} of the {announced + 8} bytes it announces")
    try:
        file = soundfile.SoundFile(path)
    except soundfile.LibsndfileError as error:
        raise DataError(
            f"`{path}` is not audio that can be read: {error.error_string.strip()}",
            remedy="libsndfile reads WAV, FLAC, Ogg, MP3, AIFF; convert others: ffmpeg -i FILE out.wav",
        ) from error
    if file.frames == 0:
        file.close()
        raise DataError(f"`{path}` holds no samples", remedy="make the file anew, or leave it out")
    return file


def _to_mono(path: Path, samples: np.ndarray, channel: int | Literal["mean"]) -> np.ndarray:
    channels = samples.shape[1]
    if channels == 1:
        return samples[:, 0]
    if channel == "mean":
        return np.asarray(samples.mean(axis=1), np.float32)
    if not 0 <= channel < channels:
        raise DataError(
            f"`{path}` has {channels} channels, but channel {channel} is asked for",
            remedy=f'give a channel from 0 to {channels - 1}, or "mean"',
        )
    return np.ascontiguousarray(samples[:, channel])


def _wrong_rate(path: Path, rate: int, wanted: int) -> DataError:
    return DataError(
        f"`{path}` has a sample rate of {rate} Hz, but {wanted} Hz is needed",
        remedy=f"resample it: ffmpeg -i {path.name} -ar {wanted} resampled/{path.stem}.wav "
        f"(or set `sr = {rate}` for the whole experiment)",
    )


def _damaged(path: Path, why: str) -> DataError:
    return DataError(f"`{path}` is truncated or damaged: {why}", remedy="fetch or make the file anew, or leave it out")
