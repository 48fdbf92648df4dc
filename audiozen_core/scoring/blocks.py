"""Signals block by block, because a copy of an hour takes hundreds of megabytes, and one in float64 twice as much."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

_BLOCK = 1 << 16


def blocks(signal: Tensor) -> tuple[Tensor, ...]:
    """Cuts a signal [..., time] into parts of some seconds, which are not copied."""
    return torch.split(signal, _BLOCK, dim=-1)


def all_finite(signal: Tensor) -> bool:
    """Returns whether a signal [..., time] has neither NaN nor infinity."""
    return all(bool(part.isfinite().all()) for part in blocks(signal))


def constant(signal: Tensor) -> Tensor:
    """Returns which of the signals [..., time] have one value in all samples: bool [...]."""
    first = signal[..., :1]
    return functools.reduce(torch.logical_and, ((part == first).all(-1) for part in blocks(signal)))
