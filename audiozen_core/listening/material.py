"""Reads the recordings of one file by all systems, cut at the same moment, as a listener will hear them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audiozen_core.audio.files import audio_info, open_audio
from audiozen_core.audio.resampling import check_rates, resample
from audiozen_core.errors import DataError
from audiozen_core.listening.anchors import LOW_PASSES, REFERENCE, low_pass

_SILENT = 1e-4  # the peak below which nobody hears anything, -80 dB
_HOP = 0.1  # seconds: the steps in which the loudest part of a file is searched
_FADE = 0.01  # seconds: a cut without one clicks
_SAME = 1e-3  # 16 bits and another decoder change samples by less

_Wave = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Material:
    """One file as a listener hears it.

    Attributes:
        id: the ID of the file.
        begin: where the part that is heard begins, in seconds.
        sr: the sample rate in Hz.
        waves: by the name of the system or anchor, the samples [time], int16, all of the same length.
        gain: the factor by which all of them were made quieter, so that none is clipped; 1 for most files.
        findings: what is remarkable about the file, in words without its name.
    """

    id: str
    begin: float
    sr: int
    waves: Mapping[str, NDArray[np.int16]]
    gain: float
    findings: tuple[str, ...]

    @property
    def seconds(self) -> float:
        """The length in seconds."""
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
        paths: its recordings, by the name of the system. `reference` is the clean one.
        guide: the recording that the others have the length of, and whose loudest part is heard.
        seconds: how much of a longer file is heard.
        low_passes: the names of the low-pass anchors, which are made of the reference.
        same_loudness: whether each recording gets the root mean square of the guide.

    Raises:
        DataError: a recording can't be read, has a sample that is NaN or infinite, or the guide is silent.
    """
    infos = {system: audio_info(path) for system, path in paths.items()}
    sr = max(info.sr for info in infos.values())
    findings = [
        f"{system} has {info.sr} Hz and is resampled to {sr} Hz, which adds no high frequencies"
        for system, info in infos.items()
        if info.sr != sr
    ]
    findings += [
        f"{system} has {info.channels} channels, of which the mean is heard"
        for system, info in infos.items()
        if info.channels > 1
    ]
    whole = infos[guide].seconds
    findings += [
        f"{system} is {abs(info.seconds - whole):.2f} s {'shorter' if info.seconds < whole else 'longer'} than {guide}"
        for system, info in infos.items()
        if abs(info.seconds - whole) > 0.05
    ]
    begin = _loudest(paths[guide], seconds)
    length = round(min(seconds, whole - begin) * sr)
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
        if begin + length / sr < whole - 1 / sr:
            wave[-len(ramp) :] *= ramp[::-1][-len(wave) :]
    # All by the same factor, because clipping is audible and the levels of the systems are part of the test.
    gain = min(1.0, 32767 / 32768 / max(float(np.abs(wave).max()) for wave in waves.values()))
    whole_numbers = {system: np.round(wave * (gain * 32768)).astype(np.int16) for system, wave in waves.items()}
    return Material(name, begin, sr, whole_numbers, gain, tuple(findings))


def differing(paths: Sequence[Path], begin: float, seconds: float) -> Iterator[int]:
    """Yields the places of the recordings that are another one than the first, in the part that is heard."""
    first = None
    for place, path in enumerate(paths):
        info = audio_info(path)
        wave = _read(path, begin, round(seconds * info.sr), info.sr)
        first = wave if first is None else first
        if len(wave) == len(first) and np.abs(wave - first).max() > _SAME:
            yield place


def _read(path: Path, begin: float, length: int, sr: int) -> _Wave:
    """Reads a part, [time], at a sample rate. After the end of the file it is silent."""
    with open_audio(path) as audio:
        info = audio.info
        start = min(round(begin * info.sr), info.frames)
        count = min(math.ceil(length * info.sr / sr), info.frames - start)
        wave = audio.read(start, count)
    if info.sr != sr:
        check_rates(info.sr, sr)
        wave = resample(wave, info.sr, sr)
    found: _Wave = wave.numpy().astype(np.float64)[:length]
    return np.pad(found, (0, length - len(found)))


def _loudest(path: Path, seconds: float) -> float:
    """Returns where the part with the most energy begins, in seconds. A file of hours is read in blocks."""
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
