"""Parts of causal convolutions over [batch, channels, frames, frequencies]."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from audiozen_plugins.kernels.depthwise import depthwise_conv
from audiozen_plugins.model.past import keep, recall


def pad_past(x: Tensor, frames: int) -> Tensor:
    """Puts frames before a signal x [batch, channels, frames, frequencies]: zeros, or the end of the previous piece.

    Long signals can be processed in pieces; see `Past`. With these frames, a convolution over `frames + 1` frames needs
    no padding of its own in time, and uses no later frame.
    """
    if not frames:
        return x
    past = recall()
    x = nn.functional.pad(x, (0, 0, frames, 0)) if past is None else torch.cat([past, x], dim=2)
    keep(x[:, :, -frames:])
    return x


def depthwise_after_past(x: Tensor, convolution: nn.Conv2d | nn.ConvTranspose2d, dilation: int = 1) -> Tensor:
    """Convolves each channel with its own kernel, over the current and past frames and over neighbouring bands.

    The frames before x are zeros, or the end of the previous piece (see `Past`).

    Args:
        x: a signal [batch, channels, frames, frequencies].
        convolution: a convolution with stride 1, one group for each channel, and an odd number of bands in its kernel.
            Its padding is ignored.
        dilation: the distance between two taps of the kernel in frames.
    """
    kernel = kernel_of(convolution)
    frames = (kernel.shape[2] - 1) * dilation
    assert convolution.bias is not None
    if not frames:
        return depthwise_conv(x, kernel, convolution.bias)
    past = recall()
    x = x if past is None else torch.cat([past, x], dim=2)
    last = x[:, :, -frames:]
    missing = frames - last.shape[2]
    keep(nn.functional.pad(last, (0, 0, missing, 0)) if missing else last)
    return depthwise_conv(x, kernel, convolution.bias, dilation, frames if past is None else 0)


def kernel_of(convolution: nn.Conv2d | nn.ConvTranspose2d) -> Tensor:
    """Returns the kernel [out_channels, in_channels // groups, frames, frequencies] of a convolution.

    A transposed convolution with stride 1 equals a convolution with the reversed kernel, which is faster on a CPU. So
    the result for a transposed convolution is the reversed kernel.

    Args:
        convolution: a convolution with stride 1. It has a single group, or as many groups as channels.
    """
    if not isinstance(convolution, nn.ConvTranspose2d):
        return convolution.weight
    turned = convolution.weight.flip(2, 3)
    return turned if convolution.groups > 1 else turned.transpose(0, 1)


def interleave(first: Tensor, second: Tensor) -> Tensor:
    """Interleaves the channels of two tensors [batch, channels, …]. The result is [batch, 2 * channels, …].

    Example:
        >>> interleave(torch.tensor([[1, 3]]), torch.tensor([[2, 4]]))
        tensor([[1, 2, 3, 4]])
    """
    return torch.stack([first, second], dim=2).flatten(1, 2)
