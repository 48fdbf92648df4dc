"""TF-GridNet separates speakers with LSTMs over frequencies and frames, and with attention over frames."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from audiozen_core.binding.ranges import Positive, check_ranges


class TFGridNet(nn.Module):
    """Separates speakers by complex spectral mapping: it estimates the real and imaginary parts of their spectra.

    Wang et al., "TF-GridNet: Integrating Full- and Sub-Band Modeling for Speech Separation", TASLP 2023. With the
    defaults and an STFT of 129 frequencies, the network has the configuration of the paper for WSJ0-2mix and 14.5
    million parameters: D = 64, B = 6, I = 4, J = 1, H = 256, L = 4, E = 4. The paper uses frames of 32 ms every 8 ms at
    8 kHz (`n_fft = 256`, `hop_length = 64`) and the square root of a Hann window.

    Each block has a bidirectional LSTM over the frequencies of each frame, a bidirectional LSTM over the frames of each
    frequency, and attention over the frames. So the network is not causal, and separates whole files. The memory of the
    attention grows with the square of the number of frames. The input is scaled to a mean square of 1, and the output
    is scaled back.

    The model declares its `n_fft`, so `[acoustics]` must have this `n_fft`.

    Args:
        num_speakers: the number of speakers.
        num_freqs: the number of frequencies, `n_fft // 2 + 1` with an even `n_fft`.
        features: the number of channels of the blocks (D in the paper), a multiple of `num_heads`.
        num_blocks: the number of blocks (B).
        kernel_size: the number of neighbouring frequencies or frames that form one input of an LSTM (I).
        stride: the step between successive inputs (J), at most `kernel_size`.
        hidden: the number of units in each direction of an LSTM (H).
        num_heads: the number of attention heads (L).
        head_features: the number of channels of the queries and keys of a head, at each frequency (E).

    Raises:
        RunError: an argument is out of range.
        ValueError: `features` is not a multiple of `num_heads`, or `stride` is above `kernel_size`.

    Example:
        >>> net = TFGridNet(3, num_freqs=9, features=8, num_blocks=1, hidden=4, num_heads=2, head_features=2)
        >>> net(torch.randn(2, 2, 9, 20)).shape
        torch.Size([2, 3, 2, 9, 20])
    """

    domain = "spectrum"
    layout = "channels_first"

    def __init__(
        self,
        num_speakers: Positive = 2,
        *,
        num_freqs: Positive = 129,
        features: Positive = 64,
        num_blocks: Positive = 6,
        kernel_size: Positive = 4,
        stride: Positive = 1,
        hidden: Positive = 256,
        num_heads: Positive = 4,
        head_features: Positive = 4,
    ) -> None:
        super().__init__()
        check_ranges(TFGridNet, locals())
        if features % num_heads or stride > kernel_size:
            raise ValueError(
                f"`features` is {features} and must be a multiple of `num_heads`, {num_heads}; `stride` is {stride} "
                f"and must be at most `kernel_size`, {kernel_size}"
            )
        self.num_speakers = num_speakers
        self.acoustics = {"n_fft": 2 * (num_freqs - 1)}
        self.inlet = nn.Sequential(nn.Conv2d(2, features, 3, padding=1), nn.GroupNorm(1, features, eps=1e-5))
        self.blocks = nn.Sequential(
            *(
                GridNetBlock(features, num_freqs, kernel_size, stride, hidden, num_heads, head_features)
                for _ in range(num_blocks)
            )
        )
        self.outlet = nn.ConvTranspose2d(features, 2 * num_speakers, 3, padding=1)

    def forward(self, spectrum: Tensor) -> Tensor:
        """Separates the spectra of mixtures.

        Args:
            spectrum: real and imaginary part [batch, 2, num_freqs, frames].

        Returns:
            The spectra of the speakers [batch, num_speakers, 2, num_freqs, frames].
        """
        # The lower limit avoids a division by 0, so the output for silence is silence.
        level = spectrum.square().mean((1, 2, 3), keepdim=True).sqrt().clamp_min(1e-8)
        hidden = self.blocks(self.inlet((spectrum / level).transpose(2, 3)))
        speakers = self.outlet(hidden).transpose(2, 3) * level
        separated: Tensor = speakers.unflatten(1, (self.num_speakers, 2))
        return separated


class GridNetBlock(nn.Module):
    """A block of TF-GridNet: an LSTM over frequencies, an LSTM over frames, and attention over frames.

    Each of them has a residual connection.

    Args:
        features: the number of channels.
        num_freqs: the number of frequencies.
        kernel_size: the number of neighbouring frequencies or frames that form one input of an LSTM.
        stride: the step between successive inputs.
        hidden: the number of units in each direction of an LSTM.
        num_heads: the number of attention heads.
        head_features: the number of channels of the queries and keys of a head, at each frequency.
    """

    def __init__(
        self,
        features: int,
        num_freqs: int,
        kernel_size: int,
        stride: int,
        hidden: int,
        num_heads: int,
        head_features: int,
    ) -> None:
        super().__init__()
        self.over_freqs = _UnfoldedLstm(features, kernel_size, stride, hidden)
        self.over_frames = _UnfoldedLstm(features, kernel_size, stride, hidden)
        self.attention = FullBandAttention(features, num_freqs, num_heads, head_features)

    def forward(self, x: Tensor) -> Tensor:
        """Maps [batch, features, frames, frequencies] to the same shape."""
        x = self.over_freqs(x)
        x = self.over_frames(x.transpose(2, 3)).transpose(2, 3)
        attended: Tensor = self.attention(x)
        return attended


class _UnfoldedLstm(nn.Module):
    """An LSTM along the last axis. Several neighbours together form one input."""

    def __init__(self, features: int, kernel_size: int, stride: int, hidden: int) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = stride
        self.norm = nn.LayerNorm(features, eps=1e-5)
        self.lstm = nn.LSTM(features * kernel_size, hidden, batch_first=True, bidirectional=True)
        self.fold = nn.ConvTranspose1d(2 * hidden, features, kernel_size, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        """Maps [batch, features, others, length] to the same shape."""
        batch, features, others, length = x.shape
        steps = max(0, math.ceil((length - self.kernel_size) / self.stride))
        padded = steps * self.stride + self.kernel_size
        rows = self.norm(x.permute(0, 2, 3, 1)).reshape(batch * others, length, features)
        rows = F.pad(rows, (0, 0, 0, padded - length)).unfold(1, self.kernel_size, self.stride).flatten(2)
        folded = self.fold(self.lstm(rows)[0].transpose(1, 2))[..., :length]
        result: Tensor = x + folded.reshape(batch, others, features, length).transpose(1, 2)
        return result


class FullBandAttention(nn.Module):
    """Attention over the frames. Queries, keys and values contain all frequencies of a frame.

    Args:
        features: the number of channels, a multiple of `num_heads`.
        num_freqs: the number of frequencies.
        num_heads: the number of attention heads.
        head_features: the number of channels of the queries and keys of a head, at each frequency.
    """

    def __init__(self, features: int, num_freqs: int, num_heads: int, head_features: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.queries = _HeadNorm(features, head_features, num_freqs, num_heads)
        self.keys = _HeadNorm(features, head_features, num_freqs, num_heads)
        self.values = _HeadNorm(features, features // num_heads, num_freqs, num_heads)
        self.joined = _HeadNorm(features, features, num_freqs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Maps [batch, features, frames, frequencies] to the same shape."""
        # [batch, heads, frames, channels × frequencies]
        queries, keys, values = (part(x).flatten(3) for part in (self.queries, self.keys, self.values))
        attended = F.scaled_dot_product_attention(queries, keys, values)
        batch, _, frames, _ = attended.shape
        heads = attended.reshape(batch, self.num_heads, frames, -1, x.shape[-1]).transpose(2, 3).flatten(1, 2)
        result: Tensor = x + self.joined(heads).squeeze(1).transpose(1, 2)
        return result


class _HeadNorm(nn.Module):
    """For each head: a pointwise convolution, PReLU, and a norm of each frame over channels and frequencies."""

    def __init__(self, features: int, head_features: int, num_freqs: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.conv = nn.Conv2d(features, num_heads * head_features, 1)
        self.slope = nn.Parameter(torch.full((num_heads, 1, 1, 1), 0.25))
        self.scale = nn.Parameter(torch.ones(num_heads, 1, head_features, num_freqs))
        self.shift = nn.Parameter(torch.zeros(num_heads, 1, head_features, num_freqs))

    def forward(self, x: Tensor) -> Tensor:
        """Maps [batch, features, frames, frequencies] to [batch, heads, frames, head_features, frequencies]."""
        heads = self.conv(x).unflatten(1, (self.num_heads, -1)).transpose(2, 3)
        heads = torch.where(heads > 0, heads, self.slope * heads)
        normal = F.layer_norm(heads, heads.shape[-2:], eps=1e-5)
        return normal * self.scale + self.shift
