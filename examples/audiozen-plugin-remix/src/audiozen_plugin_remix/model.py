"""A recurrent network on magnitudes."""

from __future__ import annotations

import torch
from audiozen.model import keep, recall
from torch import Tensor, nn


class GruMask(nn.Module):
    """A causal GRU that reads log magnitudes frame by frame and estimates a mask.

    Args:
        num_freqs: number of frequencies of the spectrogram, `n_fft // 2 + 1`.
        hidden_size: number of units in each layer of the GRU.
        num_layers: number of layers of the GRU.
    """

    # Long files are enhanced in pieces. In each piece, the GRU continues with its state at the end of the previous
    # piece.
    carries_state = True

    def __init__(self, num_freqs: int = 257, hidden_size: int = 128, num_layers: int = 1) -> None:
        super().__init__()
        self.gru = nn.GRU(num_freqs, hidden_size, num_layers, batch_first=True)
        self.mask = nn.Linear(hidden_size, num_freqs)

    def forward(self, magnitude: Tensor) -> Tensor:
        """Maps noisy magnitudes [batch, num_freqs, frames] to enhanced magnitudes of the same shape."""
        hidden, state = self.gru(torch.log1p(magnitude).transpose(1, 2), recall())
        keep(state)
        return magnitude * torch.sigmoid(self.mask(hidden)).transpose(1, 2)
