"""Soft-DTW as operators of PyTorch, which choose the kernel for the device. `torch.compile` does not look into them.

The operators have no gradient themselves. The loss (`loss/soft_alignment.py`) defines the gradient, because the plain
form, which computes second derivatives, is part of the loss.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from audiozen_plugins.kernels import soft_alignment_on_cpu, soft_alignment_on_gpu
from audiozen_plugins.kernels.operators import operator


def has_kernel(device: torch.device) -> bool:
    """Whether a kernel can be used on a device."""
    if device.type == "cpu":
        return soft_alignment_on_cpu.is_available()
    return device.type == "cuda" and soft_alignment_on_gpu.is_available()


def _shapes(x: Tensor, y: Tensor, gamma: float, radius: int | None) -> tuple[Tensor, Tensor]:
    shape = _kernel(x).saved_shape(len(x), x.shape[1], y.shape[1], radius)
    return x.new_empty(len(x), dtype=torch.float64), x.new_empty(shape, dtype=torch.float64)


@operator("soft_alignment(Tensor x, Tensor y, float gamma, int? radius) -> (Tensor, Tensor)", shapes=_shapes)
def soft_alignment(x: Tensor, y: Tensor, gamma: float, radius: int | None) -> tuple[Tensor, Tensor]:
    """Computes the cost of the soft alignment of two sequences, for each item of a batch.

    The distance between two frames is the squared Euclidean distance.

    Args:
        x: features [batch, frames, features].
        y: features [batch, frames2, features].
        gamma: the softness of the minimum; above 0.
        radius: the radius of the band, see `Band`; None for no band.

    Returns:
        The costs [batch], float64, and a tensor that `soft_alignment_backward` needs.
    """
    cost, saved = _kernel(x).forward(x, y, gamma, radius)
    return cost, saved


@operator(
    "soft_alignment_backward(Tensor x, Tensor y, Tensor saved, Tensor grad, float gamma, int? radius, bool need_x,"
    " bool need_y) -> (Tensor, Tensor)",
    shapes=lambda x, y, saved, grad, gamma, radius, need_x, need_y: (
        x.new_empty(x.shape if need_x else 0),
        y.new_empty(y.shape if need_y else 0),
    ),
)
def soft_alignment_backward(
    x: Tensor,
    y: Tensor,
    saved: Tensor,
    grad: Tensor,
    gamma: float,
    radius: int | None,
    need_x: bool,
    need_y: bool,
) -> tuple[Tensor, Tensor]:
    """Computes the gradients of the costs.

    Args:
        x: features [batch, frames, features].
        y: features [batch, frames2, features].
        saved: the second result of `soft_alignment`.
        grad: the gradients with respect to the costs [batch].
        gamma: the softness of the minimum; above 0.
        radius: the radius of the band, see `Band`; None for no band.
        need_x: whether the gradient with respect to `x` is needed.
        need_y: whether the gradient with respect to `y` is needed.

    Returns:
        The gradients with respect to `x` and `y`, each empty if it isn't needed.
    """
    grads = _kernel(x).backward(x, y, saved, grad, gamma, radius, (need_x, need_y))
    grad_x, grad_y = (x.new_empty(0) if each is None else each for each in grads)
    return grad_x, grad_y


def _kernel(x: Tensor) -> Any:
    return soft_alignment_on_gpu if x.is_cuda else soft_alignment_on_cpu
