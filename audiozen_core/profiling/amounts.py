"""Counts the samples and the seconds of audio that the measured steps train on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from audiozen_core.data.waveforms import may_be_waves

# The keys of a batch that are counted as waveforms. Other tensors may be features, whose last axis is not the time in
# audio samples.
_WAVEFORMS = ("noisy", "mixture", "clean")


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

        The audio of a batch is the first tensor that the batch has of `noisy`, `mixture` and `clean`, with the shape
        [sample, time] or [sample, channel, time]. If the batch has the key `length`, padding is not counted.
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
    """Returns the waveform in a batch; None if the batch has no waveform."""
    for name in _WAVEFORMS if isinstance(batch, Mapping) else ():
        wave = batch.get(name)
        if may_be_waves(wave):
            return wave
    return None
