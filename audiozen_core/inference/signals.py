"""Converts arrays to waves [channels, time] in float32, and results back to the form of the array."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from audiozen_core.errors import DataError
from audiozen_core.logging import get_logger

Array = TypeVar("Array", np.ndarray, Tensor)

# Full scale and the value of silence for each integer dtype.
_WHOLE: dict[torch.dtype, tuple[float, float]] = {
    torch.uint8: (2.0**7, 128.0),
    torch.int16: (2.0**15, 0.0),
    torch.int32: (2.0**31, 0.0),
}
# Audio with a larger peak was almost certainly converted from integers without scaling.
_LOUDEST = 32.0
_MOST_CHANNELS = 32


def as_waves(audio: Any) -> tuple[Tensor, Callable[[Tensor], Any]]:
    """Returns an array as waves [channels, time], and a function that brings results into the form of the array.

    Integers (uint8, int16 and int32) are scaled as in audio files: full scale is 1. The function scales results back.
    It takes results [channels, time] or [channels, speakers, time], and removes the axis of channels if the array had
    no such axis.

    Args:
        audio: a NumPy array or a tensor, [time] or [channels, time].

    Raises:
        DataError: the argument is something else, is empty, has NaN or infinity, has the axes in the wrong order, or
            has values that can't be audio.
    """
    if not isinstance(audio, np.ndarray | Tensor):
        raise DataError(
            f"the audio is {type(audio).__name__}, but must be a NumPy array or a tensor",
            remedy="give [time] or [channels, time], as `soundfile.read(path, always_2d=True)[0].T` has it",
        )
    shape, dtype = list(audio.shape), audio.dtype
    if audio.ndim not in (1, 2):
        raise DataError(f"the audio has the shape {shape}", remedy="give it as [time] or [channels, time]")
    if 0 in shape:
        raise DataError(f"the audio is empty: it has the shape {shape}", remedy="give it at least one sample")
    if len(shape) == 2 and shape[0] > max(shape[1], _MOST_CHANNELS):
        raise DataError(
            f"the audio has the shape {shape}, so it would have {shape[0]} channels",
            remedy="give it as [channels, time]: `audio.T` of what `soundfile.read` returns",
        )
    # A copy, because a network or the caller may change it.
    tensor = _as_tensor(audio) if isinstance(audio, np.ndarray) else audio.detach().clone()
    if tensor.dtype in _WHOLE:
        scale, zero = _WHOLE[tensor.dtype]
        waves = ((tensor.double() - zero) / scale).float()
    elif tensor.is_floating_point():
        waves = tensor.float()
    else:
        raise _other_numbers(dtype)
    if not bool(waves.isfinite().all()):
        raise DataError("the audio has a sample that is NaN or infinite", remedy="correct it, or leave it out")
    if (peak := float(waves.abs().max())) > _LOUDEST:
        raise DataError(
            f"the audio has a peak of {peak:g}, but full scale is 1, so it was probably not scaled",
            remedy="divide it by full scale: by 32768 if it comes from 16-bit samples; or give integers as int16",
        )

    def restore(result: Tensor) -> Any:
        result = result[0] if len(shape) == 1 else result
        result = _as_dtype(result, tensor.dtype).to(tensor.device)
        # The result has the byte order of the input. It is an `np.ndarray`, even if the input was of a subclass.
        return result.numpy().astype(audio.dtype, copy=False) if isinstance(audio, np.ndarray) else result

    return waves if waves.ndim == 2 else waves.unsqueeze(0), restore


def _as_tensor(audio: np.ndarray) -> Tensor:
    """Copies an array of any strides and byte order, such as a reversed array or an array from a raw file."""
    if audio.dtype.kind == "f":
        wide = audio.dtype.itemsize > 8  # torch has no numbers of this kind
        return torch.from_numpy(np.array(audio, np.float64 if wide else audio.dtype.newbyteorder("="), order="C"))
    if audio.dtype.kind in "iubc":
        return torch.from_numpy(np.array(audio, audio.dtype.newbyteorder("="), order="C"))
    raise _other_numbers(audio.dtype)


def _other_numbers(dtype: object) -> DataError:
    return DataError(
        f"the audio has the dtype {dtype}",
        remedy="give floats between -1 and 1, or integers as uint8, int16 or int32",
    )


def _as_dtype(result: Tensor, dtype: torch.dtype) -> Tensor:
    if dtype not in _WHOLE:
        return result.to(dtype)
    scale, zero = _WHOLE[dtype]
    whole = (result.double() * scale).round() + zero
    limits = torch.iinfo(dtype)
    if clipped := int(((whole < limits.min) | (whole > limits.max + 1)).sum()):
        get_logger().warning(
            f"{clipped} of {whole.numel()} samples are louder than full scale and were clipped",
            remedy="give the audio as floats, so that the result is not clipped",
        )
    return whole.clamp(limits.min, limits.max).to(dtype)
