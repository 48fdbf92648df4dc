"""The similarity of the voices in two signals."""

from __future__ import annotations

import importlib.util
import math
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from audiozen_core.checkpoint.torch_file import convert_torch_file
from audiozen_core.errors import MissingExtraError
from audiozen_plugins.metric.comparable import comparable
from audiozen_plugins.metric.mel import mel_power
from audiozen_plugins.metric.rates import check_rate, resampled
from audiozen_plugins.metric.shared_result import SharedResult

_SR = 16_000
_HOP = 160
_PART = 160
"""The length of a part, in frames. The network embeds a signal in parts of this length."""
_STEP = 77
"""The distance between the starts of two parts, in frames. In each second, 1.3 parts begin."""
_LEAST = 0.75
"""The fraction of the last part that the signal must cover. Otherwise the last part is left out."""
_LEVEL = -30.0
"""Quieter files are raised to this level, in dBFS."""
_VOICE = 480
"""The number of samples for which the voice detector makes one decision."""
_FULL = 32767

_REFERENCE: SharedResult[np.ndarray | None] = SharedResult()


class SpeakerSimilarity:
    """Cosine similarity of the voices in the estimate and the reference, from 0 to 1.

    The encoder of the package `resemblyzer` computes embeddings of both voices. Wan et al., "Generalized End-to-End
    Loss for Speaker Verification", ICASSP 2018. Signals below -30 dBFS are raised to this level, long pauses are cut,
    and the network embeds parts of 1.6 s. Two utterances of the same speaker have a similarity of about 0.8, and two
    speakers have about 0.65. So only differences between values are meaningful. The value equals the value of
    resemblyzer 0.1.4. Only the weights of resemblyzer are read; neither resemblyzer nor librosa is imported. The value
    is NaN if a signal is empty, silent or not finite, or if no voice is detected in it.

    Args:
        resample: whether to accept audio of any sample rate, and to rate copies that are resampled to 16 kHz. The
            metric is then called `speaker_similarity_16k`.

    Raises:
        MissingExtraError: resemblyzer or webrtcvad is not installed.
    """

    name = "speaker_similarity"
    label = "speaker similarity"
    unit = ""
    higher_is_better = True
    packages = ("resemblyzer", "webrtcvad")

    def __init__(self, resample: bool = False) -> None:
        # `webrtcvad` 2.0.10 wraps `_webrtcvad`, and imports a module that newer versions of Python lack. So this metric
        # uses `_webrtcvad` directly.
        for module, package in (("resemblyzer", "resemblyzer"), ("_webrtcvad", "webrtcvad")):
            if importlib.util.find_spec(module) is None:
                raise MissingExtraError(package, extra="speaker", needed_by="the metric speaker similarity")
        self.resample = resample
        if resample:
            self.name, self.label, self.computed_at = f"{self.name}_16k", f"{self.label} at 16 kHz", _SR
        else:
            self.sample_rates = (_SR,)
        self._encoder: _Encoder | None = None

    @property
    def weights(self) -> tuple[Path, ...]:
        """The file with the weights of the encoder."""
        spec = importlib.util.find_spec("resemblyzer")
        assert spec is not None
        assert spec.origin is not None
        return (Path(spec.origin).parent / "pretrained.pt",)

    def __call__(self, estimate: Tensor, reference: Tensor, *, sr: int) -> float:
        """Computes the similarity of the estimate [time] to the reference [time].

        Raises:
            DataError: the sample rate is not 16 kHz.
            ValueError: the shapes differ.
        """
        if not self.resample:
            check_rate(self.label, "speaker_similarity", sr, (_SR,), resamples=True)
        if not comparable(estimate, reference):
            return math.nan
        voice = _REFERENCE.get_or_compute((reference,), sr, lambda: self.embedding(reference, sr))
        other = self.embedding(estimate, sr)
        return math.nan if voice is None or other is None else float(voice @ other)

    def embedding(self, signal: Tensor, sr: int) -> np.ndarray | None:
        """Returns the embedding [256] of the voice in a signal [time], with a norm of 1; None if there is no voice."""
        if self._encoder is None:
            self._encoder = _Encoder(self.weights[0])
        wave = _voiced(_raised(resampled(signal, sr, _SR).float().numpy()))
        if not len(wave):
            return None
        starts = _starts(len(wave))
        missing = (starts[-1] + _PART) * _HOP - len(wave)
        wave = np.pad(wave, (0, max(0, missing)))
        mels = mel_power(wave, _SR, n_fft=400, hop_length=_HOP, n_mels=40).T
        parts = torch.from_numpy(np.stack([mels[start : start + _PART] for start in starts]))
        with torch.no_grad():
            mean = self._encoder(parts).mean(0).numpy()
        embedding: np.ndarray = mean / np.linalg.norm(mean)
        return embedding

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_encoder": None}  # another process reads these 17 MB from the file


class _Encoder(nn.Module):
    """Maps mel spectrograms [parts, frames, 40] to embeddings [parts, 256]."""

    def __init__(self, weights: Path) -> None:
        super().__init__()
        self.lstm = nn.LSTM(40, 256, 3, batch_first=True)
        self.linear = nn.Linear(256, 256)
        with tempfile.TemporaryDirectory() as folder:
            # The file is a pickle, so a separate process reads its tensors.
            converted = Path(folder) / "encoder.safetensors"
            convert_torch_file(weights, converted, "model_state")
            state = load_file(converted)
        self.load_state_dict({name: state[name] for name in self.state_dict()})
        self.eval().requires_grad_(False)

    def forward(self, mels: Tensor) -> Tensor:
        _, (hidden, _) = self.lstm(mels)
        return nn.functional.normalize(self.linear(hidden[-1]).relu(), dim=1)


def _raised(wave: np.ndarray) -> np.ndarray:
    level = 20 * np.log10(np.sqrt(np.mean((wave * _FULL) ** 2)) / _FULL)
    return wave * 10 ** ((_LEVEL - level) / 20) if level < _LEVEL else wave


def _voiced(wave: np.ndarray) -> np.ndarray:
    """Returns the wave without long pauses."""
    import _webrtcvad  # type: ignore[import-not-found, unused-ignore]

    wave = wave[: len(wave) // _VOICE * _VOICE]
    samples = np.round(wave * _FULL).clip(-32768, _FULL).astype(np.int16)
    detector = _webrtcvad.create()
    _webrtcvad.init(detector)
    _webrtcvad.set_mode(detector, 3)
    voiced = [
        _webrtcvad.process(detector, _SR, samples[start : start + _VOICE].tobytes(), _VOICE)
        for start in range(0, len(wave), _VOICE)
    ]
    if not voiced:
        return wave
    # The decisions are smoothed by a moving mean over 8 of them. Voiced parts are then extended by 3 decisions on both
    # sides.
    mean = np.convolve(np.pad(np.asarray(voiced, float), (3, 4)), np.ones(8) / 8, "valid")
    kept = np.convolve(np.round(mean), np.ones(7))[3 : 3 + len(voiced)]
    return wave[np.repeat(kept > 0.5, _VOICE)]


def _starts(samples: int) -> list[int]:
    """Returns the index of the first frame of each part."""
    frames = math.ceil((samples + 1) / _HOP)
    starts = list(range(0, max(1, frames - _PART + _STEP + 1), _STEP))
    covered = (samples - starts[-1] * _HOP) / (_PART * _HOP)
    return starts[:-1] if covered < _LEAST and len(starts) > 1 else starts
