"""Writes folders of noisy speech, mixed from the corpus of the recipe `mini_denoise`."""

from __future__ import annotations

from itertools import cycle, islice
from pathlib import Path

import numpy as np
import soundfile

CORPUS = Path(__file__).resolve().parent.parent / "recipes" / "mini_denoise" / "corpus"


def write_pairs(folder: Path, count: int) -> float:
    """Writes pairs of `clean/NAME.wav` and `noisy/NAME.wav`. Each file lasts 2 to 8 s, at 16 kHz and with 16 bits.

    Args:
        folder: an existing folder.
        count: the number of pairs. If it is above 212, utterances of the corpus are used more than once.

    Returns:
        The total duration of the clean files, in seconds.
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
