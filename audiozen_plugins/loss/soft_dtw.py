"""Soft dynamic time warping."""

from __future__ import annotations

import math
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from audiozen_core.binding.ranges import Natural, Range, out_of_range
from audiozen_plugins.kernels.band import Band
from audiozen_plugins.kernels.operators import differentiable
from audiozen_plugins.kernels.soft_alignment_op import has_kernel, soft_alignment, soft_alignment_backward
from audiozen_plugins.loss.soft_alignment import soft_alignment_cost


class SoftDTWLoss(nn.Module):
    """Soft dynamic time warping: compares two sequences that may progress at different speeds.

    A path aligns the frames of both sequences from start to end. The cost of a path is the sum of the squared Euclidean
    distances between the aligned frames. The loss is the soft minimum of this cost over all paths, averaged over the
    batch. It is not a distance: it can be negative, and it is not minimal if both sequences are equal. Cuturi &
    Blondel, "Soft-DTW: a Differentiable Loss Function for Time-Series", ICML 2017.

    Sequences can have any length. The computing time is proportional to `frames * frames2` (see `forward`), or to the
    number of cells in the band. Fused kernels compute the loss and its gradient with numba (the extra `fast`) on a CPU,
    and with Triton on a GPU. On a CPU, they need a fraction of the memory of one float32 matrix [frames, frames2].
    Without a kernel, and for second derivatives, plain PyTorch computes both.

    Args:
        gamma: the softness of the minimum, in the unit of the squared distance; above 0. With a small `gamma`, only the
            best path counts, as in DTW. With a large `gamma`, all paths count. A good value is about the squared
            distance between two frames that match.
        band: the radius of a Sakoe-Chiba band in frames. A path may leave the diagonal by at most `band` frames. If the
            sequences have different lengths, there are two diagonals, one through the first pair of frames and one
            through the last pair, and the path may also be between them. By default, the path is not limited.

    Raises:
        ValueError: `gamma` is not above 0, or not finite, or `band` is below 0, or one of them is a tensor.

    Example:
        >>> estimate = torch.tensor([[[0.0], [1.0], [1.0], [2.0]]])
        >>> target = torch.tensor([[[0.0], [1.0], [2.0]]])
        >>> round(SoftDTWLoss(gamma=0.1)(estimate, target).item(), 3)
        -0.0
        >>> round(SoftDTWLoss(gamma=0.1)(estimate + 1, target).item(), 3)
        2.0
    """

    domain = "features"

    def __init__(self, gamma: Annotated[float, Range(above=0)] = 1.0, band: Natural | None = None) -> None:
        super().__init__()
        if wrong := out_of_range(SoftDTWLoss, locals()):
            raise ValueError(wrong)
        for name, value in (("gamma", gamma), ("band", band)):
            if isinstance(value, Tensor):
                raise ValueError(f"`{name}` is a tensor, but must be a number: pass `{name}.item()`")
        self.gamma = gamma
        self.band = band

    def extra_repr(self) -> str:
        """Returns the arguments as text, for `print`."""
        return f"gamma={self.gamma}" if self.band is None else f"gamma={self.gamma}, band={self.band}"

    def forward(self, estimate: Tensor, target: Tensor) -> Tensor:
        """Computes the loss. It can be differentiated twice.

        Args:
            estimate: features [batch, frames, features].
            target: features [batch, frames2, features].

        Returns:
            The loss, a scalar; float64 if an input is float64, otherwise float32. On a GPU it is NaN if a sequence has
            a number that is NaN or infinite.

        Raises:
            ValueError: a sequence is empty, the shapes do not match, or, on a CPU, a sequence has a number that is NaN
                or infinite.
        """
        _check(estimate, target)
        dtype = torch.promote_types(torch.promote_types(estimate.dtype, target.dtype), torch.float32)
        # A band that is wider than both sequences excludes nothing, so the number can be limited.
        band = self.band if self.band is None else min(self.band, estimate.shape[1] + target.shape[1])
        if has_kernel(estimate.device):
            cost: Tensor = soft_alignment(estimate, target, self.gamma, band)[0]
        else:
            cost = plain_cost(estimate, target, self.gamma, band)
        loss = cost.mean().to(dtype)
        if _reads_at_once(estimate.device):
            return loss  # `_check` has raised an error for a NaN
        # A NaN outside the band, for example, would not reach the loss. Raising an error would wait for the GPU.
        return torch.where(estimate.isfinite().all() & target.isfinite().all(), loss, math.nan)


def _reads_at_once(device: torch.device) -> bool:
    """Returns whether the value of a tensor can be read without waiting."""
    return device.type == "cpu"


def plain_cost(estimate: Tensor, target: Tensor, gamma: float, band: int | None) -> Tensor:
    """Computes the cost of each item in plain PyTorch. It can be differentiated twice.

    Args:
        estimate: features [batch, frames, features].
        target: features [batch, frames2, features].
        gamma: the softness of the minimum; above 0.
        band: the radius of the band in frames, see `Band`; None for no band.

    Returns:
        The costs [batch], float64.
    """
    # The square of the difference is computed as a sum of three products. Without centring, a large common offset of
    # both sequences would make this sum imprecise.
    centre = target.detach().mean(dim=1, keepdim=True, dtype=torch.float64)
    distance: Tensor = _SquaredDistance.apply(estimate - centre, target - centre)  # type: ignore[no-untyped-call]
    if band is not None:
        mask = Band(estimate.shape[1], target.shape[1], band).mask(distance.device)
        distance = torch.masked_fill(distance, ~mask, float("inf"))
    return soft_alignment_cost(distance, gamma)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, y, ctx.gamma, ctx.band = inputs
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)  # otherwise autograd would make zeros as the gradient of the saved tensor
    ctx.save_for_backward(x, y, output[1])


def _gradient(ctx: Any, grad: Tensor | None, _: None) -> tuple[Tensor | None, Tensor | None, None, None]:
    if grad is None:  # nothing that depends on the cost has a gradient
        return None, None, None, None
    x, y, saved = ctx.saved_tensors
    need_x, need_y = ctx.needs_input_grad[:2]
    if torch.is_grad_enabled():  # the gradient will be differentiated
        # Two separate views, because the gradient of one sequence must not flow into the other sequence.
        sides = x.view_as(x), y.view_as(y)
        cost = plain_cost(*sides, ctx.gamma, ctx.band)
        wanted = [side for side, need in zip(sides, (need_x, need_y), strict=True) if need]
        found = list(torch.autograd.grad(cost, wanted, grad, create_graph=True))
        return found.pop(0) if need_x else None, found.pop(0) if need_y else None, None, None
    grad_x, grad_y = soft_alignment_backward(x, y, saved, grad, ctx.gamma, ctx.band, need_x, need_y)
    return grad_x if need_x else None, grad_y if need_y else None, None, None


differentiable("soft_alignment", keep=_keep, backward=_gradient)


class _SquaredDistance(torch.autograd.Function):
    """Computes |x[i] - y[j]|^2 for all i and j with a matrix product. `x` and `y` are float64."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor) -> Tensor:
        ctx.save_for_backward(x, y)
        norms = x.square().sum(dim=2)[:, :, None] + y.square().sum(dim=2)[:, None, :]
        return norms.baddbmm_(x, y.mT, alpha=-2)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, y = ctx.saved_tensors
        grad = grads[0]
        grad_x = (x * grad.sum(dim=2)[..., None] - grad @ y) * 2 if ctx.needs_input_grad[0] else None
        grad_y = (y * grad.sum(dim=1)[..., None] - grad.mT @ x) * 2 if ctx.needs_input_grad[1] else None
        return grad_x, grad_y


def _check(estimate: Tensor, target: Tensor) -> None:
    shapes = f"estimate {list(estimate.shape)}, target {list(target.shape)}"
    if estimate.ndim != 3 or target.ndim != 3:
        raise ValueError(f"soft-DTW needs two tensors [batch, frames, features]: {shapes}")
    if estimate.shape[0] != target.shape[0] or estimate.shape[2] != target.shape[2]:
        raise ValueError(f"soft-DTW needs sequences with the same batch size and number of features: {shapes}")
    if estimate.numel() == 0 or target.numel() == 0:
        raise ValueError(f"soft-DTW needs at least one clip, one frame and one feature: {shapes}")
    for name, features in (("estimate", estimate), ("target", target)):
        if not features.is_floating_point():
            raise ValueError(f"soft-DTW needs real numbers, but the {name} is {features.dtype}")
        if not _reads_at_once(features.device):
            continue
        # If all numbers are finite, their sum is mostly finite, and the sum needs no memory. Only if the sum is not
        # finite, the numbers themselves are checked, because the sum may have overflowed.
        if not math.isfinite(features.detach().sum()) and not bool(features.isfinite().all()):
            raise ValueError(f"the {name} contains NaN or infinity")
