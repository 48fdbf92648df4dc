"""PESQ, the perceptual evaluation of speech quality."""

from __future__ import annotations

import contextlib
import importlib.util
import math
import subprocess
import sys
from collections.abc import Sequence
from typing import Literal

import numpy as np
from torch import Tensor

from audiozen_core.errors import MissingExtraError
from audiozen_core.logging import get_logger
from audiozen_plugins.metric.comparable import comparable
from audiozen_plugins.metric.rates import check_rate, resampled

SAFE_SECONDS = 20.0
"""A file up to this length, in seconds, can't have more utterances than the package has room for."""

_RESAMPLED = 16_000
"""The rate of resampled copies, in hertz."""

_CHILD = """
import sys
import numpy as np
import pesq
sr, mode = int(sys.argv[1]), sys.argv[2]
frames = int(sys.argv[3])
reference, estimate = (np.frombuffer(sys.stdin.buffer.read(4 * frames), np.float32) for _ in range(2))
sys.stdout.write(repr(float(pesq.pesq(sr, reference, estimate, mode, on_error=pesq.PesqError.RETURN_VALUES))))
"""


class Pesq:
    """PESQ, from 1.0 to 4.6 (ITU-T P.862, wide band P.862.2), computed by the package `pesq`.

    PESQ is defined for audio at 16 kHz (narrow band: also 8 kHz). To rate audio at another sample rate, such as 48 kHz,
    set `resample`. The metric is then called `pesq_16k`.

    The value is NaN if the file has no utterance, or is too short, silent or not finite.

    The package has room for 50 utterances. With more utterances, it writes beyond its memory, and the process may
    crash. In P.862, an utterance and a pause each last at least 0.2 s, so only files of more than 20 s can have more
    than 50 utterances. PESQ of such files is computed in another process. If this process crashes, the value is NaN,
    and a warning is logged.

    Args:
        mode: `wb` for wide band (16 kHz), `nb` for narrow band (8 or 16 kHz).
        resample: whether to accept audio of any sample rate, and to rate copies that are resampled to 16 kHz with
            `torchaudio.functional.resample` and a Kaiser window. Frequencies above 7 kHz are then not rated. In tables
            and records, the metric is called `pesq_16k` (or `pesq_nb_16k`), because it is not the PESQ of the files.

    Raises:
        MissingExtraError: pesq is not installed.
    """

    unit = ""
    higher_is_better = True
    keeps_signals = True
    packages = ("pesq",)
    modules = ("pesq",)

    def __init__(self, mode: Literal["wb", "nb"] = "wb", resample: bool = False) -> None:
        # The package is located but not imported, so that training does not wait for the import.
        if importlib.util.find_spec("pesq") is None:
            raise MissingExtraError("pesq", extra="pesq", needed_by="the metric PESQ", compiled=True)
        self.mode = mode
        self.resample = resample
        self.name = "pesq" if mode == "wb" else "pesq_nb"
        self.label = f"PESQ {mode.upper()}"
        if resample:
            self.name, self.label = f"{self.name}_16k", f"{self.label} at 16 kHz"
            self.computed_at = _RESAMPLED
        else:
            self.sample_rates = (16000,) if mode == "wb" else (8000, 16000)

    def __call__(self, estimate: Tensor, reference: Tensor, *, sr: int) -> float:
        """Computes the quality (MOS-LQO) of the estimate [time] against the reference [time].

        Raises:
            DataError: PESQ is not defined for the sample rate.
            ValueError: the shapes differ.
        """
        if not self.resample:
            check_rate(self.label, "pesq", sr, self.sample_rates, resamples=True)
        if not comparable(estimate, reference):
            return math.nan
        if self.resample and sr != _RESAMPLED:
            estimate, reference = (resampled(signal, sr, _RESAMPLED) for signal in (estimate, reference))
            sr = _RESAMPLED
        signals = [signal.float().contiguous().numpy() for signal in (reference, estimate)]
        score = self._inside(signals, sr) if reference.numel() <= SAFE_SECONDS * sr else self._outside(signals, sr)
        return score if score >= 0 else math.nan  # a negative value is an error code

    def _inside(self, signals: Sequence[np.ndarray], sr: int) -> float:
        from pesq import PesqError, pesq

        try:
            return float(pesq(sr, *signals, self.mode, on_error=PesqError.RETURN_VALUES))
        except ValueError:  # pesq raises this error for a signal that is almost silent
            return math.nan

    def _outside(self, signals: Sequence[np.ndarray], sr: int) -> float:
        command = [sys.executable, "-c", _CHILD, str(sr), self.mode, str(len(signals[0]))]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as done:
            assert done.stdin is not None
            assert done.stdout is not None
            # The tensors are written directly, because a copy of an hour of audio would take 230 MB.
            with contextlib.suppress(BrokenPipeError), done.stdin as pipe:
                for signal in signals:
                    pipe.write(signal.data)
            answer = done.stdout.read()
        try:
            return float(answer)
        except ValueError:
            get_logger().warning(
                "PESQ failed for a long file, perhaps because it has more than 50 utterances",
                seconds=round(len(signals[0]) / sr, 1),
                exit_code=done.returncode,
            )
            return math.nan


class PesqNb(Pesq):
    """Narrow-band PESQ, up to 3.4 kHz: `pesq` with `mode = "nb"`, under its own name.

    It is defined for audio at 8 and 16 kHz. Never compare its values with wide-band PESQ, whose values are lower.

    Args:
        resample: as in `pesq`.

    Raises:
        MissingExtraError: pesq is not installed.
    """

    same_as = Pesq

    def __init__(self, resample: bool = False) -> None:
        super().__init__("nb", resample)
