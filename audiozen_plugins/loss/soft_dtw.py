"""Soft dynamic time warping."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from torch import Tensor, nn

from audiozen_core.binding.ranges import Range, out_of_range
from audiozen_plugins.loss.soft_alignment import soft_alignment_cost


class SoftDTWLoss(nn.Module):
    """Soft dynamic time warping: compares two sequences of different speeds, and averages over the batch.

    A path aligns the frames of both sequences from start to end, and its cost is the sum of the squared Euclidean
    distances along it. The loss is the soft minimum of this cost over all paths. It is not a distance: it can be
    negative, and it is not minimal where both sequences are equal. Cuturi & Blondel, "Soft-DTW: a Differentiable Loss
    Function for Time-Series", ICML 2017.

    Time and memory grow with frames times frames2. Sequences can have any length.

    Args:
        gamma: the softness of the minimum, in the unit of the squared distance; above 0. With a small `gamma`, only the
            best path counts, as in DTW. With a large one, all paths do. A good value is about the squared distance
            between two frames that match.

    Raises:
        ValueError: `gamma` is not above 0, or not finite.

    Example:
        >>> estimate = torch.tensor([[[0.0], [1.0], [1.0], [2.0]]])
        >>> target = torch.tensor([[[0.0], [1.0], [2.0]]])
        >>> round(SoftDTWLoss(gamma=0.1)(estimate, target).item(), 3)
        -0.0
        >>> round(SoftDTWLoss(gamma=0.1)(estimate + 1, target).item(), 3)
        2.0
    """

    domain = "features"

    def __init__(self, gamma: Annotated[float, Range(above=0)] = 1.0) -> None:
        super().__init__()
        if wrong := out_of_range(SoftDTWLoss, locals()):
            raise ValueError(wrong)
        self.gamma = gamma

    def extra_repr(self) -> str:
        """Returns the arguments that `print` shows."""
        return f"gamma={self.gamma}"

    def forward(self, estimate: Tensor, target: Tensor) -> Tensor:
        """Computes the loss. It can be differentiated twice.

        Args:
            estimate: features [batch, frames, features].
            target: features [batch, frames2, features].

        Returns:
            The loss, a scalar; float64 if an input is float64, otherwise float32.

        Raises:
            ValueError: a sequence is empty or has a number that is NaN or infinite, or the shapes do not match.
        """
        _check(estimate, target)
        with torch.autocast(estimate.device.type, enabled=False):
            dtype = torch.promote_types(torch.promote_types(estimate.dtype, target.dtype), torch.float32)
            estimate, target = estimate.to(dtype), target.to(dtype)
            # The expanded square loses precision to cancellation if both sequences have a large common offset.
            centre = target.detach().mean(dim=1, keepdim=True)
            distance: Tensor = _SquaredDistance.apply(estimate - centre, target - centre)  # type: ignore[no-untyped-call]
            return soft_alignment_cost(distance, self.gamma).mean().to(dtype)


class _SquaredDistance(torch.autograd.Function):
    """Computes |x[i] - y[j]|^2 for all i and j with a matrix product, in float64 for any input."""

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
        raise ValueError(f"soft-DTW needs two tensors [batch, frames, features]: {shapes}")
    if estimate.shape[0] != target.shape[0] or estimate.shape[2] != target.shape[2]:
        raise ValueError(f"soft-DTW needs the same batch size and the same number of features in both: {shapes}")
    if estimate.numel() == 0 or target.numel() == 0:
        raise ValueError(f"soft-DTW needs at least one clip, one frame and one feature: {shapes}")
    for name, features in (("estimate", estimate), ("target", target)):
        if not features.is_floating_point():
            raise ValueError(f"soft-DTW needs real numbers, but the {name} is {features.dtype}")
        if not bool(features.isfinite().all()):
            raise ValueError(f"the {name} has a number that is NaN or infinite")
