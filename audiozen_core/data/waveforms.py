"""Recognises waveforms among the values of a batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

if TYPE_CHECKING:
    from typing import TypeGuard

_MOST_CHANNELS = 16


def may_be_waves(value: Any) -> TypeGuard[Tensor]:
    """Returns whether a value has the form of waveforms: [sample, time], or [sample, channel, time].

    Such a tensor has real numbers, up to 16 channels, and at least one sample. A tensor with more rows in place of
    channels, such as a spectrogram, is not a waveform.
    """
    return (
        isinstance(value, Tensor)
        and value.is_floating_point()
        and (value.ndim == 2 or (value.ndim == 3 and value.shape[1] <= _MOST_CHANNELS))
        and value.shape[-1] > 1
        and len(value) > 0
    )
