"""Convolutions over three neighbouring bands, and transposed convolutions that double the number of bands."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from audiozen_plugins.kernels.on_cpu import (
    fast_sums,
    fits_cpu_kernel,
    fused,
    gradients_of_plain,
    is_watched,
    to_read,
    to_write,
)

_F = np.float32


def conv_over_three(x: Tensor, weight: Tensor, bias: Tensor, groups: int = 1) -> Tensor:
    """Convolves each frame over its bands, with a zero below the first band and a zero above the last band.

    Args:
        x: a signal [batch, channels, frames, bands].
        weight: the kernels [outputs, channels // groups, 1, 3].
        bias: a number that is added to each output channel [outputs].
        groups: the number of groups of channels, as in `torch.nn.Conv2d`.

    Returns:
        [batch, outputs, frames, bands].
    """
    if _fits(x, weight, bias, groups) and fits_cpu_kernel(x, weight, bias):
        output: Tensor = fused(_Fused, x, weight, bias, groups)
        return output
    return _plain(x, weight, bias, groups)


def _fits(x: Tensor, weight: Tensor, bias: Tensor, groups: int) -> bool:
    """Whether the kernel, which checks no bounds, can take tensors of these shapes."""
    return (
        x.ndim == 4
        and x.numel() > 0
        and weight.shape[1:] == (x.shape[1] // groups, 1, 3)
        and x.shape[1] % groups == 0
        and bias.shape == weight.shape[:1]
        # The kernel computes two output channels at once, and two input channels at once for the input's gradient.
        and weight.shape[0] % (2 * groups) == 0
        and weight.shape[1] % 2 == 0
    )


def double_bands(x: Tensor, conv: nn.ConvTranspose2d) -> Tensor:
    """Computes `conv(x)` for a transposed convolution over one frame and five bands, with stride 2 and padding 2.

    An even band of the output depends on three bands of the input, and an odd band depends on two. So a single
    convolution over three bands computes both, in less time.

    Args:
        x: a signal [batch, channels, frames, bands].
        conv: a transposed convolution with kernel size (1, 5), stride (1, 2), padding (0, 2), and a bias. Any other
            module is called as usual.

    Returns:
        [batch, outputs, frames, 2 * bands - 1].
    """
    fits = _doubles(x, conv) and not is_watched(conv)
    if not fits or conv.bias is None or not fits_cpu_kernel(x, conv.weight, conv.bias):
        output: Tensor = conv(x)
        return output
    taps = _transposed(conv.weight, conv.groups)
    even = taps.flip(-1)[..., ::2]
    odd = F.pad(taps.flip(-1)[..., 1::2], (1, 0))
    weight = torch.stack([even, odd], dim=1).flatten(0, 1)
    both = conv_over_three(x, weight, conv.bias.repeat_interleave(2), conv.groups)
    batch, _, frames, bands = both.shape
    return both.reshape(batch, -1, 2, frames, bands).movedim(2, -1).flatten(-2)[..., :-1]


def _doubles(x: Tensor, conv: nn.ConvTranspose2d) -> bool:
    sizes = conv.kernel_size, conv.stride, conv.padding, conv.output_padding, conv.dilation
    usual = (1, 5), (1, 2), (0, 2), (0, 0), (1, 1)
    return sizes == usual and x.ndim == 4 and x.shape[1] == conv.in_channels


def _transposed(weight: Tensor, groups: int) -> Tensor:
    """Swaps the input and the output channels of weights [outputs, inputs of a channel group, 1, taps]."""
    return weight.reshape(groups, -1, *weight.shape[1:]).transpose(1, 2).flatten(0, 1)


def _plain(x: Tensor, weight: Tensor, bias: Tensor, groups: int) -> Tensor:
    return F.conv2d(x, weight, bias, padding=(0, 1), groups=groups)


class _Fused(torch.autograd.Function):
    """The kernel, with its gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, groups: int) -> Tensor:
        output = x.new_empty(x.shape[0], len(weight), *x.shape[2:])
        _forward(*to_read(x, weight, bias), groups, *to_write(output))
        ctx.groups = groups
        ctx.save_for_backward(x, weight, bias)
        return output

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        if torch.is_grad_enabled():
            return gradients_of_plain(_plain, (*ctx.saved_tensors, ctx.groups), grads)
        x, weight, bias = ctx.saved_tensors
        arrays, grad_x = to_read(x, grads[0]), None
        if ctx.needs_input_grad[0]:
            # The gradient of the input is the gradient of the output, convolved with the reversed kernel.
            turned = _transposed(weight, ctx.groups).flip(-1)
            grad_x = x.new_empty(x.shape)
            zeros = x.new_zeros(x.shape[1])
            _forward(arrays[1], *to_read(turned, zeros), ctx.groups, *to_write(grad_x))
        weight_grads = weight.new_zeros(weight.shape), bias.new_zeros(bias.shape)
        _backward(*arrays, ctx.groups, *to_write(*weight_grads))
        return grad_x, *weight_grads, None


@fast_sums
def _forward(x: Any, weight: Any, bias: Any, groups: Any, output: Any) -> None:
    """Writes `output`, with the frames of a channel in one long row, in which each frame has a zero at both ends.

    Each tap of a kernel is then a shift of the whole row.
    """
    batch, channels, frames, bands = x.shape
    outputs, inputs, _, _ = weight.shape
    row = bands + 2
    length = frames * row - 2
    padded = np.zeros((channels, frames * row), np.float32)
    first, second = np.empty(length, np.float32), np.empty(length, np.float32)
    for item in range(batch):
        for channel in range(channels):
            for t in range(frames):
                for f in range(bands):
                    padded[channel, t * row + 1 + f] = x[item, channel, t, f]
        for out in range(0, outputs, 2):
            first[:] = bias[out]
            second[:] = bias[out + 1]
            start = out // (outputs // groups) * inputs
            for i in range(inputs):
                left, middle, right = padded[start + i, :length], padded[start + i, 1:], padded[start + i, 2:]
                a0, a1, a2 = weight[out, i, 0, 0], weight[out, i, 0, 1], weight[out, i, 0, 2]
                b0, b1, b2 = weight[out + 1, i, 0, 0], weight[out + 1, i, 0, 1], weight[out + 1, i, 0, 2]
                for k in range(length):
                    first[k] += a0 * left[k] + a1 * middle[k] + a2 * right[k]
                    second[k] += b0 * left[k] + b1 * middle[k] + b2 * right[k]
            for t in range(frames):
                for f in range(bands):
                    output[item, out, t, f] = first[t * row + f]
                    output[item, out + 1, t, f] = second[t * row + f]


@fast_sums
def _backward(x: Any, grad: Any, groups: Any, grad_weight: Any, grad_bias: Any) -> None:
    """Adds to the gradients of the weights and the biases."""
    batch, channels, frames, bands = x.shape
    outputs, inputs, _, _ = grad_weight.shape
    row = bands + 2
    length = frames * row - 2
    padded = np.zeros((channels, frames * row), np.float32)
    # Between the frames are zeros, which add nothing.
    first, second = np.zeros(frames * row, np.float32), np.zeros(frames * row, np.float32)
    for item in range(batch):
        for channel in range(channels):
            for t in range(frames):
                for f in range(bands):
                    padded[channel, t * row + 1 + f] = x[item, channel, t, f]
        for out in range(0, outputs, 2):
            for t in range(frames):
                for f in range(bands):
                    first[t * row + f] = grad[item, out, t, f]
                    second[t * row + f] = grad[item, out + 1, t, f]
            a0 = b0 = _F(0)
            for k in range(length):
                a0 += first[k]
                b0 += second[k]
            grad_bias[out] += a0
            grad_bias[out + 1] += b0
            start = out // (outputs // groups) * inputs
            for i in range(inputs):
                left, middle, right = padded[start + i, :length], padded[start + i, 1:], padded[start + i, 2:]
                a0 = a1 = a2 = b0 = b1 = b2 = _F(0)
                for k in range(length):
                    a0 += first[k] * left[k]
                    a1 += first[k] * middle[k]
                    a2 += first[k] * right[k]
                    b0 += second[k] * left[k]
                    b1 += second[k] * middle[k]
                    b2 += second[k] * right[k]
                grad_weight[out, i, 0, 0] += a0
                grad_weight[out, i, 0, 1] += a1
                grad_weight[out, i, 0, 2] += a2
                grad_weight[out + 1, i, 0, 0] += b0
                grad_weight[out + 1, i, 0, 1] += b1
                grad_weight[out + 1, i, 0, 2] += b2
