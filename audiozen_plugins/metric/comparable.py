"""Checks whether a metric can compare two signals."""

from __future__ import annotations

from torch import Tensor

from audiozen_core.scoring.blocks import all_finite, constant


def comparable(estimate: Tensor, reference: Tensor) -> bool:
    """Returns whether two signals [time] can be compared: neither is empty, constant, NaN or infinite.

    Raises:
        ValueError: the shapes differ.
    """
    if estimate.shape != reference.shape:
        raise ValueError(f"the shapes differ: {list(estimate.shape)} and {list(reference.shape)}")
    return rateable(estimate) and rateable(reference)


def rateable(signal: Tensor) -> bool:
    """Returns whether a signal [time] can be rated: it is not empty, constant, NaN or infinite."""
    return bool(signal.numel() and all_finite(signal) and not constant(signal))
