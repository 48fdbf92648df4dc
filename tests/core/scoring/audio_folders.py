"""Folders of short audio files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

RATE = 16_000


def noise(seed: int, length: int = 4000, level: float = 0.1) -> np.ndarray:
    """Returns white noise, [time]."""
    return level * np.random.default_rng(seed).standard_normal(length)


def write_pairs(root: Path, names=("a", "b", "c"), *, rate: int = RATE, suffix: str = ".wav") -> dict[str, np.ndarray]:
    """Writes `clean/NAME.wav`, and `enhanced/NAME.wav` with added noise. Returns the clean signals by name."""
    signals = {}
    for index, name in enumerate(names):
        signals[name] = noise(index)
        write(root / "clean" / f"{name}{suffix}", signals[name], rate)
        write(root / "enhanced" / f"{name}{suffix}", signals[name] + noise(100 + index, level=0.03), rate)
    return signals


def write(path: Path, wave: np.ndarray, rate: int = RATE, **form: str) -> Path:
    """Writes an audio file and its folder. By default the samples are written exactly, as float."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".wav" and not form:
        form = {"subtype": "FLOAT"}
    soundfile.write(path, wave, rate, **form)
    return path
