"""DNSMOS: a network that predicts how people would rate the quality of speech, without a clean reference."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch import Tensor

from audiozen_core.errors import DataError, MissingExtraError

Aspect = Literal["overall", "signal", "background"]

_SR = 16_000
_WINDOW = int(9.01 * _SR)
_MODEL = "dnsmos_models/sig_bak_ovr.onnx"
_ASPECTS: dict[Aspect, tuple[int, str, str, tuple[float, ...]]] = {
    "signal": (0, "dnsmos_sig", "DNSMOS SIG", (0.0052439, 1.22083953, -0.08397278)),
    "background": (1, "dnsmos_bak", "DNSMOS BAK", (-0.39604546, 1.60915514, -0.13166888)),
    "overall": (2, "dnsmos", "DNSMOS OVRL", (0.04602535, 1.11546468, -0.06766283)),
}
"""For each aspect: its index in the output of the network, its name, its label, and the coefficients of the polynomial
that maps it to the rating scale."""


class Dnsmos:
    """DNSMOS P.835, from 1 to 5, computed by the network in the package `speechmos`.

    The value is the mean over windows of 9.01 s, one second apart. A shorter file is repeated. The reference is not
    used. The value is NaN if the estimate is empty or not finite. Reddy, Gopal and Cutler, "DNSMOS P.835: A
    Non-Intrusive Perceptual Objective Speech Quality Metric to Evaluate Noise Suppressors", ICASSP 2022.

    Args:
        aspect: the rated aspect: the `overall` quality, the speech `signal`, or the `background` noise.

    Raises:
        MissingExtraError: speechmos or onnxruntime is not installed.
    """

    unit = ""
    higher_is_better = True
    sample_rates = (_SR,)
    needs = ()
    packages = ("speechmos", "onnxruntime")

    def __init__(self, aspect: Aspect = "overall") -> None:
        for package in ("speechmos", "onnxruntime"):
            if importlib.util.find_spec(package) is None:
                raise MissingExtraError(package, extra="metrics", needed_by="the metric DNSMOS")
        self.aspect = aspect
        self._index, self.name, self.label, self._mapping = _ASPECTS[aspect]
        self._session: Any = None

    @property
    def weights(self) -> tuple[Path, ...]:
        """The file of the network."""
        return (_network(),)

    def __call__(self, estimate: Tensor, reference: Tensor | None = None, *, sr: int) -> float:
        """Computes the rating of the estimate [time].

        Raises:
            DataError: the sample rate is not 16 kHz.
        """
        if sr != _SR:
            raise DataError(
                f"{self.label} needs audio with a sample rate of {_SR} Hz, but this audio has {sr} Hz",
                remedy="remove `dnsmos` from the `metrics` of the trainer, or resample the data",
            )
        if not estimate.numel() or not estimate.isfinite().all():
            return math.nan
        if self._session is None:
            self._session = _open_session()
        raw = [self._session.run(None, {"input_1": window[None]})[0][0] for window in windows(estimate.float().numpy())]
        ratings = np.polynomial.polynomial.polyval(np.asarray(raw, np.float64)[:, self._index], self._mapping)
        return float(ratings.mean())

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_session": None}  # a session can't be sent to another process


def windows(signal: np.ndarray) -> list[np.ndarray]:
    """Cuts a signal [time] into the inputs of the network, each [144160]."""
    while len(signal) < _WINDOW:
        signal = np.concatenate([signal, signal])
    count = int(len(signal) // _SR - 9.01) + 1
    starts = [index * _SR for index in range(count) if index * _SR + _WINDOW <= len(signal)]
    return [signal[start : start + _WINDOW] for start in starts]


def _network() -> Path:
    # The package is located but not imported, because importing it requires several packages that we do not use.
    package = importlib.util.find_spec("speechmos")
    assert package is not None
    assert package.origin is not None
    return Path(package.origin).parent / _MODEL


def _open_session() -> Any:
    import onnxruntime  # type: ignore[import-not-found, unused-ignore]

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(_network()), options, providers=["CPUExecutionProvider"])
