"""The perceptual evaluation of speech quality."""

from __future__ import annotations

import math
from typing import Literal

from torch import Tensor

from audiozen_core.errors import DataError, MissingExtraError


class Pesq:
    """The perceptual evaluation of speech quality, 1.0 to 4.6 (ITU-T P.862, wide band P.862.2), by the package `pesq`.

    NaN where the file has no utterance, or is too short.

    Args:
        mode: `wb` for wide band (16 kHz), `nb` for narrow band (8 or 16 kHz).

    Raises:
        MissingExtraError: pesq is not installed.
    """

    unit = ""
    higher_is_better = True

    def __init__(self, mode: Literal["wb", "nb"] = "wb") -> None:
        try:
            import pesq
        except ImportError as error:
            raise MissingExtraError("pesq", extra="metrics", needed_by="the metric PESQ") from error
        self.mode = mode
        self.name = "pesq" if mode == "wb" else "pesq_nb"
        self.label = f"PESQ {mode.upper()}"
        self._pesq = pesq

    def __call__(self, estimate: Tensor, reference: Tensor, *, sr: int) -> float:
        """The quality as MOS-LQO.

        Raises:
            DataError: a sample rate that PESQ is not made for.
        """
        if sr not in (8000, 16000) or (sr == 8000 and self.mode == "wb"):
            wanted = "16000" if self.mode == "wb" else "8000 or 16000"
            raise DataError(
                f"{self.label} is made for {wanted} Hz, but the audio has {sr} Hz",
                remedy="leave `pesq` out of the trainer's `metrics`, or resample the data",
            )
        if not reference.any() or not estimate.any():
            return math.nan
        signals = reference.float().numpy(), estimate.float().numpy()
        try:
            return float(self._pesq.pesq(sr, *signals, self.mode))
        except (self._pesq.NoUtterancesError, self._pesq.BufferTooShortError):
            return math.nan
