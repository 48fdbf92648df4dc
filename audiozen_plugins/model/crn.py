"""A small convolutional recurrent network for speech enhancement."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from audiozen_core.binding.ranges import Natural, Positive, Range, out_of_range
from audiozen_plugins.model.erb import ErbBands
from audiozen_plugins.model.past import keep, recall


class CRN(nn.Module):
    """A small causal network that estimates a mask for the spectrum of noisy speech. It trains on a CPU in minutes.

    The magnitudes are joined into bands: each low frequency is a band of its own, and high frequencies form bands on
    the ERB scale, as in `gtcrn`. A convolution over the frames, with all bands as its channels, is followed by GRUs
    with residual connections. Each GRU consists of groups, and each group processes a part of the channels. Two groups
    need half as many multiplications as a single GRU (Gao et al., "Efficient Sequence Learning with Group Recurrent
    Networks", 2018). The outputs of the groups are interleaved before the next GRU. The mask scales each band by a
    factor from 0 to 1, and the noisy phase is kept. In training runs of a few minutes, a complex mask was clearly
    worse.

    The network is causal: frame `t` of the output does not depend on later frames of the input. Its algorithmic latency
    is one STFT window: 32 ms for 512 samples at 16 kHz. The model declares its domain, and `sr` and `n_fft` of
    `[acoustics]`. It works with any window and any hop.

    Args:
        num_freqs: the number of frequencies, `n_fft // 2 + 1` with an even `n_fft`.
        num_low: the number of low frequencies that are bands of their own.
        num_bands: the number of bands above the low frequencies, 2 or more. Each band needs its peak at a different
            frequency. For example, 32 low frequencies and 32 bands fit into 129 frequencies at 8 kHz.
        kernel_size: the number of frames that the convolution sees: the current frame and earlier frames.
        hidden_size: the number of hidden channels of each GRU.
        num_layers: the number of GRUs, one after another.
        groups: the number of groups of each GRU, which must divide `hidden_size`.
        sr: the sample rate in hertz, for the ERB scale.

    Raises:
        ValueError: an argument is out of range, or two arguments don't fit together.

    Example:
        >>> spectrum = torch.randn(2, 2, 257, 63, generator=torch.Generator().manual_seed(0))
        >>> CRN()(spectrum).shape
        torch.Size([2, 2, 257, 63])
    """

    domain = "spectrum"
    layout = "channels_first"
    carries_state = True

    def __init__(
        self,
        num_freqs: Positive = 257,
        num_low: Natural = 64,
        num_bands: Annotated[int, Range(least=2)] = 64,
        kernel_size: Positive = 1,
        hidden_size: Positive = 256,
        num_layers: Positive = 2,
        groups: Positive = 2,
        sr: Positive = 16000,
    ) -> None:
        super().__init__()
        if wrong := out_of_range(CRN, locals()):
            raise ValueError(wrong)
        if hidden_size % groups:
            raise ValueError(f"`hidden_size` is {hidden_size}, but must be a multiple of `groups`, which is {groups}")
        self.num_freqs = num_freqs
        self.acoustics = {"sr": sr, "n_fft": 2 * (num_freqs - 1)}
        self.bands = ErbBands(num_low, num_bands, n_fft=2 * (num_freqs - 1), sr=sr)
        self.norm = nn.BatchNorm1d(num_low + num_bands)
        self.conv = nn.Conv1d(num_low + num_bands, hidden_size, kernel_size)
        self.grus = nn.ModuleList(_GroupedGRU(hidden_size, groups) for _ in range(num_layers))
        self.mask = nn.Linear(hidden_size, num_low + num_bands)

    def forward(self, noisy: Tensor) -> Tensor:
        """Enhances spectra.

        Args:
            noisy: noisy spectra [batch, 2, num_freqs, frames], real and imaginary part.

        Returns:
            Enhanced spectra of the same shape.

        Raises:
            ValueError: the shape is wrong.
        """
        if noisy.ndim != 4 or noisy.shape[1:3] != (2, self.num_freqs):
            raise ValueError(
                f"CRN needs spectra [batch, 2, {self.num_freqs}, frames], but got {list(noisy.shape)}; "
                "set `num_freqs` to n_fft // 2 + 1"
            )
        real, imag = noisy.transpose(2, 3).unbind(1)
        magnitude = (real.square() + imag.square() + 1e-8).sqrt()
        x = self.norm((self.bands.join(magnitude) ** 0.3).transpose(1, 2))
        x = F.elu(self.conv(self._after_past(x))).transpose(1, 2)
        for gru in self.grus:
            x = x + gru(x)
        mask = self.bands.spread(self.mask(x).sigmoid())
        return noisy * mask.transpose(1, 2).unsqueeze(1)

    def _after_past(self, x: Tensor) -> Tensor:
        """Puts zeros, or the end of the previous piece (see `Past`), in front of x [batch, channels, frames]."""
        frames = self.conv.kernel_size[0] - 1
        if not frames:
            return x
        past = recall()
        x = F.pad(x, (frames, 0)) if past is None else torch.cat([past, x], dim=-1)
        keep(x[..., -frames:])
        return x


class _GroupedGRU(nn.Module):
    """GRUs that each process a part of the channels. Their outputs are interleaved for the next layer."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        size = channels // groups
        self.groups = nn.ModuleList(nn.GRU(size, size, batch_first=True) for _ in range(groups))

    def forward(self, x: Tensor) -> Tensor:
        parts = x.chunk(len(self.groups), dim=-1)
        outputs = []
        for gru, part in zip(self.groups, parts, strict=True):
            output, state = gru(part, recall())
            keep(state)
            outputs.append(output)
        return torch.stack(outputs, dim=-1).flatten(-2)
