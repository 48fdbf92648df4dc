"""Reads the waves of recordings from their files, or caches them in memory."""

from __future__ import annotations

import contextlib
import time
from array import array
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from audiozen_core.audio.files import AudioInfo, audio_info, open_audio, read_audio
from audiozen_core.data.unreadable_files import keep_readable
from audiozen_core.errors import DataError
from audiozen_core.logging import get_logger
from audiozen_plugins.dataset.mixing import FloatArray
from audiozen_plugins.dataset.recordings import Headers, Recording, Recordings
from audiozen_plugins.dataset.remarks import Remarks

_THREADS = 8  # the number of threads that read headers; on a network drive, most of them wait for an answer
_PART = 200  # the number of headers that a thread reads at once
_AT_ONCE = 4 * _THREADS  # the number of such parts that are queued
_SECONDS_BETWEEN_REPORTS = 10.0


class Pool:
    """The waves of recordings. If they fit into the cache, they are in memory, as 16-bit or as float32 samples.

    The cache loses no precision: 16-bit samples are used only for files that have 16 bits.

    Args:
        recordings: at least one recording.
        sr: the sample rate that all files must have, in hertz.
        cache_mb: the maximum size of the cache in megabytes. If the recordings need more, nothing is cached, and each
            read opens the file.

    Attributes:
        recordings: the recordings that can be read.

    Raises:
        DataError: a file can't be read or has another sample rate; a file is silent. If the recordings don't fit into
            the cache, only their headers are read here, because reading all samples would take as long as an epoch. A
            silent file is then found when an item is drawn from it.
    """

    def __init__(self, recordings: Sequence[Recording], *, sr: int, cache_mb: float) -> None:
        self.sr = sr
        found = recordings if isinstance(recordings, Recordings) else Recordings.from_recordings(recordings)
        headers = found.headers(sr)
        if headers is None:
            found, headers = _read_headers(found, sr)
        headers.remarks.warn()
        self.recordings = found
        # All samples are in one array, which forked worker processes share. If each recording was an object, each use
        # would change its reference count, so the worker would soon have copies of all memory pages with such objects.
        self._bytes: np.ndarray | None = None
        self._starts = self._is_float = self._cached_lengths = np.empty(0, np.int64)
        if int(self._lengths.sum()) * 2 <= cache_mb * 1e6:
            self._load_cache(int(cache_mb * 1e6))

    def _load_cache(self, largest: int) -> None:
        """Reads all samples, unless they need more than `largest` bytes. Drops recordings that can't be read."""
        # The pages of a new array take no memory until something is written to them.
        content = np.empty(min(largest, int(self._lengths.sum()) * 4), np.uint8)
        lengths: list[int] = []
        starts: list[int] = []
        is_float: list[bool] = []
        used, full = 0, False

        def load(index: int) -> None:
            nonlocal used, full
            if full:
                return
            samples = _compact(_read(self.recordings.path(index), self.sr))
            end = used + samples.nbytes
            if end > len(content):
                full = True
                return
            content[used:end] = samples.view(np.uint8)
            lengths.append(len(samples))
            starts.append(used)
            is_float.append(samples.dtype == np.float32)
            used = end + -end % 4

        kept = keep_readable(range(len(self)), load)
        if len(kept) < len(self):
            self.recordings = _some(self.recordings, kept)
        if full:
            return
        self._cached_lengths = np.array(lengths, np.int64)
        self._starts, self._is_float = np.array(starts), np.array(is_float)
        self._bytes = content[:used]

    def __len__(self) -> int:
        return len(self.recordings)

    @property
    def lengths(self) -> Sequence[int]:
        """The number of samples of each recording."""
        return self._lengths.data

    @property
    def _lengths(self) -> np.ndarray:
        # An attribute with the lengths would be sent to each worker that does not share memory. So they are read from
        # `recordings`, which workers get anyway.
        return self.recordings.frames if self._bytes is None else self._cached_lengths

    @property
    def cached(self) -> bool:
        """Whether the waves are in memory."""
        return self._bytes is not None

    def read(self, index: int, start: int = 0, length: int | None = None) -> FloatArray:
        """Reads a segment of one recording.

        Args:
            index: the recording.
            start: the first sample.
            length: the number of samples; None reads to the end.

        Returns:
            The wave, float32 [time]. The caller may change it.

        Raises:
            DataError: the file can't be read, or its length has changed since its header was read.
        """
        length = self.lengths[index] - start if length is None else length
        if self._bytes is None:
            return self._read_file(index, start, length)
        width = 4 if self._is_float[index] else 2
        begin = int(self._starts[index]) + start * width
        samples = self._bytes[begin : begin + length * width]
        if self._is_float[index]:
            return np.array(samples.view(np.float32))
        wave = samples.view(np.int16).astype(np.float32)
        wave *= np.float32(1 / 32768)
        return wave

    def _read_file(self, index: int, start: int, length: int) -> FloatArray:
        path = self.recordings.path(index)
        with open_audio(path, sr=self.sr) as audio:
            if audio.info.frames != self.lengths[index]:
                file = self.recordings.table.file
                raise DataError(
                    f"`{path}` has {audio.info.frames} samples, but it had {self.lengths[index]} when its header was "
                    "read",
                    remedy="start again, so that all headers are read again"
                    if file is None
                    else f"delete `{file}`, in which the headers are cached, and start again",
                )
            return audio.read(start, length).numpy()


def _read_headers(recordings: Recordings, sr: int) -> tuple[Recordings, Headers]:
    """Reads the header of each file, and drops the recordings that can't be read."""
    headers = Headers(array("q"), sr, Remarks())
    found = _infos(recordings, sr)

    def measure(index: int) -> None:
        info = next(found)
        if isinstance(info, DataError):
            raise info
        headers.remarks.count(recordings.path(index), info)
        headers.frames.append(info.frames)

    with contextlib.closing(found):  # after an error, too: it holds a pool of threads
        kept = keep_readable(range(len(recordings)), measure)
    if len(kept) < len(recordings):
        recordings = _some(recordings, kept)
    return recordings.with_headers(headers), headers


def _infos(recordings: Recordings, sr: int) -> Generator[AudioInfo | DataError, None, None]:
    """Reads the headers of the recordings with several threads, and yields them in order. Logs the progress."""
    parts = [range(start, min(start + _PART, len(recordings))) for start in range(0, len(recordings), _PART)]
    if len(parts) == 1:
        yield from _infos_of(parts[0], recordings, sr)
        return
    said = time.monotonic()
    with ThreadPoolExecutor(_THREADS) as pool:
        for first in range(0, len(parts), _AT_ONCE):
            some = parts[first : first + _AT_ONCE]
            for infos in pool.map(partial(_infos_of, recordings=recordings, sr=sr), some):
                yield from infos
            if time.monotonic() - said > _SECONDS_BETWEEN_REPORTS:
                said = time.monotonic()
                get_logger().info(f"read the headers of {some[-1].stop} of {len(recordings)} files")


def _infos_of(part: Iterable[int], recordings: Recordings, sr: int) -> list[AudioInfo | DataError]:
    return [_info(recordings.path(index), sr) for index in part]


def _info(path: Path, sr: int) -> AudioInfo | DataError:
    try:
        return audio_info(path, sr=sr)
    except DataError as error:
        return error


def _some(recordings: Recordings, kept: Sequence[int]) -> Recordings:
    """Returns the recordings with these indices.

    The selection is not saved, so the next start warns of the dropped recordings again.
    """
    some = Recordings.from_recordings(recordings[index] for index in kept)
    if "sr" in recordings.table.facts:
        some.table.facts.update({key: recordings.table.facts[key] for key in ("sr", "remarks")})
        some.table.arrays["frames"] = recordings.frames[kept]
    return some


def _read(path: Path, sr: int) -> np.ndarray:
    wave = read_audio(path, sr=sr).numpy()
    if not wave.any():
        raise DataError(f"`{path}` is silent", remedy="leave the file out")
    return wave


def _compact(wave: np.ndarray) -> np.ndarray:
    """Converts a wave to 16-bit samples, if this loses no precision. This is the case for mono files with 16 bits."""
    scaled = wave * np.float32(32768)
    fits = scaled.min() >= -32768 and scaled.max() <= 32767 and np.array_equal(scaled, np.rint(scaled))
    return scaled.astype(np.int16) if fits else wave
