"""Prepares the inputs of every loss: checks the shapes, and converts to full precision."""

from __future__ import annotations

import torch
from torch import Tensor


def in_full_precision(estimate: Tensor, target: Tensor, shape: str) -> tuple[Tensor, Tensor]:
    """Returns two signals of the same shape in float32 or float64, or in complex64 or complex128.

    Args:
        estimate: the estimate.
        target: the target.
        shape: the expected shape of both signals, for error messages, such as `[batch, time]`.

    Raises:
        ValueError: the signals differ in shape, are empty, have the wrong number of axes, or only one is complex.
    """
    if (
        estimate.shape != target.shape
        or estimate.ndim != shape.count(",") + 1
        or estimate.numel() == 0
        or estimate.is_complex() != target.is_complex()
    ):
        raise ValueError(
            f"the loss needs two signals of the same shape {shape}: estimate {estimate.dtype} {list(estimate.shape)}, "
            f"target {target.dtype} {list(target.shape)}"
        )
    least = torch.complex64 if estimate.is_complex() else torch.float32
    dtype = torch.promote_types(torch.promote_types(estimate.dtype, target.dtype), least)
    return estimate.to(dtype), target.to(dtype)
