"""Parts of causal convolutions over [batch, channels, frames, frequencies]."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from audiozen_plugins.model.past import keep, recall


def pad_past(x: Tensor, frames: int) -> Tensor:
    """Puts silent frames before x [batch, channels, frames, frequencies], or those of the piece before (see `Past`).

    A convolution over `frames + 1` frames then needs no padding of its own in time, and uses no later frame.
    """
    if not frames:
        return x
    past = recall()
    x = nn.functional.pad(x, (0, 0, frames, 0)) if past is None else torch.cat([past, x], dim=2)
    keep(x[:, :, -frames:])
    return x


def kernel_of(convolution: nn.Conv2d | nn.ConvTranspose2d) -> Tensor:
    """Returns the kernel [out_channels, in_channels // groups, frames, frequencies] of a convolution.

    A transposed convolution of stride 1 is a convolution too, with the kernel turned round. On a CPU that is faster.

    Args:
        convolution: with stride 1, and with as many groups as channels or a single one.
    """
    if not isinstance(convolution, nn.ConvTranspose2d):
        return convolution.weight
    turned = convolution.weight.flip(2, 3)
    return turned if convolution.groups > 1 else turned.transpose(0, 1)


def interleave(first: Tensor, second: Tensor) -> Tensor:
    """Joins two tensors [batch, channels, …] to [batch, 2 * channels, …], one channel of each in turn.

    Example:
        >>> interleave(torch.tensor([[1, 3]]), torch.tensor([[2, 4]]))
        tensor([[1, 2, 3, 4]])
    """
    return torch.stack([first, second], dim=2).flatten(1, 2)
