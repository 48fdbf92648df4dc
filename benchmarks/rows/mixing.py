"""Compares the data set `noisy_speech_mix`, with and without its cache, with plain code that adds speech and noise.

Each item is a random segment of speech plus a random segment of noise, three seconds long, at a random signal-to-noise
ratio. One peer keeps all files in memory as float32 arrays, like the cache of AudioZEN. The other peer reads both
segments from WAV files with soundfile, and opens each file once, like AudioZEN without a cache. Only AudioZEN also sets
the level, avoids clipping, and leaves out silence. The goal is a quarter of the second peer, which an earlier and
simpler version of the data set reached.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
import torch

from audiozen.dataset import NoisySpeechMix
from benchmarks.measuring import Goal, Row, compare, cpu_seconds

SR, CLIP_SECONDS = 16000, 3.0
SPEECH, NOISE = (60, 8), (20, 30)  # the number of files, and the length of each file in seconds
ITEMS = 200


def rows(rounds: int = 15) -> list[Row]:
    """Measures three rows: the cache compared with files, both from memory, and both from files."""
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        speech, noise = Path(folder) / "speech", Path(folder) / "noise"
        for place, (count, seconds) in ((speech, SPEECH), (noise, NOISE)):
            place.mkdir()
            for number in range(count):
                soundfile.write(place / f"{number}.wav", 0.1 * rng.standard_normal(seconds * SR), SR, subtype="PCM_16")
        cached, uncached = (
            NoisySpeechMix(
                speech_dir=speech,
                noise_dir=noise,
                clip_seconds=CLIP_SECONDS,
                snr_range=(-5, 20),
                items_per_epoch=ITEMS,
                cache_mb=cache_mb,
            )
            for cache_mb in (1024.0, 0.0)
        )
        speech_files, noise_files = (list(map(str, place.iterdir())) for place in (speech, noise))
        speech_waves, noise_waves = (
            [soundfile.read(name, dtype="float32")[0] for name in names] for names in (speech_files, noise_files)
        )
        length = round(CLIP_SECONDS * SR)

        def stretch(name: str) -> np.ndarray:
            with soundfile.SoundFile(name) as file:
                file.seek(random.randrange(file.frames - length + 1))
                wave: np.ndarray = file.read(length, dtype="float32")
                return wave

        def part(wave: np.ndarray) -> np.ndarray:
            start = random.randrange(len(wave) - length + 1)
            return wave[start : start + length]

        def mixed(data: NoisySpeechMix) -> None:
            for index in range(ITEMS):
                data[index]

        def add(draw: Callable[[], tuple[np.ndarray, np.ndarray]]) -> None:
            for _ in range(ITEMS):
                voice, other = draw()
                snr = random.uniform(-5, 20)
                gain = np.sqrt(np.mean(voice**2) / (np.mean(other**2) * 10 ** (snr / 10)))
                torch.from_numpy(voice + np.float32(gain) * other), torch.from_numpy(voice)

        def from_memory() -> tuple[np.ndarray, np.ndarray]:
            return part(random.choice(speech_waves)), part(random.choice(noise_waves))

        def from_files() -> tuple[np.ndarray, np.ndarray]:
            return stretch(random.choice(speech_files)), stretch(random.choice(noise_files))

        def row(
            what: str,
            data: NoisySpeechMix,
            peer: str,
            draw: Callable[[], tuple[np.ndarray, np.ndarray]],
            goal: Goal | None,
        ) -> Row:
            return compare(
                what,
                lambda: cpu_seconds(lambda: mixed(data)),
                {peer: lambda: cpu_seconds(lambda: add(draw))},
                unit="µs of CPU an item",
                scale=1e6 / ITEMS,
                goal=goal,
                rounds=rounds,
            )

        clip = f"mixing {CLIP_SECONDS:g} s of speech and noise"
        return [
            row(f"{clip}, cached", cached, "soundfile, and adding", from_files, Goal("at most", 0.25)),
            row(f"{clip}, both from memory", cached, "adding arrays in memory", from_memory, None),
            row(f"{clip}, both from files", uncached, "soundfile, and adding", from_files, None),
        ]
