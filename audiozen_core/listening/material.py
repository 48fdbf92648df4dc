"""Reads all systems' versions of one file, and cuts them to the part that listeners hear."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audiozen_core.audio.files import audio_info, open_audio
from audiozen_core.audio.resampling import check_sample_rates, resample
from audiozen_core.errors import DataError
from audiozen_core.listening.anchors import LOW_PASSES, REFERENCE, low_pass

_SILENT = 1e-4  # a recording with a lower peak (-80 dB) is inaudible
_HOP = 0.1  # seconds, the step size of the search for the loudest part of a file
_FADE = 0.01  # seconds, the length of fades that prevent clicks at cuts
_SAME = 1e-3  # a tolerance for samples: 16-bit files and different decoders change samples by less

_Wave = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Material:
    """The recordings of one file as listeners hear them.

    Attributes:
        id: the ID of the file.
        begin: the start of the part that listeners hear, in seconds.
        sr: the sample rate in Hz.
        waves: the samples [time], int16, by the name of the system or anchor. All recordings have the same length.
        gain: the factor by which all recordings were scaled to prevent clipping; 1 for most files.
        findings: warnings about the recordings. They do not include the name of the file.
    """

    id: str
    begin: float
    sr: int
    waves: Mapping[str, NDArray[np.int16]]
    gain: float
    findings: tuple[str, ...]

    @property
    def seconds(self) -> float:
        """The duration in seconds."""
        return len(next(iter(self.waves.values()))) / self.sr


def read_material(
    name: str,
    paths: Mapping[str, Path],
    *,
    guide: str,
    seconds: float,
    low_passes: Sequence[str] = (),
    same_loudness: bool = False,
) -> Material:
    """Reads the recordings of one file.

    Args:
        name: the ID of the file.
        paths: the paths of the recordings, by the name of the system. `reference` is the clean recording.
        guide: the name of the recording whose loudest part is used. All recordings are cut or padded to the length of
            this recording.
        seconds: the maximum duration. Longer files are cut.
        low_passes: the names of the low-pass anchors to make from the reference.
        same_loudness: whether to scale each recording to the root mean square of the guide.

    Raises:
        DataError: a recording can't be read or has samples that are NaN or infinite, or the guide is silent.
    """
    infos = {system: audio_info(path) for system, path in paths.items()}
    sr = max(info.sr for info in infos.values())
    findings = [
        f"{system} has {info.sr} Hz and is resampled to {sr} Hz, so it lacks the highest frequencies"
        for system, info in infos.items()
        if info.sr != sr
    ]
    findings += [
        f"{system} has {info.channels} channels, which are averaged"
        for system, info in infos.items()
        if info.channels > 1
    ]
    duration = infos[guide].seconds
    findings += [
        f"{system} is {abs(info.seconds - duration):.2f} s "
        f"{'shorter' if info.seconds < duration else 'longer'} than {guide}"
        for system, info in infos.items()
        if abs(info.seconds - duration) > 0.05
    ]
    begin = _loudest(paths[guide], seconds)
    length = round(min(seconds, duration - begin) * sr)
    waves = {system: _read(path, begin, length, sr) for system, path in paths.items()}
    if np.abs(waves[guide]).max() < _SILENT:
        raise DataError(f"`{paths[guide]}` is silent", remedy="leave the file out")
    findings += [f"{system} is silent" for system, wave in waves.items() if np.abs(wave).max() < _SILENT]
    waves |= {anchor: low_pass(waves[REFERENCE], sr, LOW_PASSES[anchor].cutoff) for anchor in low_passes}
    if same_loudness:
        target = _rms(waves[guide])
        waves = {system: wave * (target / _rms(wave)) if _rms(wave) else wave for system, wave in waves.items()}
    ramp = np.linspace(0, 1, round(_FADE * sr))
    for wave in waves.values():
        if begin > 0:
            wave[: len(ramp)] *= ramp[: len(wave)]
        if begin + length / sr < duration - 1 / sr:
            wave[-len(ramp) :] *= ramp[::-1][-len(wave) :]
    # Clipping would be audible. All recordings are scaled by the same factor, to keep the differences in level.
    gain = min(1.0, 32767 / 32768 / max(float(np.abs(wave).max()) for wave in waves.values()))
    integers = {system: np.round(wave * (gain * 32768)).astype(np.int16) for system, wave in waves.items()}
    return Material(name, begin, sr, integers, gain, tuple(findings))


def differing_recordings(paths: Sequence[Path], begin: float, seconds: float) -> Iterator[int]:
    """Yields the indices of the recordings that differ from the first recording in the given part."""
    first = None
    for index, path in enumerate(paths):
        info = audio_info(path)
        wave = _read(path, begin, round(seconds * info.sr), info.sr)
        first = wave if first is None else first
        if len(wave) == len(first) and np.abs(wave - first).max() > _SAME:
            yield index


def _read(path: Path, begin: float, length: int, sr: int) -> _Wave:
    """Reads a part of a file, [time], at a sample rate. The part is padded with silence after the end of the file."""
    with open_audio(path) as audio:
        info = audio.info
        start = min(round(begin * info.sr), info.frames)
        count = min(math.ceil(length * info.sr / sr), info.frames - start)
        wave = audio.read(start, count)
    if info.sr != sr:
        check_sample_rates(info.sr, sr)
        wave = resample(wave, info.sr, sr)
    part: _Wave = wave.numpy().astype(np.float64)[:length]
    return np.pad(part, (0, length - len(part)))


def _loudest(path: Path, seconds: float) -> float:
    """Returns the start of the part with the most energy, in seconds. The file is read in blocks to save memory."""
    with open_audio(path) as audio:
        info = audio.info
        if info.seconds <= seconds:
            return 0.0
        hop = max(1, round(_HOP * info.sr))
        energies: list[Any] = []
        for block in audio.blocks(100 * hop):
            mono = block.numpy().astype(np.float64).mean(axis=0)
            energies.extend((np.pad(mono, (0, -len(mono) % hop)).reshape(-1, hop) ** 2).sum(axis=1))
    span = max(1, math.floor(seconds / _HOP))
    sums = np.cumsum([0.0, *energies])
    begin = int(np.argmax(sums[span:] - sums[:-span])) * hop / info.sr
    return min(begin, info.seconds - seconds)


def _rms(wave: _Wave) -> float:
    return math.sqrt(float(np.mean(wave**2)))
