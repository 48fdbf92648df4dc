"""The trained networks that this plugin publishes. Each function returns a folder that `audiozen export` has written."""

from __future__ import annotations

from pathlib import Path


def mini_denoiser() -> Path:
    """Removes noise from speech at 16 kHz: a `gru_mask` with 48 units, trained for minutes on a small corpus."""
    return Path(__file__).parent / "mini_denoiser"
