"""Soft dynamic time warping."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from audiozen_plugins.loss.soft_alignment import soft_alignment_cost


class SoftDTWLoss(nn.Module):
    """How far two sequences are apart when one may be stretched in time: soft-DTW, averaged over the batch.

    The squared Euclidean distances along a path that aligns the frames of both, from start to end, summed, and the soft
    minimum of that over all paths. Not a distance: it can be below zero, and is not least where both are equal.
    Cuturi & Blondel, "Soft-DTW: a Differentiable Loss Function for Time-Series", ICML 2017.

    Time and memory grow with frames times frames2; there is no limit to either.

    Args:
        gamma: how soft the minimum is, of the unit of the squared distance; above 0. The nearer to 0, the nearer to
            DTW, the best path alone; the larger, the more all paths count. Set it near the squared distance of two
            frames that match.

    Raises:
        ValueError: for a `gamma` that is not above 0.

    Example:
        >>> estimate = torch.tensor([[[0.0], [1.0], [1.0], [2.0]]])
        >>> target = torch.tensor([[[0.0], [1.0], [2.0]]])
        >>> round(SoftDTWLoss(gamma=0.1)(estimate, target).item(), 3)
        -0.0
        >>> round(SoftDTWLoss(gamma=0.1)(estimate + 1, target).item(), 3)
        2.0
    """

    domain = "features"

    def __init__(self, gamma: float = 1.0) -> None:
        super().__init__()
        if not (gamma > 0 and math.isfinite(gamma)):
            raise ValueError(f"gamma must be above 0 and finite: {gamma}")
        self.gamma = gamma

    def extra_repr(self) -> str:
        """What `print` shows of it."""
        return f"gamma={self.gamma}"

    def forward(self, estimate: Tensor, target: Tensor) -> Tensor:
        """The loss, a scalar, of float64 where an input is, else of float32. It can be differentiated twice.

        Args:
            estimate: features [batch, frames, features].
            target: features [batch, frames2, features].

        Raises:
            ValueError: for sequences that are empty, of shapes that do not go together, or not all finite numbers.
        """
        _check(estimate, target)
        with torch.autocast(estimate.device.type, enabled=False):
            dtype = torch.promote_types(torch.promote_types(estimate.dtype, target.dtype), torch.float32)
            estimate, target = estimate.to(dtype), target.to(dtype)
            # The distance does not change when both are moved; near zero, its terms are small and do not cancel.
            centre = target.detach().mean(dim=1, keepdim=True)
            distance: Tensor = _SquaredDistance.apply(estimate - centre, target - centre)  # type: ignore[no-untyped-call]
            return soft_alignment_cost(distance, self.gamma).mean().to(dtype)


class _SquaredDistance(torch.autograd.Function):
    """|x[i] - y[j]|^2 for all i and j, as a matrix product, in float64 also for float32."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor) -> Tensor:
        ctx.save_for_backward(x, y)
        x, y = x.double(), y.double()
        norms = x.square().sum(dim=2)[:, :, None] + y.square().sum(dim=2)[:, None, :]
        return norms.baddbmm_(x, y.mT, alpha=-2)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, y = ctx.saved_tensors
        grad = grads[0].to(x.dtype)
        grad_x = (x * grad.sum(dim=2)[..., None] - grad @ y) * 2 if ctx.needs_input_grad[0] else None
        grad_y = (y * grad.sum(dim=1)[..., None] - grad.mT @ x) * 2 if ctx.needs_input_grad[1] else None
        return grad_x, grad_y


def _check(estimate: Tensor, target: Tensor) -> None:
    shapes = f"estimate {list(estimate.shape)}, target {list(target.shape)}"
    if estimate.ndim != 3 or target.ndim != 3:
        raise ValueError(f"soft-DTW needs features [batch, frames, features] twice: {shapes}")
    if estimate.shape[0] != target.shape[0] or estimate.shape[2] != target.shape[2]:
        raise ValueError(f"soft-DTW needs the same batch and the same number of features twice: {shapes}")
    if estimate.numel() == 0 or target.numel() == 0:
        raise ValueError(f"soft-DTW needs at least one clip, one frame and one feature: {shapes}")
    for name, features in (("estimate", estimate), ("target", target)):
        if not features.is_floating_point():
            raise ValueError(f"soft-DTW needs real numbers, but the {name} is of {features.dtype}")
        if not bool(features.isfinite().all()):
            raise ValueError(f"the {name} holds NaN or infinity")
