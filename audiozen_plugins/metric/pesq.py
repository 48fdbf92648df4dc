"""The perceptual evaluation of speech quality."""

from __future__ import annotations

import importlib
import math
import subprocess
import sys
from typing import Literal

import numpy as np
from torch import Tensor

from audiozen_core.errors import DataError, MissingExtraError
from audiozen_core.logging import get_logger

SAFE_SECONDS = 20.0
"""No file of this length holds more utterances than the package has room for."""

_CHILD = """
import sys
import numpy as np
import pesq
sr, mode = int(sys.argv[1]), sys.argv[2]
reference, estimate = np.frombuffer(sys.stdin.buffer.read(), np.float32).reshape(2, -1)
sys.stdout.write(repr(float(pesq.pesq(sr, reference, estimate, mode, on_error=pesq.PesqError.RETURN_VALUES))))
"""


class Pesq:
    """The perceptual evaluation of speech quality, 1.0 to 4.6 (ITU-T P.862, wide band P.862.2), by the package `pesq`.

    NaN where the file has no utterance, is too short, silent, or not finite.

    The package has room for 50 utterances and writes past it where there are more, which may end the whole process.
    Utterances and pauses of P.862 last 0.2 s at least; so files of more than 20 s, which alone can hold that many, are
    measured in a process of their own. One that ends badly gives NaN, and a warning.

    Args:
        mode: `wb` for wide band (16 kHz), `nb` for narrow band (8 or 16 kHz).

    Raises:
        MissingExtraError: pesq is not installed.
    """

    unit = ""
    higher_is_better = True

    def __init__(self, mode: Literal["wb", "nb"] = "wb") -> None:
        try:
            importlib.import_module("pesq")
        except ImportError as error:
            raise MissingExtraError("pesq", extra="metrics", needed_by="the metric PESQ") from error
        self.mode = mode
        self.name = "pesq" if mode == "wb" else "pesq_nb"
        self.label = f"PESQ {mode.upper()}"

    def __call__(self, estimate: Tensor, reference: Tensor, *, sr: int) -> float:
        """The quality as MOS-LQO.

        Raises:
            DataError: a sample rate that PESQ is not made for.
            ValueError: the shapes differ.
        """
        if sr not in (8000, 16000) or (sr == 8000 and self.mode == "wb"):
            wanted = "16000" if self.mode == "wb" else "8000 or 16000"
            raise DataError(
                f"{self.label} is made for {wanted} Hz, but the audio has {sr} Hz",
                remedy="leave `pesq` out of the trainer's `metrics`, or resample the data",
            )
        if estimate.shape != reference.shape:
            raise ValueError(f"the shapes differ: {list(estimate.shape)} and {list(reference.shape)}")
        signals = np.stack([reference.float().numpy(), estimate.float().numpy()])
        if not np.isfinite(signals).all() or not signals.any(axis=1).all():
            return math.nan
        score = self._inside(signals, sr) if reference.numel() <= SAFE_SECONDS * sr else self._outside(signals, sr)
        return score if score >= 0 else math.nan  # negative ones are codes of errors

    def _inside(self, signals: np.ndarray, sr: int) -> float:
        from pesq import PesqError, pesq

        try:
            return float(pesq(sr, *signals, self.mode, on_error=PesqError.RETURN_VALUES))
        except ValueError:  # what it does with a signal that is silent but for a last bit
            return math.nan

    def _outside(self, signals: np.ndarray, sr: int) -> float:
        command = [sys.executable, "-c", _CHILD, str(sr), self.mode]
        done = subprocess.run(command, input=signals.tobytes(), capture_output=True, check=False)
        try:
            return float(done.stdout)
        except ValueError:
            get_logger().warning(
                "PESQ gave up a long file: more than 50 utterances, perhaps",
                seconds=round(signals.shape[1] / sr, 1),
                exit_code=done.returncode,
            )
            return math.nan
