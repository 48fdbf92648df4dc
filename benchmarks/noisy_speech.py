"""Folders of real noisy speech, mixed from the corpus of the recipes."""

from __future__ import annotations

from itertools import cycle, islice
from pathlib import Path

import numpy as np
import soundfile

CORPUS = Path(__file__).resolve().parent.parent / "recipes" / "mini_denoise" / "corpus"


def write_pairs(folder: Path, count: int) -> float:
    """Writes `clean/NAME.wav` and `noisy/NAME.wav`, of 2 to 8 s at 16 kHz, in 16 bits.

    Args:
        folder: the folder, which exists.
        count: the number of pairs; the corpus has 212 utterances.

    Returns:
        The duration of all clean files, in seconds.
    """
    speech = sorted((CORPUS / "speech").rglob("*.flac"))
    noises = sorted((CORPUS / "noise").rglob("*.flac"))
    rng = np.random.default_rng(0)
    for kind in ("clean", "noisy"):
        (folder / kind).mkdir()
    seconds = 0.0
    order = rng.permutation(len(speech))
    for number, (index, noise_path) in enumerate(zip(islice(cycle(order), count), cycle(noises), strict=False)):
        clean, sr = soundfile.read(speech[index])
        noise = np.resize(soundfile.read(noise_path)[0], len(clean))
        snr = rng.uniform(0, 15)
        noisy = clean + noise * np.sqrt(np.square(clean).sum() / np.square(noise).sum()) * 10 ** (-snr / 20)
        gain = 0.9 / max(np.abs(noisy).max(), np.abs(clean).max())
        soundfile.write(folder / "clean" / f"{number:03}.wav", gain * clean, sr)
        soundfile.write(folder / "noisy" / f"{number:03}.wav", gain * noisy, sr)
        seconds += len(clean) / sr
    return seconds
