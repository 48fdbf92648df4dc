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
    if not signal.numel():
        return True
    # One pass without memory for answers. A NaN is both the lowest and the highest sample.
    return all(bool(torch.stack(part.aminmax()).isfinite().all()) for part in blocks(signal))


def constant(signal: Tensor) -> Tensor:
    """Returns which of the signals [..., time] have one value in all samples: bool [...]."""
    if not signal.numel():
        return torch.ones(signal.shape[:-1], dtype=torch.bool)
    first = signal[..., 0]
    # Unlike `aminmax`, these two are fast along an axis.
    same = ((part.amin(-1) == first) & (part.amax(-1) == first) for part in blocks(signal))
    return functools.reduce(torch.logical_and, same)
