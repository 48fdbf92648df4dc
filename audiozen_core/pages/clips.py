"""Makes clips: the recordings of several systems for the same moment, to hear and see side by side."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from audiozen_core.audio.spectrogram import decibel_spectrogram
from audiozen_core.audio.spectrogram_picture import RANGE_DB, draw_spectrogram, ticks, top_level

_COLUMNS = 480  # the width of a picture in pixels; a page scales pictures to a width of 320 to 600
_ROWS = 200
_MOST_QUIETER = 4.0


@dataclass(frozen=True, slots=True)
class Track:
    """One system's recording in a clip.

    Attributes:
        name: the system.
        audio: the recording as a data URL with a FLAC file.
        picture: the spectrogram as a data URL with a WebP file.
        gain: the factor that makes the track as loud as the first track.
        peak: the largest magnitude of a sample during playback. Full scale is 1; louder samples are clipped.
        facts: texts that are shown next to the name, such as scores.
        not_finite: the number of samples that are NaN or infinite. They are silent in the audio.
    """

    name: str
    audio: str
    picture: str
    gain: float
    peak: float
    facts: tuple[str, ...] = ()
    not_finite: int = 0


@dataclass(frozen=True, slots=True)
class Clip:
    """The recordings of the same moment, with a shared colour scale.

    Attributes:
        name: the name of the file, as the user knows it.
        tracks: the recordings of the systems, in order.
        seconds: the length of the longest track.
        begin: the start of the clip in the file, in seconds.
        file_seconds: the length of the whole file in seconds.
        sr: the sample rate in Hz.
        top: the level of the brightest colour in decibels. The level of the darkest colour is `RANGE_DB` lower.
        frequencies: the marks of the frequency axis in kHz.
        times: the marks of the time axis in seconds, from the beginning of the clip.
        notes: notes for the reader, in sentences.
    """

    name: str
    tracks: tuple[Track, ...]
    seconds: float
    begin: float
    file_seconds: float
    sr: int
    top: float
    frequencies: tuple[float, ...]
    times: tuple[float, ...]
    notes: tuple[str, ...] = field(default=())

    range_db = RANGE_DB

    @property
    def is_cut(self) -> bool:
        """Whether the clip is a part of the file."""
        return self.file_seconds - self.seconds > 1e-3

    @property
    def size(self) -> int:
        """The number of characters that the clip adds to a page."""
        return sum(len(track.audio) + len(track.picture) for track in self.tracks)


def make_clip(
    name: str,
    signals: Mapping[str, Any],
    sr: int,
    *,
    seconds: float = math.inf,
    centre: float | None = None,
    facts: Mapping[str, Sequence[str]] | None = None,
    notes: Sequence[str] = (),
) -> Clip:
    """Makes a clip from the waveforms of several systems.

    Args:
        name: the name of the file, as the user knows it.
        signals: the waveform [time] of each system, between -1 and 1. All waveforms begin at the same moment.
        sr: the sample rate of the waveforms in Hz.
        seconds: the maximum length of the clip.
        centre: the centre of the clip in a longer file, in seconds; by default, the middle of the file.
        facts: texts that are shown next to a system, such as its scores.
        notes: notes about the file, in sentences.

    Raises:
        ValueError: a waveform has no samples, or more dimensions than time.
    """
    waves = {system: np.asarray(wave) for system, wave in signals.items()}
    file_length = max(wave.size for wave in waves.values())
    length = min(file_length, max(1, round(min(seconds, file_length / sr) * sr)))
    middle = file_length / 2 if centre is None else centre * sr
    begin = min(max(0, round(middle - length / 2)), file_length - length)
    parts = {system: _part(wave, begin, length) for system, wave in waves.items()}
    levels = {system: decibel_spectrogram(wave, sr, columns=_COLUMNS) for system, wave in parts.items()}
    top = top_level(list(levels.values()))
    finite = {system: np.nan_to_num(wave, nan=0.0, posinf=0.0, neginf=0.0) for system, wave in parts.items()}
    peaks = {system: float(np.abs(wave).max()) for system, wave in finite.items()}
    # All recordings are made quieter by the same factor, so that no recording is clipped and their levels stay
    # comparable. The factor is limited, because a much louder recording is broken, and all other recordings must stay
    # audible.
    factor = 1 / min(max(1.0, *peaks.values()), _MOST_QUIETER)
    if factor < 1:
        loudest = max(peaks, key=lambda system: peaks[system])
        quieter = f"{-20 * math.log10(factor):.1f} dB"
        notes = [*notes, f"All recordings are played {quieter} quieter, because {loudest} is louder than full scale."]
    first = _rms(next(iter(parts.values()))) * factor
    tracks = []
    for system, wave in parts.items():
        rms, peak = _rms(wave) * factor, peaks[system] * factor
        # A gain beyond full scale would cause clipping, which changes the sound of the system.
        gain = min(first / rms, 1 / peak) if rms and first else 1.0
        picture = draw_spectrogram(levels[system], top=top)
        picture = picture.resize((_COLUMNS, min(picture.height, _ROWS)))
        tracks.append(
            Track(
                system,
                _address("audio/flac", _flac(finite[system] * np.float32(factor), sr)),
                _address("image/webp", _webp(picture)),
                gain,
                peak,
                tuple((facts or {}).get(system, ())),
                int(wave.size - np.isfinite(wave).sum()),
            )
        )
    kilohertz = tuple(tick for tick in ticks(sr / 2000, 4))
    return Clip(
        name,
        tuple(tracks),
        length / sr,
        begin / sr,
        file_length / sr,
        sr,
        top,
        kilohertz,
        tuple(ticks(length / sr, 6)),
        tuple(notes),
    )


def _part(wave: NDArray[Any], begin: int, length: int) -> NDArray[np.float32]:
    if wave.ndim != 1:
        raise ValueError(f"a clip needs waveforms [time], not {list(wave.shape)}")
    # A shorter file is padded with silence, so that all tracks have the same length.
    part = wave[begin : begin + length].astype(np.float32)
    return np.pad(part, (0, length - part.size))


def _rms(wave: NDArray[np.float32]) -> float:
    finite = wave[np.isfinite(wave)].astype(np.float64)
    return math.sqrt(float(np.mean(finite**2))) if finite.size else 0.0


def _flac(wave: NDArray[np.float32], sr: int) -> bytes:
    import soundfile

    file = io.BytesIO()
    soundfile.write(file, np.clip(wave, -1, 1), sr, format="FLAC", subtype="PCM_16")
    return file.getvalue()


def _webp(picture: Image.Image) -> bytes:
    # A PNG file of a noisy spectrogram is four times as large as a WebP file, and larger than the audio.
    file = io.BytesIO()
    picture.convert("RGB").save(file, "WEBP", quality=80, method=4)
    return file.getvalue()


def _address(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
