"""PLCMOS: a network that predicts how people would rate speech with concealed packet losses."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from torch import Tensor

from audiozen_plugins.metric.comparable import rateable
from audiozen_plugins.metric.onnx_network import OnnxNetwork
from audiozen_plugins.metric.rates import check_rate, resampled

_SR = 16_000
_FRAME, _HOP = 512, 256
_RATERS = 15


class Plcmos:
    """PLCMOS v2, from about 1 to 5, computed by the network in the package `speechmos`, without a clean reference.

    PLCMOS rates the concealment of lost packets, not noise suppression. A random input vector represents a listener,
    and the value is the mean over 15 listeners. The package draws other listeners in each call. Here they always come
    from NumPy's generator with the seed 0, so that a file always has the same value. The package returns the same value
    if the global generator of NumPy has the seed 0. The value is NaN if the estimate is empty, silent or not finite.
    Diener et al., "PLCMOS – A Data-Driven Non-Intrusive Metric for the Evaluation of Packet Loss Concealment
    Algorithms", Interspeech 2023.

    Args:
        resample: whether to accept audio of any sample rate, and to rate copies that are resampled to 16 kHz. The
            metric is then called `plcmos_16k`.

    Raises:
        MissingExtraError: speechmos or onnxruntime is not installed.
    """

    name = "plcmos"
    label = "PLCMOS"
    unit = ""
    higher_is_better = True
    needs = ()
    packages = ("speechmos", "onnxruntime")

    def __init__(self, resample: bool = False) -> None:
        self._network = OnnxNetwork("plcmos_models/plcmos_v2.onnx", needed_by="the metric PLCMOS")
        self.resample = resample
        if resample:
            self.name, self.label, self.computed_at = "plcmos_16k", "PLCMOS at 16 kHz", _SR
        else:
            self.sample_rates = (_SR,)

    @property
    def weights(self) -> tuple[Path, ...]:
        """The file with the weights of the network."""
        return (self._network.path,)

    def __call__(self, estimate: Tensor, reference: Tensor | None = None, *, sr: int) -> float:
        """Computes the rating of the estimate [time].

        Raises:
            DataError: the sample rate is not 16 kHz.
        """
        if not self.resample:
            check_rate(self.label, "plcmos", sr, (_SR,), resamples=True)
        if not rateable(estimate):
            return math.nan
        features = _features(resampled(estimate, sr, _SR).float().numpy())[None, None]
        raters = np.random.RandomState(0).normal(size=(_RATERS, 1, 64)).astype(np.float32)
        ratings = [
            float(self._network({"degraded_audio": features, "rater_embed": rater}).reshape(-1)[0]) for rater in raters
        ]
        return math.fsum(ratings) / _RATERS


def _features(signal: np.ndarray) -> np.ndarray:
    """Returns the logarithmic spectrum [frames, frequencies] that is the input of the network."""
    count = math.ceil((len(signal) + _FRAME - _HOP) / _HOP)
    padded = np.zeros((count - 1) * _HOP + _FRAME, signal.dtype)
    padded[_FRAME - _HOP :][: len(signal)] = signal
    frames = np.lib.stride_tricks.sliding_window_view(padded, _FRAME)[::_HOP]
    # The network was trained with the power, the square of the magnitude.
    power = np.abs(np.fft.rfft(frames * np.hamming(_FRAME + 1)[:-1])) ** 2
    sounding = power > 0
    logarithm = np.full_like(power, np.log(power[sounding].min()) - 12 * np.log(10))
    logarithm[sounding] = np.log(power[sounding])
    features: np.ndarray = (logarithm / 20).astype(np.float32)
    return features
