"""The generator of the recipe: a mask for the magnitudes, as in MetricGAN+."""

import torch
from torch import Tensor, nn


class MaskGenerator(nn.Module):
    """Estimates a mask from the magnitudes with a bidirectional LSTM.

    Fu et al., "MetricGAN+", Interspeech 2021, with fewer units. Each frequency has a sigmoid with its own learnt slope.

    Args:
        num_freqs: the number of frequencies, `n_fft // 2 + 1`.
        hidden_size: the units of each direction and layer.
    """

    domain = "magnitude"

    def __init__(self, num_freqs: int = 257, hidden_size: int = 96) -> None:
        super().__init__()
        self.lstm = nn.LSTM(num_freqs, hidden_size, num_layers=2, batch_first=True, bidirectional=True)
        self.mask = nn.Linear(2 * hidden_size, num_freqs)
        self.slope = nn.Parameter(torch.ones(num_freqs))

    def forward(self, noisy: Tensor) -> Tensor:
        """Enhances magnitudes [batch, num_freqs, frames]."""
        hidden, _ = self.lstm(noisy.log1p().transpose(1, 2))
        mask = 1.2 * torch.sigmoid(self.slope * self.mask(hidden))
        return noisy * mask.transpose(1, 2).clamp_min(0.05)
