"""A small network that estimates the velocity of a flow between complex spectra."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from audiozen_core.binding.ranges import Positive, check_ranges


class FlowNet(nn.Module):
    """Estimates the velocity of a flow from noisy to clean spectra, for the trainer `flow`.

    The network is a U-Net (Ronneberger et al., MICCAI 2015). Each level of the encoder halves the number of
    frequencies. At the coarsest level, residual blocks with growing dilation convolve over the frames. Each level of
    the decoder also gets the output of the encoder level of the same size. No residual block works on all frequencies,
    so the network can be trained on a CPU. The flow's time enters each block as a scale and a shift of its channels
    (Perez et al., "FiLM", AAAI 2018). The network is not causal. The weights of the last layer start at 0, so an
    untrained network returns the velocity 0.

    Args:
        channels: the number of channels of the first level. Each further level doubles it, up to four times
            `channels`.
        levels: the number of levels.
        blocks: the number of residual blocks at the coarsest level. Their dilations are 1, 2, 4, 8, and then again from
            1.

    Example:
        >>> network = FlowNet(channels=8, levels=2, blocks=2)
        >>> network(torch.zeros(1, 2, 65, 10), torch.zeros(1, 2, 65, 10), torch.zeros(1)).shape
        torch.Size([1, 2, 65, 10])
    """

    domain = "spectrum"
    layout = "channels_first"

    def __init__(self, channels: Positive = 24, levels: Positive = 4, blocks: Positive = 8) -> None:
        check_ranges(FlowNet, locals())
        super().__init__()
        width = 4 * channels
        self.time = nn.Sequential(nn.Linear(64, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        widths = [min(channels * 2**level, width) for level in range(levels)]
        self.enter = nn.Conv2d(4, channels, (4, 3), (2, 1), padding=(1, 1))
        self.down = nn.ModuleList(
            nn.Conv2d(in_channels, out_channels, (4, 3), (2, 1), padding=(1, 1))
            for in_channels, out_channels in itertools.pairwise(widths)
        )
        self.down_blocks = nn.ModuleList(_Block(out_channels, width) for out_channels in widths[:-1])
        self.middle = nn.ModuleList(_Block(widths[-1], width, dilation=2 ** (index % 4)) for index in range(blocks))
        self.up = nn.ModuleList(
            nn.Conv2d(in_channels, out_channels, (3, 3), padding=1)
            for out_channels, in_channels in itertools.pairwise(widths)
        )
        self.up_blocks = nn.ModuleList(_Block(out_channels, width) for out_channels in widths[:-1])
        self.leave = nn.Conv2d(channels + 4, 2, 3, padding=1)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(cast(Tensor, self.leave.bias))

    def forward(self, state: Tensor, noisy: Tensor, time: Tensor) -> Tensor:
        """Estimates velocities.

        Args:
            state: real and imaginary part [batch, 2, frequencies, frames] of the states.
            noisy: real and imaginary part [batch, 2, frequencies, frames] of the noisy spectra.
            time: the times [batch], from 0 to 1.

        Returns:
            Real and imaginary part [batch, 2, frequencies, frames] of the velocities.
        """
        embedded = self.time(_embedding(time))
        inputs = torch.cat([state, noisy], dim=1)
        hidden = self.enter(inputs)
        kept = []
        for block, down in zip(self.down_blocks, self.down, strict=True):
            hidden = block(hidden, embedded)
            kept.append(hidden)
            hidden = down(hidden)
        for block in self.middle:
            hidden = block(hidden, embedded)
        for block, up, skipped in _backwards(self.up_blocks, self.up, kept):
            hidden = F.interpolate(up(hidden), size=skipped.shape[2:]) + skipped
            hidden = block(hidden, embedded)
        hidden = F.interpolate(F.silu(hidden), size=inputs.shape[2:])
        velocity: Tensor = self.leave(torch.cat([hidden, inputs], dim=1))
        return velocity


class _Block(nn.Module):
    """Two convolutions with a residual connection; the time scales and shifts their channels."""

    def __init__(self, channels: int, width: int, dilation: int = 1) -> None:
        super().__init__()
        self.film = nn.Linear(width, 2 * channels)
        self.norm = nn.GroupNorm(1, channels)
        self.first = nn.Conv2d(channels, channels, 3, padding=(1, dilation), dilation=(1, dilation))
        self.second = nn.Conv2d(channels, channels, 1)

    def forward(self, hidden: Tensor, embedded: Tensor) -> Tensor:
        scale, shift = self.film(embedded)[..., None, None].chunk(2, dim=1)
        inner = self.first(F.silu(self.norm(hidden) * (1 + scale) + shift))
        output: Tensor = hidden + self.second(F.silu(inner))
        return output


def _embedding(time: Tensor) -> Tensor:
    """Returns sines and cosines [batch, 64] of times [batch], at frequencies from low to high."""
    rates = torch.exp(torch.linspace(0, math.log(1000), 32, device=time.device))
    angles = time[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def _backwards(*lists: Sequence[object] | nn.ModuleList) -> zip[tuple[nn.Module, nn.Module, Tensor]]:
    """Zips lists, from their last entries to their first entries."""
    return cast("zip[tuple[nn.Module, nn.Module, Tensor]]", zip(*(reversed(one) for one in lists), strict=True))
