"""Joins neighbouring high frequencies into bands on the scale of equivalent rectangular bandwidths (ERB)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def erb_filters(num_low: int, num_bands: int, n_fft: int, sr: int) -> Tensor:
    """Returns triangular filters [num_bands, n_fft // 2 + 1 - num_low] with equally spaced peaks on the ERB scale.

    The scale is 21.4 log10(1 + 0.00437 f), from Glasberg and Moore, "Derivation of auditory filter shapes from
    notched-noise data", 1990. Each filter falls to 0 at the peaks of its neighbours, so that the filters add up to 1.

    Args:
        num_low: the number of low frequencies that no filter covers.
        num_bands: the number of filters.
        n_fft: the FFT size.
        sr: the sample rate in hertz.

    Raises:
        ValueError: two filters would have their peak at the same frequency of the FFT.
    """
    hertz = torch.tensor([num_low / n_fft * sr, sr / 2], dtype=torch.float64)
    low, high = (21.4 * torch.log10(1 + 0.00437 * hertz)).tolist()
    erb = torch.linspace(low, high, num_bands, dtype=torch.float64)
    peaks = ((10 ** (erb / 21.4) - 1) / 0.00437 / sr * n_fft).round()
    if not (peaks.diff() > 0).all():
        raise ValueError(
            f"`num_low` and `num_bands` are {num_low} and {num_bands}: two of these bands would have their peak at the "
            f"same frequency (of {n_fft // 2 + 1} at {sr} Hz); set a smaller `num_bands`, or another `num_low`"
        )
    widths = torch.cat([torch.ones(1), peaks.diff(), torch.ones(1)])[:, None]
    distances = torch.arange(num_low, n_fft // 2 + 1) - peaks[:, None]
    return torch.minimum(1 + distances / widths[:-1], 1 - distances / widths[1:]).clamp_min(0).float()


class ErbBands(nn.Module):
    """Joins high frequencies into bands, and spreads bands over the frequencies again. Its weights are fixed.

    Args:
        num_low: the number of low frequencies that are not joined.
        num_bands: the number of bands above the low frequencies.
        n_fft: the FFT size.
        sr: the sample rate in hertz.

    Example:
        >>> bands = ErbBands(65, 64)
        >>> joined = bands.join(torch.rand(1, 3, 10, 257))
        >>> joined.shape, bands.spread(joined).shape
        (torch.Size([1, 3, 10, 129]), torch.Size([1, 3, 10, 257]))
    """

    def __init__(self, num_low: int, num_bands: int, n_fft: int = 512, sr: int = 16000) -> None:
        super().__init__()
        self.num_low = num_low
        filters = erb_filters(num_low, num_bands, n_fft, sr)
        self.erb_fc = _Fixed(filters)
        self.ierb_fc = _Fixed(filters.T.contiguous())

    def join(self, x: Tensor) -> Tensor:
        """Joins frequencies [..., n_fft // 2 + 1] to [..., num_low + num_bands]."""
        return torch.cat([x[..., : self.num_low], self.erb_fc(x[..., self.num_low :])], dim=-1)

    def spread(self, x: Tensor) -> Tensor:
        """Spreads bands [..., num_low + num_bands] over the frequencies [..., n_fft // 2 + 1]."""
        return torch.cat([x[..., : self.num_low], self.ierb_fc(x[..., self.num_low :])], dim=-1)


class _Fixed(nn.Module):
    """A linear layer without bias whose weights are not trained."""

    weight: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.weight)
