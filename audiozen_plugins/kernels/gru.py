"""Runs several small GRUs at once, each over its own part of the channels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from audiozen_plugins.kernels import gru_on_cpu
from audiozen_plugins.kernels.on_cpu import (
    fits_cpu_kernel,
    fused,
    gradients_of_plain,
    is_watched,
    to_read,
    to_write,
)

_WEIGHTS = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
# With more units, PyTorch's matrix products are faster.
_MAX_UNITS = 64


def run_grus(grus: Sequence[nn.GRU], x: Tensor, state: Tensor | None = None, axis: int = 0) -> tuple[Tensor, Tensor]:
    """Runs GRUs of one layer side by side, each over its own part of the channels.

    All GRUs must have biases, the same sizes and the same number of directions. Their `batch_first` is ignored.

    Args:
        grus: the GRUs.
        x: their inputs [..., steps, ..., channels]. The first channels belong to the first GRU.
        state: the state [GRUs * directions, sequences, units] to start from; zeros by default.
        axis: the axis of the steps. Along all other axes except the last, each index is a sequence of its own.

    Returns:
        The outputs [..., steps, ..., channels] and the last states, with the same shape as `state`. If the GRUs have
        two directions, the outputs of each GRU are first the forward outputs, then the backward outputs.

    Raises:
        ValueError: a GRU has more than one layer, no biases or a projection, or the GRUs have different sizes.
    """
    _check(grus)
    cells = [(gru, suffix) for gru in grus for suffix in (("", "_reverse") if gru.bidirectional else ("",))]
    weights = [getattr(gru, name + suffix) for gru, suffix in cells for name in _WEIGHTS]
    shape = x.shape
    x = x.reshape(math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 : -1]), shape[-1])
    if state is None:
        state = x.new_zeros(len(cells), x.shape[0] * x.shape[2], grus[0].hidden_size)
    directions = len(cells) // len(grus)
    # A counter of operations can't look into PyTorch's GRU.
    if is_watched(*grus) and not is_in_torch_dispatch_mode():
        output, last = _called(grus, x, state)
    elif _fits(x, state, weights, len(grus)) and fits_cpu_kernel(x, state, *weights):
        output, last = fused(_Fused, x, state, directions, *weights)
    else:
        output, last = _plain(x, state, directions, *weights)
    return output.reshape(*shape[:-1], -1), last


def _called(grus: Sequence[nn.GRU], x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """Calls the GRUs one after the other, each with its part of the channels of x [before, steps, after, channels]."""
    before, steps, after, _ = x.shape
    x = x.transpose(0, 1).flatten(1, 2)
    outputs, states = [], []
    for gru, part, start in zip(grus, x.chunk(len(grus), -1), state.chunk(len(grus)), strict=True):
        output, last = gru(part.transpose(0, 1) if gru.batch_first else part, start.contiguous())
        outputs.append(output.transpose(0, 1) if gru.batch_first else output)
        states.append(last)
    output = torch.cat(outputs, -1).reshape(steps, before, after, -1).transpose(0, 1)
    return output, torch.cat(states)


def _check(grus: Sequence[nn.GRU]) -> None:
    """Rejects GRUs with several layers or a projection: the kernel and the plain form would silently ignore them."""
    for gru in grus:
        if gru.num_layers != 1 or not gru.bias or gru.proj_size:
            raise ValueError(f"needs a GRU of one layer, with biases and without a projection, got {gru}")
    sizes = [(gru.input_size, gru.hidden_size, gru.bidirectional) for gru in grus]
    if len(set(sizes)) != 1:
        raise ValueError(f"needs GRUs of the same sizes and directions, got {', '.join(map(str, grus))}")


def _fits(x: Tensor, state: Tensor, weights: Sequence[Tensor], count: int) -> bool:
    """Whether the kernel, which checks no bounds, can take tensors of these shapes.

    x is [before, steps, after, channels]. `count` is the number of GRUs.
    """
    cells, units = len(weights) // 4, state.shape[-1]
    inputs, sums = x.shape[3] // count, 3 * units
    shapes = [(sums, inputs), (sums, units), (sums,), (sums,)] * cells
    return (
        0 < units <= _MAX_UNITS
        and x.numel() > 0
        and x.shape[3] % count == 0
        and state.shape == (cells, x.shape[0] * x.shape[2], units)
        and [tuple(weight.shape) for weight in weights] == shapes
    )


def _plain(x: Tensor, state: Tensor, directions: int, *weights: Tensor) -> tuple[Tensor, Tensor]:
    """Runs GRUs over x [before, steps, after, channels] with PyTorch.

    A cell is one direction of one GRU, and `weights` has four tensors for each cell. All cells are computed as a single
    GRU with block-diagonal weights, which starts fewer operations than one GRU after the other.
    """
    before, steps, after, _ = x.shape
    batch, (cells, _, units) = before * after, state.shape
    x = x.transpose(0, 1).flatten(1, 2)
    if directions == 2:
        parts = x.reshape(steps, batch, cells // 2, 1, -1)
        x = torch.cat([parts, parts.flip(0)], dim=-2).flatten(2)
    joined = [_joined(weights[place::4]) for place in range(4)]
    # cuDNN expects all weights in one contiguous piece of memory.
    pieces = torch.split(torch.cat([weight.flatten() for weight in joined]), [weight.numel() for weight in joined])
    joined = [piece.view_as(weight) for piece, weight in zip(pieces, joined, strict=True)]
    joined_state = state.transpose(0, 1).reshape(1, batch, cells * units)
    output, last = torch.gru(x, joined_state, joined, True, 1, 0.0, torch.is_grad_enabled(), False, False)
    if directions == 2:
        forwards, backwards = output.reshape(steps, batch, cells // 2, 2, units).unbind(-2)
        output = torch.stack([forwards, backwards.flip(0)], dim=-2).reshape(steps, batch, -1)
    return output.reshape(steps, before, after, -1).transpose(0, 1), last.reshape(batch, cells, units).transpose(0, 1)


def _joined(weights: Sequence[Tensor]) -> Tensor:
    """Joins the weights [3 * units, …] of all cells. For each gate, each cell is a block on the diagonal."""
    if len(weights) == 1:
        return weights[0]
    stacked = torch.stack(list(weights))
    by_gate = stacked.reshape(len(weights), 3, -1, *stacked.shape[2:]).transpose(0, 1)
    if stacked.ndim == 3:
        diagonal = torch.eye(len(weights), dtype=stacked.dtype, device=stacked.device)
        by_gate = (by_gate.unsqueeze(-2) * diagonal[:, None, :, None]).flatten(-2)
    return by_gate.flatten(0, 2)


class _Fused(torch.autograd.Function):
    """The kernel, with its gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, state: Tensor, directions: int, *weights: Tensor) -> tuple[Tensor, Tensor]:
        last = state.clone(memory_format=torch.contiguous_format)
        cells, _, units = state.shape
        output = x.new_empty(*x.shape[:3], cells * units)
        w_x, w_h, biases = gru_on_cpu.padded(to_read(*weights))
        gru_on_cpu.forward(*to_read(x), w_x, w_h, biases, weights[0].shape[1], directions, *to_write(output, last))
        ctx.directions = directions
        ctx.save_for_backward(output, x, state, *weights)
        return output, last

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        output, x, state, *weights = ctx.saved_tensors
        if torch.is_grad_enabled():
            return gradients_of_plain(_plain, (x, state, ctx.directions, *weights), grads)
        grad_x, grad_state = x.new_zeros(x.shape), grads[1].clone(memory_format=torch.contiguous_format)
        w_x, w_h, biases = gru_on_cpu.padded(to_read(*weights))
        gradients = [np.zeros_like(weight) for weight in (w_x, w_h, biases)]
        turned = [np.ascontiguousarray(weight.swapaxes(1, 2)) for weight in (w_x, w_h)]
        tensors = *to_read(output, state, grads[0]), *to_write(grad_state, grad_x)
        gru_on_cpu.backward(
            *to_read(x), w_x, w_h, biases, *turned, weights[0].shape[1], ctx.directions, *tensors, *gradients
        )
        grad_weights = gru_on_cpu.unpadded(*gradients, inputs=weights[0].shape[1], units=state.shape[2])
        return grad_x, grad_state, None, *map(torch.from_numpy, grad_weights)
