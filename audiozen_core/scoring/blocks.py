"""Examines long signals block by block, because copying one hour of audio takes hundreds of megabytes."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

_BLOCK = 1 << 16


def blocks(signal: Tensor) -> tuple[Tensor, ...]:
    """Cuts a signal [..., time] into parts of a few seconds. The parts share the memory of the signal."""
    return torch.split(signal, _BLOCK, dim=-1)


def all_finite(signal: Tensor) -> bool:
    """Returns whether a signal [..., time] has neither NaN nor infinity."""
    if not signal.numel():
        return True
    # `aminmax` takes one pass and, unlike `isfinite`, needs no memory for one answer per sample. If a sample is NaN,
    # torch returns NaN as the lowest and the highest sample.
    return all(bool(torch.stack(part.aminmax()).isfinite().all()) for part in blocks(signal))


def constant(signal: Tensor) -> Tensor:
    """Returns for each of the signals [..., time] whether all of its samples are equal: bool [...]."""
    if not signal.numel():
        return torch.ones(signal.shape[:-1], dtype=torch.bool)
    first = signal[..., 0]
    # Along an axis, `amin` and `amax` are faster than `aminmax`.
    same = ((part.amin(-1) == first) & (part.amax(-1) == first) for part in blocks(signal))
    return functools.reduce(torch.logical_and, same)
