"""The energy of a frame (a mean over its bands), and gates that scale all bands of a frame."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from audiozen_plugins.kernels.on_cpu import fast_sums, fits_cpu_kernel, fused, gradients_of_plain, to_read, to_write

_F = np.float32


def band_energies(x: Tensor) -> Tensor:
    """Returns the mean square of x [..., bands] over its bands [...].

    Example:
        >>> band_energies(torch.tensor([[1.0, 3.0]]))
        tensor([5.])
    """
    output: Tensor = fused(_Energies, x) if _has_bands(x) and fits_cpu_kernel(x) else _plain_energies(x)
    return output


def scale_bands(x: Tensor, gate: Tensor) -> Tensor:
    """Multiplies all bands of a frame in x [..., bands] by the factor of this frame in `gate` [..., 1].

    Example:
        >>> scale_bands(torch.tensor([[1.0, 3.0]]), torch.tensor([[2.0]]))
        tensor([[2., 6.]])
    """
    fits = _has_bands(x) and gate.shape == (*x.shape[:-1], 1)
    output: Tensor = fused(_Scaled, x, gate) if fits and fits_cpu_kernel(x, gate) else x * gate
    return output


def _has_bands(x: Tensor) -> bool:
    """Whether the kernels, which check no bounds, can take a tensor of this shape."""
    return x.ndim > 1 and x.numel() > 0


def _plain_energies(x: Tensor) -> Tensor:
    return x.square().mean(-1)


def _rows(x: Tensor) -> Tensor:
    """Returns x [..., bands] as a matrix [rows, bands], which shares its memory with x if x is contiguous."""
    return x.flatten(0, -2)


class _Energies(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        output = x.new_empty(x.shape[:-1])
        _energies(*to_read(_rows(x)), *to_write(output.view(-1)))
        ctx.save_for_backward(x)
        return output

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        if torch.is_grad_enabled():
            return gradients_of_plain(_plain_energies, ctx.saved_tensors, grads)
        (x,) = ctx.saved_tensors
        grad_x = x.new_empty(x.shape)
        _energies_backward(*to_read(_rows(x), grads[0].flatten()), *to_write(_rows(grad_x)))
        return grad_x


class _Scaled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, gate: Tensor) -> Tensor:
        ctx.save_for_backward(x, gate)
        return x * gate

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        if torch.is_grad_enabled():
            return gradients_of_plain(torch.mul, ctx.saved_tensors, grads)
        x, gate = ctx.saved_tensors
        grad_x, grad_gate = x.new_empty(x.shape), gate.new_empty(gate.shape)
        arrays = to_read(_rows(x), gate.flatten(), _rows(grads[0]))
        _scaled_backward(*arrays, *to_write(_rows(grad_x), grad_gate.view(-1)))
        return grad_x, grad_gate


@fast_sums
def _energies(x: Any, energies: Any) -> None:
    for row in range(x.shape[0]):
        total = _F(0)
        for i in range(x.shape[1]):
            total += x[row, i] * x[row, i]
        energies[row] = total / _F(x.shape[1])


@fast_sums
def _energies_backward(x: Any, grad: Any, grad_x: Any) -> None:
    for row in range(x.shape[0]):
        scale = grad[row] * _F(2) / _F(x.shape[1])
        for i in range(x.shape[1]):
            grad_x[row, i] = scale * x[row, i]


@fast_sums
def _scaled_backward(x: Any, gate: Any, grad: Any, grad_x: Any, grad_gate: Any) -> None:
    for row in range(x.shape[0]):
        scale, total = gate[row], _F(0)
        for i in range(x.shape[1]):
            grad_x[row, i] = scale * grad[row, i]
        for i in range(x.shape[1]):
            total += x[row, i] * grad[row, i]
        grad_gate[row] = total
