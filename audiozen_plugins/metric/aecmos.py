"""AECMOS: networks that predict how people would rate speech after acoustic echo cancellation."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from audiozen_core.errors import RunError
from audiozen_plugins.metric.comparable import rateable
from audiozen_plugins.metric.mel import decibels_below_peak, mel_power
from audiozen_plugins.metric.onnx_network import OnnxNetwork
from audiozen_plugins.metric.rates import check_rate
from audiozen_plugins.metric.shared_result import SharedResult

Talk = Literal["near", "far", "double"]

_SECONDS = 20
_MODELS = {
    (16_000, False): ("Run_1663829550_Stage_0.onnx", 512, 64),
    (16_000, True): ("Run_1663915512_Stage_0.onnx", 512, 64),
    (48_000, True): ("Run_1668423760_Stage_0.onnx", 1536, 96),
}
"""The networks, by sample rate and by whether they are told who talks: the file, the FFT size, and the hidden size."""
_TALKING: dict[Talk, tuple[int, int]] = {"near": (1, 0), "far": (0, 1), "double": (1, 1)}
"""For each value of `talk`: whether somebody talks at the near end, and whether somebody talks at the far end."""
_RATINGS: SharedResult[tuple[float, float]] = SharedResult()


class Aecmos:
    """AECMOS, from 1 to 5: a rating of the echo or of other degradation. The package `speechmos` contains the networks.

    AECMOS needs the signal of the loudspeaker as `far_end`, and the signal of the microphone as the noisy signal. All
    signals must be aligned as in the input of the enhancement network. Only the first 20 s are rated. The value is NaN
    if the estimate or the microphone signal is empty, silent or not finite. The loudspeaker signal may be silent. The
    values equal the values of speechmos 0.0.1.1 up to the rounding of its mel spectrograms. Purin et al., "AECMOS: A
    Speech Quality Assessment Metric for Echo Impairment", ICASSP 2022.

    Args:
        aspect: the rated aspect. `echo` rates how audible the echo is (`aecmos_echo`), and `degradation` rates other
            degradation of the speech (`aecmos_degradation`). A high value is good.
        talk: who talks: the `near` end, the `far` end or both (`double`). It must be the same for all files of a test.
            If `talk` is not given, another network is used, which is not told who talks. Its values differ.
        sr: the sample rate of the network, in hertz: 16000, or 48000 if `talk` is given.

    Raises:
        MissingExtraError: speechmos or onnxruntime is not installed.
        RunError: `sr` is 48000 and `talk` is not given.
    """

    unit = ""
    higher_is_better = True
    needs = ("noisy", "far_end")
    packages = ("speechmos", "onnxruntime")

    def __init__(
        self,
        aspect: Literal["echo", "degradation"] = "echo",
        talk: Talk | None = None,
        sr: Literal[16000, 48000] = 16000,
    ) -> None:
        if (sr, talk is not None) not in _MODELS:
            raise RunError(
                f"AECMOS has no network for {sr} Hz that is not told who talks",
                remedy='add `talk = "near"`, "far" or "double" to its `args`, or rate at 16000 Hz',
            )
        file, self._size, self._hidden = _MODELS[sr, talk is not None]
        self._network = OnnxNetwork(f"aecmos_models/{file}", needed_by="the metric AECMOS")
        self.aspect, self.talk, self.sr = aspect, talk, sr
        self.sample_rates = (sr,)
        self.name = f"aecmos_{aspect}"
        self.label = f"AECMOS {aspect}"

    @property
    def weights(self) -> tuple[Path, ...]:
        """The file with the weights of the network."""
        return (self._network.path,)

    def __call__(
        self,
        estimate: Tensor,
        reference: Tensor | None = None,
        *,
        sr: int,
        noisy: Tensor | None = None,
        far_end: Tensor | None = None,
    ) -> float:
        """Computes the rating of the estimate [time], given the signals of microphone and loudspeaker [time].

        Raises:
            DataError: the network does not take the sample rate.
            ValueError: a signal is missing, or the shapes differ.
        """
        check_rate(self.label, "aecmos", sr, self.sample_rates, resamples=False)
        if noisy is None or far_end is None:
            raise ValueError("AECMOS needs the microphone as `noisy` and the loudspeaker as `far_end`")
        signals = far_end, noisy, estimate
        if len({signal.shape for signal in signals}) > 1:
            raise ValueError(f"the shapes differ: {', '.join(str(list(signal.shape)) for signal in signals)}")
        if not (rateable(estimate) and rateable(noisy) and torch.isfinite(far_end).all()):
            return math.nan
        ratings = _RATINGS.get_or_compute(signals, (self._network.path, self.talk), lambda: self._rate(signals))
        return ratings[0 if self.aspect == "echo" else 1]

    def _rate(self, signals: tuple[Tensor, Tensor, Tensor]) -> tuple[float, float]:
        """Returns the ratings of echo and degradation."""
        features = [self._features(signal[: _SECONDS * self.sr].float().numpy()) for signal in signals]
        if self.talk is not None:
            near, far = _TALKING[self.talk]
            # After each spectrogram, frames of ones or zeros tell the network whether the signal contains speech.
            shape = 20, features[0].shape[1]
            features = [
                np.concatenate([one, np.full(shape, mark), np.zeros(shape)])
                for one, mark in zip(features, (far, near, 1), strict=True)
            ]
        hidden = np.zeros((4, 1, self._hidden), np.float32)
        result = self._network({"input": np.stack(features)[None].astype(np.float32), "h0": hidden})
        return float(result[0]), float(result[1])

    def _features(self, signal: np.ndarray) -> np.ndarray:
        mels = mel_power(signal, self.sr, n_fft=self._size + 1, hop_length=self._size // 2, n_mels=160)
        return np.transpose((decibels_below_peak(mels) + 40) / 40)
