"""Soft-DTW as operators of torch: `torch.compile` treats them as black boxes, and each device has its own kernel."""

from __future__ import annotations

from typing import Any, Optional

import torch
from torch import Tensor

from audiozen_plugins.kernels import soft_alignment_on_cpu, soft_alignment_on_gpu


def has_kernel(device: torch.device) -> bool:
    """Whether a kernel can be used on a device."""
    if device.type == "cpu":
        return soft_alignment_on_cpu.is_available()
    return device.type == "cuda" and soft_alignment_on_gpu.is_available()


# The annotations become the schema of the operator. A schema can't express `int | None`.
@torch.library.custom_op("audiozen::soft_alignment", mutates_args=())
def soft_alignment(x: Tensor, y: Tensor, gamma: float, radius: Optional[int]) -> tuple[Tensor, Tensor]:  # noqa: UP045
    """Computes the costs of the soft alignments of two sequences, with the squared distances of their frames.

    Args:
        x: features [batch, frames, features].
        y: features [batch, frames2, features].
        gamma: the softness of the minimum; above 0.
        radius: the radius of the band, see `Band`; None for no band.

    Returns:
        The costs [batch], float64, and what `soft_alignment_backward` needs.
    """
    cost, saved = _kernel(x).forward(x, y, gamma, radius)
    return cost, saved


@torch.library.custom_op("audiozen::soft_alignment_backward", mutates_args=())
def soft_alignment_backward(
    x: Tensor,
    y: Tensor,
    saved: Tensor,
    grad: Tensor,
    gamma: float,
    radius: Optional[int],  # noqa: UP045
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


@soft_alignment.register_fake
def _(x: Tensor, y: Tensor, gamma: float, radius: Optional[int]) -> tuple[Tensor, Tensor]:  # noqa: UP045
    batch, frames, _ = x.shape
    shape = _kernel(x).saved_shape(batch, frames, y.shape[1], radius)
    return x.new_empty(batch, dtype=torch.float64), x.new_empty(shape, dtype=torch.float64)


@soft_alignment_backward.register_fake
def _(
    x: Tensor,
    y: Tensor,
    saved: Tensor,
    grad: Tensor,
    gamma: float,
    radius: Optional[int],  # noqa: UP045
    need_x: bool,
    need_y: bool,
) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x) if need_x else x.new_empty(0), torch.empty_like(y) if need_y else y.new_empty(0)
