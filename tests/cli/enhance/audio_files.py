"""Reads and writes the files of these tests: audio, and the record of what is done."""

import json
from pathlib import Path

import numpy as np
import soundfile

SR = 16000


def noise(length=4000, channels=1, seed=0):
    return 0.1 * np.random.default_rng(seed).standard_normal((length, channels)).astype("float32")


def write(path, wave=None, sr=SR, **options):
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, noise() if wave is None else wave, sr, **options)
    return path


def read(path):
    return soundfile.read(path, dtype="float32", always_2d=True)[0]


def records(folder):
    return [json.loads(line) for line in (Path(folder) / "enhanced.jsonl").read_text().splitlines()]
