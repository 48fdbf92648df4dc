"""Compares reading a random segment of a noisy and a clean file with plain use of soundfile.

The files last half a minute, and the segment lasts two seconds. The peer opens each file once, draws the start of the
segment from the length in the header, and reads the segment as float32. AudioZEN also checks that each file is
complete, that it has the right sample rate, and that both files have the same length. It averages channels, and makes a
sample with an ID.
"""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

import numpy as np
import soundfile

from audiozen.dataset import NoisyCleanFolders
from benchmarks.measuring import Goal, Row, compare, cpu_seconds

PAIRS, SECONDS, CLIP_SECONDS, SR = 40, 30, 2.0, 16000


def rows(rounds: int = 15) -> list[Row]:
    """Measures one row for WAV files and one row for FLAC files."""
    return [_row(suffix, rounds) for suffix in ("wav", "flac")]


def _row(suffix: str, rounds: int) -> Row:
    with tempfile.TemporaryDirectory() as folder:
        noisy, clean = folders = Path(folder) / "noisy", Path(folder) / "clean"
        rng = np.random.default_rng(0)
        for place in folders:
            place.mkdir()
            for number in range(PAIRS):
                # The noise has roughly the spectrum of speech, because white noise is the worst case for FLAC.
                wave = np.cumsum(rng.standard_normal(SECONDS * SR))
                wave -= np.convolve(wave, np.ones(64) / 64, mode="same")
                soundfile.write(place / f"{number}.{suffix}", 0.1 * wave / np.abs(wave).max(), SR, subtype="PCM_16")
        data = NoisyCleanFolders(noisy, clean, clip_seconds=CLIP_SECONDS)
        files = [[str(place / f"{number}.{suffix}") for place in folders] for number in range(PAIRS)]
        length = round(CLIP_SECONDS * SR)

        def read() -> None:
            for index in range(PAIRS):
                data[index]

        def plain() -> None:
            for pair in files:
                start = None
                for name in pair:
                    with soundfile.SoundFile(name) as file:
                        start = random.randrange(file.frames - length + 1) if start is None else start
                        file.seek(start)
                        file.read(length, dtype="float32")

        return compare(
            f"reading {CLIP_SECONDS:g} s of a noisy and a clean {suffix.upper()} file",
            lambda: cpu_seconds(read, number=5),
            {"soundfile, one open a file, no checks": lambda: cpu_seconds(plain, number=5)},
            unit="µs of CPU a pair",
            scale=1e6 / PAIRS,
            goal=Goal("at most", 1.3),
            rounds=rounds,
        )
