"""Resamples signals and streams with a polyphase filter that adds no delay."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from audiozen_core.audio.chunks import join_pieces, overlapping_windows
from audiozen_core.errors import DataError
from audiozen_core.registry import torchaudio_loader

# The filter is a sinc with 64 zero crossings on each side and a Kaiser window. The tests measure its response.
_ZERO_CROSSINGS = 64
_ROLLOFF = 0.9475937167399596
_BETA = 14.769656459379492
# The largest number of weights of a filter. Two rates without a large common divisor, such as 16000 and 44101, need
# many phases, each with a filter of its own.
_MOST_WEIGHTS = 20_000_000
_SECONDS = 10  # the length of the windows of a stream
# A lower rate was probably given in kilohertz. If 16 kHz were taken for 16 Hz, one second of audio would last a quarter
# of an hour.
_LOWEST = 1000


def resampled(blocks: Iterable[Tensor], source: int, target: int) -> Iterator[Tensor]:
    """Changes the sample rate of a stream. Sample n of the result is at the time n / target.

    The filter keeps frequencies up to 0.9 times the lower Nyquist frequency, and attenuates frequencies above the lower
    Nyquist frequency by at least 100 dB. Apart from rounding, the result does not depend on how the stream is cut into
    blocks.

    Args:
        blocks: the stream [..., time], float32.
        source: the sample rate of the stream, in hertz.
        target: the sample rate of the result, in hertz.

    Yields:
        The stream at the new rate [..., time], in pieces that have `resampled_length` samples in total.

    Raises:
        DataError: the two rates have no large common divisor.
    """
    if source == target:
        yield from blocks
        return
    run = _resampler(source, target)
    divisor = math.gcd(source, target)
    old, new = source // divisor, target // divisor
    # The filter depends on fewer than `context` samples on each side. `context` is a multiple of `old`.
    context = (_width(old, new) // old + 1) * old
    body = max(1, _SECONDS * divisor) * old
    for window in overlapping_windows(blocks, context + body + context, body):
        output = run(window.samples)
        begin = 0 if window.is_first else context // old * new
        yield output[..., begin:] if window.is_last else output[..., begin : (context + body) // old * new]


def resample(wave: Tensor, source: int, target: int) -> Tensor:
    """Changes the sample rate of a signal [..., time] like `resampled`. Returns the signal itself for equal rates.

    Raises:
        DataError: the two rates have no large common divisor.
    """
    if source == target:
        return wave
    pieces = resampled([wave.float()], source, target)
    return join_pieces(pieces, resampled_length(wave.shape[-1], source, target))


def resampled_length(length: int, source: int, target: int) -> int:
    """Returns the number of samples that a signal has at another rate.

    >>> resampled_length(441, 44100, 16000), resampled_length(1, 44100, 16000)
    (160, 1)
    """
    return -(-length * target // source)


def check_sample_rates(source: int, target: int) -> None:
    """Raises a `DataError` if audio of one rate can't be resampled to the other."""
    for sr in (source, target):
        if not isinstance(sr, int | np.integer) or isinstance(sr, bool) or sr < 1:
            raise DataError(
                f"the sample rate is {sr!r}, but must be a whole number of hertz, at least 1",
                remedy="give the rate at which the audio was recorded, such as 16000",
            )
    if source != target and min(source, target) < _LOWEST:
        raise DataError(
            f"audio of {source} Hz can't be resampled to {target} Hz: rates below {_LOWEST} Hz are not resampled",
            remedy="give the rate in hertz: 16000, not 16",
        )
    divisor = math.gcd(source, target)
    old, new = source // divisor, target // divisor
    if new * (2 * _width(old, new) + old) > _MOST_WEIGHTS:
        raise DataError(
            f"audio of {source} Hz can't be resampled to {target} Hz, because the rates have no large common divisor",
            remedy=f"resample the audio to {target} Hz with another program: ffmpeg -i IN.wav -ar {target} OUT.wav",
        )


def _width(old: int, new: int) -> int:
    return math.ceil(_ZERO_CROSSINGS * old / (min(old, new) * _ROLLOFF))


@functools.lru_cache(8)
def _resampler(source: int, target: int) -> Callable[[Tensor], Tensor]:
    check_sample_rates(source, target)
    torchaudio_loader.install()
    # torchaudio takes long to import, and is needed only here.
    from torchaudio.transforms import Resample

    # A `Resample` object computes its filter once, in float64. torchaudio's function `resample` computes the filter at
    # each call, in float32.
    # Autograd can't use a filter that was made or moved in inference mode, not even after this mode.
    with torch.inference_mode(False):
        module = Resample(source, target, "sinc_interp_kaiser", _ZERO_CROSSINGS, _ROLLOFF, _BETA)

    def resample_on_device(wave: Tensor) -> Tensor:
        with torch.inference_mode(False):
            module.to(wave.device)
        resampled: Tensor = module(wave)
        return resampled

    return resample_on_device
