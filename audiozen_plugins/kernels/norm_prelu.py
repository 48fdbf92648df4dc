"""Batch normalisation followed by a PReLU, in one pass over the signal forwards and in two passes backwards."""

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


def norm_prelu(x: Tensor, norm: Any, prelu: Any) -> Tensor:
    """Computes `prelu(norm(x))`.

    Args:
        x: a signal [batch, channels, height, width].
        norm: an `nn.BatchNorm2d`. If it is another module, `norm` and `prelu` are called one after the other.
        prelu: an `nn.PReLU`; the same applies to other modules.
    """
    if not _fits(x, norm, prelu):
        output: Tensor = prelu(norm(x))
        return output
    weights = (norm.weight, norm.bias, prelu.weight)
    if not norm.training:
        evaluated: Tensor = fused(_Fused, x, *weights, norm.running_mean, norm.running_var, norm.eps, False)[0]
        return evaluated
    output, mean, variance = fused(_Fused, x, *weights, norm.running_mean, norm.running_var, norm.eps, True)
    with torch.no_grad():
        count = x.numel() // x.shape[1]
        norm.num_batches_tracked.add_(1)
        norm.running_mean.lerp_(mean, norm.momentum)
        norm.running_var.lerp_(variance * (count / (count - 1)), norm.momentum)
    return output


def _fits(x: Tensor, norm: Any, prelu: Any) -> bool:
    """Whether the kernel computes the same as the modules, and no hook must see that the modules are called."""
    if type(norm) is not nn.BatchNorm2d or type(prelu) is not nn.PReLU:
        return False
    tensors: tuple[Any, ...] = (norm.weight, norm.bias, norm.running_mean, norm.running_var)
    return (
        norm.momentum is not None
        and x.ndim == 4
        and x.numel() > x.shape[1]
        and prelu.weight.shape in ((1,), x.shape[1:2])
        and not is_watched(norm, prelu)
        # Without weights or running statistics, some of the tensors are None, which the kernel does not fit.
        and fits_cpu_kernel(x, *tensors, prelu.weight)
        and all(tensor.shape == x.shape[1:2] for tensor in tensors)
    )


def _plain(
    x: Tensor, weight: Tensor, bias: Tensor, slope: Tensor, mean: Tensor, variance: Tensor, eps: float, training: bool
) -> Tensor:
    known_mean, known_variance = (None, None) if training else (mean, variance)
    return F.prelu(F.batch_norm(x, known_mean, known_variance, weight, bias, training, 0.0, eps), slope)


class _Fused(torch.autograd.Function):
    """The kernel with its gradients. Its outputs also include the mean and the variance of each channel."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        slope: Tensor,
        mean: Tensor,
        variance: Tensor,
        eps: float,
        training: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        output = x.new_empty(x.shape)
        used_mean, used_variance = (values.clone(memory_format=torch.contiguous_format) for values in (mean, variance))
        if training:
            _statistics(*to_read(x.flatten(2)), *to_write(used_mean, used_variance))
        inverse = (used_variance + eps).rsqrt()
        _forward(*to_read(x.flatten(2), used_mean, inverse, weight, bias, slope), *to_write(output.flatten(2)))
        ctx.eps, ctx.training = eps, training
        ctx.save_for_backward(x, weight, bias, slope, used_mean, used_variance)
        ctx.mark_non_differentiable(used_mean, used_variance)
        return output, used_mean, used_variance

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        saved = ctx.saved_tensors
        if torch.is_grad_enabled():
            return gradients_of_plain(_plain, (*saved, ctx.eps, ctx.training), grads[:1])
        x, weight, bias, slope, mean, variance = saved
        inverse = (variance + ctx.eps).rsqrt()
        grad_x = x.new_empty(x.shape)
        weight_grads = weight.new_empty(weight.shape), bias.new_empty(bias.shape), slope.new_zeros(slope.shape)
        _backward(
            *to_read(x.flatten(2), mean, inverse, weight, bias, slope, grads[0].flatten(2)),
            ctx.training,
            *to_write(grad_x.flatten(2), *weight_grads),
        )
        return grad_x, *weight_grads, None, None, None, None


@fast_sums
def _statistics(x: Any, means: Any, variances: Any) -> None:
    """Writes the mean and the variance of each channel of `x` [batch, channels, size]."""
    batch, channels, size = x.shape
    for channel in range(channels):
        total: Any = 0.0
        for item in range(batch):
            part: Any = _F(0)
            for i in range(size):
                part += x[item, channel, i]
            total += part
        mean = _F(total / (batch * size))
        total = 0.0
        for item in range(batch):
            part = _F(0)
            for i in range(size):
                part += (x[item, channel, i] - mean) * (x[item, channel, i] - mean)
            total += part
        means[channel] = mean
        variances[channel] = total / (batch * size)


@fast_sums
def _forward(x: Any, means: Any, inverses: Any, weight: Any, bias: Any, slopes: Any, output: Any) -> None:
    batch, channels, size = x.shape
    for channel in range(channels):
        slope = slopes[channel % slopes.size]
        scale = weight[channel] * inverses[channel]
        shift = bias[channel] - means[channel] * scale
        for item in range(batch):
            for i in range(size):
                y = x[item, channel, i] * scale + shift
                output[item, channel, i] = y if y > _F(0) else slope * y


@fast_sums
def _backward(
    x: Any,
    means: Any,
    inverses: Any,
    weight: Any,
    bias: Any,
    slopes: Any,
    grad: Any,
    training: Any,
    grad_x: Any,
    grad_weight: Any,
    grad_bias: Any,
    grad_slope: Any,
) -> None:
    """Writes `grad_x`, `grad_weight` and `grad_bias`, and adds to `grad_slope`, which channels may share.

    In training, the gradient also flows through the mean and the variance, because both are computed from the signal.
    """
    batch, channels, size = x.shape
    for channel in range(channels):
        slope, mean = slopes[channel % slopes.size], means[channel]
        scale = weight[channel] * inverses[channel]
        shift = bias[channel] - mean * scale
        total: Any = 0.0
        total_centred: Any = 0.0
        total_slope: Any = 0.0
        for item in range(batch):
            part = part_centred = part_slope = _F(0)
            for i in range(size):
                value, d = x[item, channel, i], grad[item, channel, i]
                y = value * scale + shift
                negative = _F(0) if y > _F(0) else d
                part_slope += negative * y
                d = d if y > _F(0) else slope * d
                part += d
                part_centred += d * (value - mean)
            total += part
            total_centred += part_centred
            total_slope += part_slope
        grad_weight[channel] = total_centred * inverses[channel]
        grad_bias[channel] = total
        grad_slope[channel % slopes.size] += total_slope
        count = batch * size
        share = _F(total / count) if training else _F(0)
        tilt = _F(total_centred / count * inverses[channel] * inverses[channel]) if training else _F(0)
        for item in range(batch):
            for i in range(size):
                value, d = x[item, channel, i], grad[item, channel, i]
                d = d if value * scale + shift > _F(0) else slope * d
                grad_x[item, channel, i] = (d - share - (value - mean) * tilt) * scale
