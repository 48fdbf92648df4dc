"""Depthwise convolutions: each channel is convolved with a kernel of its own."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from audiozen_plugins.kernels.on_cpu import fast_sums, fits_cpu_kernel, fused, gradients_of_plain, to_read, to_write

_F = np.float32


def depthwise_conv(x: Tensor, weight: Tensor, bias: Tensor, dilation: int = 1, missing: int = 0) -> Tensor:
    """Convolves each channel with its own kernel over frames and bands, with zeros beyond the first and the last band.

    Args:
        x: a signal [batch, channels, frames, bands].
        weight: the kernels [channels, 1, taps, width]; the width is odd.
        bias: a number that is added to each channel [channels].
        dilation: the distance between two taps of the kernel in frames.
        missing: how many frames of zeros to put before x. The first output frame needs `(taps - 1) * dilation` earlier
            frames.

    Returns:
        [batch, channels, missing + frames - (taps - 1) * dilation, bands].
    """
    if _fits(x, weight, bias, dilation, missing) and fits_cpu_kernel(x, weight, bias):
        output: Tensor = fused(_Fused, x, weight, bias, dilation, missing)
        return output
    return _plain(x, weight, bias, dilation, missing)


def _fits(x: Tensor, weight: Tensor, bias: Tensor, dilation: int, missing: int) -> bool:
    """Whether the kernel, which checks no bounds, can take tensors of these shapes."""
    return (
        x.ndim == weight.ndim == 4
        and x.numel() > 0
        and weight.shape[:2] == (x.shape[1], 1)
        and weight.shape[3] % 2 == 1
        and bias.shape == weight.shape[:1]
        and dilation > 0
        and missing >= 0
        and missing + x.shape[2] > (weight.shape[2] - 1) * dilation
    )


def _plain(x: Tensor, weight: Tensor, bias: Tensor, dilation: int, missing: int) -> Tensor:
    if x.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
        # In bfloat16, torch 2.13 now and then fills the gradient of the kernels from memory that nothing has written,
        # which may be NaN.
        with torch.autocast("cpu", enabled=False):
            return _plain(x.float(), weight.float(), bias.float(), dilation, missing)
    x = F.pad(x, (0, 0, missing, 0))
    padding = (0, weight.shape[3] // 2)
    return F.conv2d(x, weight, bias, padding=padding, dilation=(dilation, 1), groups=x.shape[1])


class _Fused(torch.autograd.Function):
    """The kernel, with its gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, dilation: int, missing: int) -> Tensor:
        batch, channels, frames, bands = x.shape
        output = x.new_empty(batch, channels, missing + frames - (weight.shape[2] - 1) * dilation, bands)
        _forward(*to_read(x, weight, bias), dilation, missing, *to_write(output))
        ctx.sizes = dilation, missing
        ctx.save_for_backward(x, weight, bias)
        return output

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        if torch.is_grad_enabled():
            return gradients_of_plain(_plain, (*ctx.saved_tensors, *ctx.sizes), grads)
        x, weight, bias = ctx.saved_tensors
        gradients = x.new_empty(x.shape), weight.new_zeros(weight.shape), bias.new_zeros(bias.shape)
        _backward(*to_read(x, weight, grads[0]), *ctx.sizes, *to_write(*gradients))
        return *gradients, None, None


@fast_sums
def _forward(x: Any, weight: Any, bias: Any, dilation: Any, missing: Any, output: Any) -> None:
    """Computes one channel at a time, with zeros around its bands, so that each tap is a shift of the whole channel.

    A kernel that is three bands wide adds all three products at once, because reading and writing the sums takes longer
    than adding.
    """
    batch, channels, frames, bands = x.shape
    taps, width = weight.shape[2:]
    side, row = width // 2, bands + width - 1
    length = output.shape[2] * row
    padded = np.zeros((missing + frames) * row + width, np.float32)
    sums = np.empty(length, np.float32)
    for item in range(batch):
        for channel in range(channels):
            for t in range(frames):
                for f in range(bands):
                    padded[(missing + t) * row + side + f] = x[item, channel, t, f]
            start = bias[channel]
            for i in range(length):
                sums[i] = start
            for tap in range(taps):
                shift = tap * dilation * row
                if width == 3:
                    left, middle, right = padded[shift:], padded[shift + 1 :], padded[shift + 2 :]
                    a, b, c = weight[channel, 0, tap, 0], weight[channel, 0, tap, 1], weight[channel, 0, tap, 2]
                    for i in range(length):
                        sums[i] += a * left[i] + b * middle[i] + c * right[i]
                    continue
                for band in range(width):
                    scale, shifted = weight[channel, 0, tap, band], padded[shift + band :]
                    for i in range(length):
                        sums[i] += scale * shifted[i]
            for t in range(output.shape[2]):
                for f in range(bands):
                    output[item, channel, t, f] = sums[t * row + f]


@fast_sums
def _backward(  # noqa: PLR0912 - numba compiles one loop
    x: Any, weight: Any, grad: Any, dilation: Any, missing: Any, grad_x: Any, grad_weight: Any, grad_bias: Any
) -> None:
    """Writes `grad_x`, and adds to the other gradients."""
    batch, channels, frames, bands = x.shape
    taps, width = weight.shape[2:]
    side, row = width // 2, bands + width - 1
    length = grad.shape[2] * row
    padded = np.zeros((missing + frames) * row + width, np.float32)
    sums = np.empty((missing + frames) * row + width, np.float32)
    # Between the rows are zeros, which add nothing.
    spaced = np.zeros(length, np.float32)
    for item in range(batch):
        for channel in range(channels):
            for t in range(frames):
                for f in range(bands):
                    padded[(missing + t) * row + side + f] = x[item, channel, t, f]
            for t in range(grad.shape[2]):
                for f in range(bands):
                    spaced[t * row + f] = grad[item, channel, t, f]
            total = _F(0)
            for i in range(length):
                total += spaced[i]
            grad_bias[channel] += total
            sums[:] = 0
            for tap in range(taps):
                shift = tap * dilation * row
                for band in range(width):
                    scale, shifted = weight[channel, 0, tap, band], sums[shift + band :]
                    for i in range(length):
                        shifted[i] += scale * spaced[i]
                if width == 3:
                    left, middle, right = padded[shift:], padded[shift + 1 :], padded[shift + 2 :]
                    a = b = c = _F(0)
                    for i in range(length):
                        a += left[i] * spaced[i]
                        b += middle[i] * spaced[i]
                        c += right[i] * spaced[i]
                    grad_weight[channel, 0, tap, 0] += a
                    grad_weight[channel, 0, tap, 1] += b
                    grad_weight[channel, 0, tap, 2] += c
                    continue
                for band in range(width):
                    total, shifted = _F(0), padded[shift + band :]
                    for i in range(length):
                        total += shifted[i] * spaced[i]
                    grad_weight[channel, 0, tap, band] += total
            for t in range(frames):
                for f in range(bands):
                    grad_x[item, channel, t, f] = sums[(missing + t) * row + side + f]
