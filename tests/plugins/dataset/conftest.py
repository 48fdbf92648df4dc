from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

Write = Callable[..., Path]


@pytest.fixture
def manifest(repository: Path) -> Path:
    """The manifest of the corpus that is committed with the recipe."""
    return repository / "recipes" / "mini_denoise" / "corpus" / "manifest.csv"


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes seeded noise as a 16-bit file below the test's folder: `write("clean/a.wav", seconds=1.0)`."""

    def write(name: str, *, seconds: float = 1.0, sr: int = 16000, wave: np.ndarray | None = None) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if wave is None:
            wave = np.random.default_rng(len(name)).uniform(-0.5, 0.5, round(seconds * sr))
        soundfile.write(path, wave, sr, subtype="PCM_16")
        return path

    return write
