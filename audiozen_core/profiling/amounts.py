"""Counts the samples and the seconds of audio that the measured steps train on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from audiozen_core.data.waveforms import may_be_waves

# Only these are counted as waveforms. Other tensors can be features, whose last axis doesn't count audio samples.
_WAVEFORMS = ("noisy", "mixture", "clean")
# A three-dimensional tensor with a longer second axis is taken for features, not for channels of a waveform.


class Amounts:
    """Adds up the samples and the audio of batches, without synchronising with a GPU.

    Args:
        sr: the sample rate of `[acoustics]`, in Hz.
    """

    def __init__(self, sr: int) -> None:
        self.samples = 0
        self._sr = sr
        self._values = 0
        self._lengths: list[Tensor] = []
        self._has_audio = True

    def add(self, batch: Any, samples: int) -> None:
        """Adds a batch.

        Its audio is the first of `noisy`, `mixture` and `clean` in the batch, with the shape [sample, time] or
        [sample, channel, time]. If the batch has `length`, padding is not counted.
        """
        self.samples += samples
        wave = _waveform(batch)
        if wave is None:
            self._has_audio = False
            return
        length = batch.get("length")
        if isinstance(length, Tensor) and length.shape == wave.shape[:1] and not length.is_floating_point():
            self._lengths.append(length)
        else:
            self._values += wave.shape[0] * wave.shape[-1]

    @property
    def audio_seconds(self) -> float | None:
        """The length of all audio in seconds; None if a batch had no audio. Waits for the GPU."""
        if not self._has_audio or not self.samples:
            return None
        return (self._values + sum(int(length.sum()) for length in self._lengths)) / self._sr


def _waveform(batch: Any) -> Tensor | None:
    """Returns the waveform in a batch; None if it has none."""
    for name in _WAVEFORMS if isinstance(batch, Mapping) else ():
        wave = batch.get(name)
        if may_be_waves(wave):
            return wave
    return None
