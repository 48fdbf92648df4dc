from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

Write = Callable[..., Path]


@pytest.fixture
def manifest(repository: Path) -> Path:
    """Returns the manifest of the corpus that is committed with the recipe."""
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


_recorders: list[list[str]] = []


def _record(event: str, arguments: tuple[Any, ...]) -> None:
    if _recorders and event == "open" and isinstance(arguments[0], str | Path):
        _recorders[-1].append(str(arguments[0]))


# Once for all tests: an audit hook can't be removed.
sys.addaudithook(_record)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Records the paths that Python or libsndfile opens during the test, one entry for each time."""
    recorded: list[str] = []
    init = soundfile.SoundFile.__init__

    def open_by_path(self: soundfile.SoundFile, file: Any, *args: Any, **options: Any) -> None:
        # libsndfile opens a path itself, so `open` in Python does not see it.
        if isinstance(file, str | Path):
            recorded.append(str(file))
        init(self, file, *args, **options)

    monkeypatch.setattr(soundfile.SoundFile, "__init__", open_by_path)
    _recorders.append(recorded)
    yield recorded
    _recorders.remove(recorded)
