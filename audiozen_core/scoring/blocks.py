"""Examines long signals block by block, because copying one hour of audio takes hundreds of megabytes."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

_BLOCK = 1 << 16


def blocks(signal: Tensor) -> tuple[Tensor, ...]:
    """Splits a signal [..., time] into blocks of a few seconds. Each block is a view of the signal."""
    return torch.split(signal, _BLOCK, dim=-1)


def all_finite(signal: Tensor) -> bool:
    """Returns whether all samples of a signal [..., time] are finite."""
    if not signal.numel():
        return True
    # `aminmax` takes one pass and, unlike `isfinite`, does not allocate a boolean per sample. It returns NaN if any
    # sample is NaN.
    return all(bool(torch.stack(part.aminmax()).isfinite().all()) for part in blocks(signal))


def constant(signal: Tensor) -> Tensor:
    """Returns, for each signal in [..., time], whether all of its samples are equal: bool [...]."""
    if not signal.numel():
        return torch.ones(signal.shape[:-1], dtype=torch.bool)
    first = signal[..., 0]
    # Along an axis, `amin` and `amax` are faster than `aminmax`.
    same = ((part.amin(-1) == first) & (part.amax(-1) == first) for part in blocks(signal))
    return functools.reduce(torch.logical_and, same)
