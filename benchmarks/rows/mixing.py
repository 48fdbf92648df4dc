"""Mixing speech and noise on the fly: our data set with its cache, and plain reading and adding.

Each item has three seconds of a random stretch of speech and of noise, at a random ratio. The peer reads both stretches
from WAV files with soundfile, each opened once, and adds them at the same ratios. It does not set the level, avoid
clipping, or leave out silence, as ours does.
"""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

import numpy as np
import soundfile
import torch

from audiozen.dataset import NoisySpeechMix
from benchmarks.measuring import Goal, Row, compare, cpu_seconds

SR, CLIP_SECONDS = 16000, 3.0
SPEECH, NOISE = (60, 8), (20, 30)  # files, and seconds of each
ITEMS = 200


def rows(rounds: int = 15) -> list[Row]:
    """One row."""
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        speech, noise = Path(folder) / "speech", Path(folder) / "noise"
        for place, (count, seconds) in ((speech, SPEECH), (noise, NOISE)):
            place.mkdir()
            for number in range(count):
                soundfile.write(place / f"{number}.wav", 0.1 * rng.standard_normal(seconds * SR), SR, subtype="PCM_16")
        data = NoisySpeechMix(
            speech_dir=speech, noise_dir=noise, clip_seconds=CLIP_SECONDS, snr_range=(-5, 20), items_per_epoch=ITEMS
        )
        speech_files, noise_files = (list(map(str, place.iterdir())) for place in (speech, noise))
        length = round(CLIP_SECONDS * SR)

        def stretch(name: str) -> np.ndarray:
            with soundfile.SoundFile(name) as file:
                file.seek(random.randrange(file.frames - length + 1))
                wave: np.ndarray = file.read(length, dtype="float32")
                return wave

        def mixed() -> None:
            for index in range(ITEMS):
                data[index]

        def plain() -> None:
            for _ in range(ITEMS):
                voice, other = stretch(random.choice(speech_files)), stretch(random.choice(noise_files))
                snr = random.uniform(-5, 20)
                gain = np.sqrt(np.mean(voice**2) / (np.mean(other**2) * 10 ** (snr / 10)))
                torch.from_numpy(voice + gain * other), torch.from_numpy(voice)

        return [
            compare(
                f"mixing {CLIP_SECONDS:g} s of speech and noise, cached",
                lambda: cpu_seconds(mixed),
                {"reading with soundfile, and adding": lambda: cpu_seconds(plain)},
                unit="µs of CPU an item",
                scale=1e6 / ITEMS,
                goal=Goal("at most", 0.3),
                rounds=rounds,
            )
        ]
