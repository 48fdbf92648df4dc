from __future__ import annotations

import os
from pathlib import Path

import pytest
import soundfile
import torch
from torch import Tensor


@pytest.fixture(scope="session")
def reference_data() -> Path:
    root = os.environ.get("AUDIOZEN_REFERENCE_DATA", "")
    if not root or not Path(root, "sdnn").is_dir():
        pytest.skip("AUDIOZEN_REFERENCE_DATA does not name the folder with the reference data")
    return Path(root)


def read_wave(path: Path) -> Tensor:
    """Reads a mono file as [1, time]."""
    return torch.from_numpy(soundfile.read(path, dtype="float32")[0])[None]


def signal_to_difference(signal: Tensor, other: Tensor) -> float:
    """Returns the ratio of a signal to its difference from another one, in dB."""
    return float(10 * torch.log10(signal.square().sum() / (signal - other).square().sum()))


def noise_spectrum(*shape: int, seed: int = 0) -> Tensor:
    """Returns random complex spectra [batch, frequencies, frames]."""
    return torch.randn(*shape, dtype=torch.complex64, generator=torch.Generator().manual_seed(seed))
