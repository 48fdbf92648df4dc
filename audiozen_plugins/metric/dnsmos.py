"""DNSMOS: networks that predict how people would rate the quality of speech, without a clean reference."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
from torch import Tensor

from audiozen_plugins.metric.comparable import rateable
from audiozen_plugins.metric.mel import decibels_below_peak, mel_power
from audiozen_plugins.metric.onnx_network import OnnxNetwork
from audiozen_plugins.metric.rates import check_rate, resampled
from audiozen_plugins.metric.shared_result import SharedResult

Aspect = Literal["overall", "signal", "background"]

_SR = 16_000
_WINDOW = int(9.01 * _SR)
_ASPECTS: dict[Aspect, tuple[int, str, str, tuple[float, ...]]] = {
    "signal": (0, "dnsmos_sig", "DNSMOS SIG", (0.0052439, 1.22083953, -0.08397278)),
    "background": (1, "dnsmos_bak", "DNSMOS BAK", (-0.39604546, 1.60915514, -0.13166888)),
    "overall": (2, "dnsmos", "DNSMOS OVRL", (0.04602535, 1.11546468, -0.06766283)),
}
"""For each aspect: its index in the output of the network, its name, its label, and the coefficients of the polynomial
that maps it to the rating scale."""
_RAW: SharedResult[np.ndarray] = SharedResult()


class _OfWindows:
    """A rating of 16 kHz audio by a network: the mean over excerpts of 9.01 s.

    Args:
        file: the file of the network in the package `speechmos`.
        name: the name of the metric in results.
        label: the label of the metric in tables.
        path: the name of the metric in a TOML file.
        resample: whether to accept audio of any sample rate.
    """

    unit = ""
    higher_is_better = True
    needs = ()
    packages = ("speechmos", "onnxruntime")

    def __init__(self, file: str, name: str, label: str, *, path: str, resample: bool) -> None:
        self.name, self.label, self._path, self.resample = name, label, path, resample
        self._network = OnnxNetwork(file, needed_by="the metric DNSMOS")
        if resample:
            self.name, self.label = f"{name}_16k", f"{label} at 16 kHz"
            self.computed_at = _SR
        else:
            self.sample_rates = (_SR,)

    @property
    def weights(self) -> tuple[Path, ...]:
        """The file with the weights of the network."""
        return (self._network.path,)

    def _windows(self, estimate: Tensor, sr: int) -> list[np.ndarray]:
        """Returns the excerpts of the estimate [time]; an empty list if the estimate can't be rated."""
        if not self.resample:
            check_rate(self.label, self._path, sr, (_SR,), resamples=True)
        return network_windows(resampled(estimate, sr, _SR).float().numpy()) if rateable(estimate) else []


class Dnsmos(_OfWindows):
    """DNSMOS P.835, from 1 to 5, computed by the network in the package `speechmos`.

    The value is the mean over excerpts of 9.01 s that begin one second apart. A shorter file is repeated. The reference
    is not used. The value is NaN if the estimate is empty, silent or not finite. Reddy, Gopal and Cutler, "DNSMOS
    P.835: A Non-Intrusive Perceptual Objective Speech Quality Metric to Evaluate Noise Suppressors", ICASSP 2022.

    The value equals the value of speechmos 0.0.1.1 without personalisation. speechmos raises an error for samples
    beyond full scale; this metric rates them unchanged. See docs/metrics.md for other versions of DNSMOS.

    Args:
        aspect: the rated aspect: the `overall` quality, the speech `signal`, or the `background` noise.
        resample: whether to accept audio of any sample rate, and to rate copies that are resampled to 16 kHz. The
            metric then has another name, such as `dnsmos_16k`.

    Raises:
        MissingExtraError: speechmos or onnxruntime is not installed.
    """

    def __init__(self, aspect: Aspect = "overall", resample: bool = False) -> None:
        self.aspect = aspect
        self._index, name, label, self._mapping = _ASPECTS[aspect]
        super().__init__("dnsmos_models/sig_bak_ovr.onnx", name, label, path="dnsmos", resample=resample)

    def __call__(self, estimate: Tensor, reference: Tensor | None = None, *, sr: int) -> float:
        """Computes the rating of the estimate [time].

        Raises:
            DataError: the sample rate is not 16 kHz.
        """
        segments = self._windows(estimate, sr)
        if not segments:
            return math.nan
        compute: Callable[[], np.ndarray] = lambda: np.stack(  # noqa: E731 - shared by the three aspects
            [self._network({"input_1": segment[None]})[0] for segment in segments]
        )
        raw = _RAW.get_or_compute((estimate,), sr, compute)
        ratings = np.polynomial.polynomial.polyval(raw.astype(np.float64)[:, self._index], self._mapping)
        return float(ratings.mean())


class DnsmosP808(_OfWindows):
    """DNSMOS P.808, from 1 to 5: the overall quality according to ITU-T P.808, an older kind of listening test.

    The network in the package `speechmos` computes it. The excerpts are the same as for `Dnsmos`. The scales of
    `dnsmos` and `dnsmos_p808` differ, so never compare values of both metrics with each other. Reddy, Gopal and Cutler,
    "DNSMOS: A Non-Intrusive Perceptual Objective Speech Quality Metric to Evaluate Noise Suppressors", ICASSP 2021. The
    value equals the value of speechmos 0.0.1.1 up to the rounding of its mel spectrogram.

    Args:
        resample: whether to accept audio of any sample rate, and to rate copies that are resampled to 16 kHz. The
            metric is then called `dnsmos_p808_16k`.

    Raises:
        MissingExtraError: speechmos or onnxruntime is not installed.
    """

    def __init__(self, resample: bool = False) -> None:
        super().__init__(
            "dnsmos_models/model_v8.onnx", "dnsmos_p808", "DNSMOS P.808", path="dnsmos_p808", resample=resample
        )

    def __call__(self, estimate: Tensor, reference: Tensor | None = None, *, sr: int) -> float:
        """Computes the rating of the estimate [time].

        Raises:
            DataError: the sample rate is not 16 kHz.
        """
        ratings = []
        for segment in self._windows(estimate, sr):
            mels = mel_power(segment[:-160], _SR, n_fft=321, hop_length=160, n_mels=120)
            features = ((decibels_below_peak(mels) + 40) / 40).T.astype(np.float32)
            ratings.append(float(self._network({"input_1": features[None]})[0, 0]))
        return float(np.mean(ratings)) if ratings else math.nan


def network_windows(signal: np.ndarray) -> list[np.ndarray]:
    """Cuts a signal [time] into the inputs of the network, each [144160]."""
    while len(signal) < _WINDOW:
        signal = np.concatenate([signal, signal])
    count = int(len(signal) // _SR - 9.01) + 1
    starts = [index * _SR for index in range(count) if index * _SR + _WINDOW <= len(signal)]
    return [signal[start : start + _WINDOW] for start in starts]
