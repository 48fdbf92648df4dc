"""A small network for trying out the other components."""

from __future__ import annotations

from typing import Annotated

import torch
from audiozen.registry import Range
from torch import Tensor, nn
from torch.nn import functional as F

_Positive = Annotated[int, Range(least=1)]


class SmallTasNet(nn.Module):
    """An encoder, a mask for each source, and a decoder: Conv-TasNet (Luo and Mesgarani, 2019) reduced to the minimum.

    Args:
        num_sources: the number of sources.
        filters: the number of filters of the encoder.
        kernel_size: the length of the filters in samples, an even number; the hop is half of it.
        layers: the number of convolutions over time; each has twice the dilation of the previous convolution.
    """

    def __init__(
        self, num_sources: _Positive = 2, filters: _Positive = 32, kernel_size: int = 32, layers: _Positive = 3
    ) -> None:
        super().__init__()
        if kernel_size < 2 or kernel_size % 2:
            raise ValueError(f"`kernel_size` is {kernel_size}, but must be an even number")
        self.num_sources = num_sources
        self.hop = kernel_size // 2
        self.encoder = nn.Conv1d(1, filters, kernel_size, self.hop, bias=False)
        self.decoder = nn.ConvTranspose1d(filters, 1, kernel_size, self.hop, bias=False)
        self.context = nn.ModuleList(
            nn.Conv1d(filters, filters, 3, padding=2**layer, dilation=2**layer) for layer in range(layers)
        )
        self.masks = nn.Conv1d(filters, num_sources * filters, 1)

    def forward(self, mixture: Tensor) -> Tensor:
        """Separates mixtures [batch, time] into sources [batch, num_sources, time]."""
        time = mixture.shape[-1]
        padded = F.pad(mixture, (self.hop, self.hop + -time % self.hop))
        encoded = self.encoder(padded.unsqueeze(1)).relu()
        hidden = encoded
        for layer in self.context:
            hidden = hidden + torch.relu(layer(hidden))
        masks = self.masks(hidden).unflatten(1, (self.num_sources, -1)).sigmoid()
        masked = (masks * encoded.unsqueeze(1)).flatten(0, 1)
        waves = self.decoder(masked).reshape(len(mixture), self.num_sources, -1)
        sources: Tensor = waves[..., self.hop : self.hop + time]
        return sources
