"""GTCRN, a network for speech enhancement that needs very little computation."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from audiozen_plugins.kernels.band_conv import conv_over_three, double_bands
from audiozen_plugins.kernels.energies import scale_bands
from audiozen_plugins.kernels.norm_prelu import norm_prelu
from audiozen_plugins.model.causal_conv import depthwise_after_past, interleave, kernel_of
from audiozen_plugins.model.dual_path import DualPathGRU
from audiozen_plugins.model.erb import ErbBands
from audiozen_plugins.model.gates import temporal_gate
from audiozen_plugins.model.masks import apply_complex_mask

_CHANNELS = 16
_DILATIONS = (1, 2, 5)


class GTCRN(nn.Module):
    """A grouped temporal convolutional recurrent network that enhances complex spectra of noisy speech.

    This is the network of Rong et al., "GTCRN: A Speech Enhancement Model Requiring Ultralow Computational Resources",
    2024. The published weights load without renaming. High frequencies are joined into ERB bands. Convolutions over
    frequencies and past frames, with gates over time, and two dual-path GRUs estimate a complex mask.

    The network is causal: frame `t` of the output does not depend on later frames of the input. Its algorithmic latency
    is one STFT window, 32 ms; a new frame comes every 16 ms. It has 23,669 trained weights, and 24,576 fixed weights in
    the ERB filters. The publication counts both, and gives 48.2 k parameters.

    The model declares its domain and its acoustics: the complex STFT of 16 kHz audio with a `sqrt_hann` window of 512
    samples, every 256 samples. The publication gives 33 M multiplications per second of audio. `audiozen plugins show`
    counts more, because a grouped GRU is computed as a single GRU, with zeros between the groups.

    Example:
        >>> spectrum = torch.randn(2, 257, 63, 2, generator=torch.Generator().manual_seed(0))
        >>> GTCRN()(spectrum).shape
        torch.Size([2, 257, 63, 2])
    """

    domain = "spectrum"
    layout = "channels_last"
    carries_state = True
    acoustics: ClassVar = {"sr": 16000, "n_fft": 512, "win_length": 512, "hop_length": 256, "window": "sqrt_hann"}

    def __init__(self) -> None:
        super().__init__()
        self.erb = ErbBands(num_low=65, num_bands=64)
        self.encoder = _Encoder()
        self.dpgrnn1 = DualPathGRU(_CHANNELS, num_freqs=33)
        self.dpgrnn2 = DualPathGRU(_CHANNELS, num_freqs=33)
        self.decoder = _Decoder()

    def forward(self, noisy: Tensor) -> Tensor:
        """Enhances spectra.

        Args:
            noisy: noisy spectra [batch, 257, frames, 2], real and imaginary part.

        Returns:
            Enhanced spectra of the same shape.

        Raises:
            ValueError: the shape is wrong.
        """
        if noisy.ndim != 4 or noisy.shape[1] != 257 or noisy.shape[3] != 2:
            raise ValueError(f"GTCRN needs spectra [batch, 257, frames, 2], but got {list(noisy.shape)}")
        spectrum = noisy.permute(0, 3, 2, 1)
        # The small constant keeps the gradient of the square root finite.
        magnitude = (spectrum.square().sum(1, keepdim=True) + 1e-12).sqrt()
        features = self.erb.join(torch.cat([magnitude, spectrum], dim=1))
        encoded, skipped = self.encoder(features)
        decoded = self.decoder(self.dpgrnn2(self.dpgrnn1(encoded)), skipped)
        return apply_complex_mask(self.erb.spread(decoded).permute(0, 3, 2, 1), noisy)


class _Encoder(nn.Module):
    """Halves the number of bands twice, then processes each frame together with past frames."""

    def __init__(self) -> None:
        super().__init__()
        self.en_convs = nn.ModuleList(
            [
                _BandConv(3 * 3, _CHANNELS),
                _BandConv(_CHANNELS, _CHANNELS, groups=2),
                *(_TemporalConv(dilation) for dilation in _DILATIONS),
            ]
        )

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Encodes features [batch, 3, frames, 129]; returns [batch, 16, frames, 33] and the outputs of all layers."""
        # Each band also gets the features of its two neighbours.
        x = F.pad(x, (1, 1)).unfold(-1, 3, 1).movedim(-1, 2).flatten(1, 2)
        outputs = []
        for layer in self.en_convs:
            x = layer(x)
            outputs.append(x)
        return x, outputs


class _Decoder(nn.Module):
    """Mirrors the layers of the encoder. The outputs of the encoder's layers are additional inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.de_convs = nn.ModuleList(
            [
                *(_TemporalConv(dilation, transposed=True) for dilation in reversed(_DILATIONS)),
                _BandConv(_CHANNELS, _CHANNELS, groups=2, transposed=True),
                _BandConv(_CHANNELS, 2, transposed=True, is_last=True),
            ]
        )

    def forward(self, x: Tensor, skipped: list[Tensor]) -> Tensor:
        """Decodes [batch, 16, frames, 33] to a complex mask [batch, 2, frames, 129]."""
        for layer, other in zip(self.de_convs, reversed(skipped), strict=True):
            x = layer(x + other)
        return x


class _BandConv(nn.Module):
    """A convolution over the bands of one frame that halves their number, or doubles it."""

    def __init__(
        self, in_channels: int, out_channels: int, *, groups: int = 1, transposed: bool = False, is_last: bool = False
    ) -> None:
        super().__init__()
        convolution = nn.ConvTranspose2d if transposed else nn.Conv2d
        self.conv = convolution(in_channels, out_channels, (1, 5), stride=(1, 2), padding=(0, 2), groups=groups)
        self.bn = nn.BatchNorm2d(out_channels)
        self.act = nn.Tanh() if is_last else nn.PReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = double_bands(x, self.conv) if isinstance(self.conv, nn.ConvTranspose2d) else self.conv(x)
        return norm_prelu(x, self.bn, self.act)


class _TemporalConv(nn.Module):
    """Convolves half of the channels over current and past frames, and interleaves them with the other half.

    In the decoder, the weights belong to transposed convolutions with stride 1. They are computed as convolutions with
    a reversed kernel, which give the same result.
    """

    def __init__(self, dilation: int, *, transposed: bool = False) -> None:
        super().__init__()
        half, convolution = _CHANNELS // 2, nn.ConvTranspose2d if transposed else nn.Conv2d
        self.dilation = dilation
        self.point_conv1 = convolution(3 * half, _CHANNELS, 1)
        self.point_bn1 = nn.BatchNorm2d(_CHANNELS)
        self.point_act = nn.PReLU()
        self.depth_conv = convolution(_CHANNELS, _CHANNELS, 3, groups=_CHANNELS)
        self.depth_bn = nn.BatchNorm2d(_CHANNELS)
        self.depth_act = nn.PReLU()
        self.point_conv2 = convolution(_CHANNELS, half, 1)
        self.point_bn2 = nn.BatchNorm2d(half)
        self.tra = _TemporalAttention(half)

    def forward(self, x: Tensor) -> Tensor:
        """Processes x [batch, 16, frames, bands]."""
        first, second = x.chunk(2, dim=1)
        # In the published network, each band first gets copies of the features of both neighbours, and this is a
        # convolution over single bands. A convolution over three bands with the same weights gives the same result.
        over_three = kernel_of(self.point_conv1).reshape(_CHANNELS, -1, 1, 3)
        assert self.point_conv1.bias is not None
        first = conv_over_three(first, over_three, self.point_conv1.bias)
        first = norm_prelu(first, self.point_bn1, self.point_act)
        first = depthwise_after_past(first, self.depth_conv, self.dilation)
        first = norm_prelu(first, self.depth_bn, self.depth_act)
        first = self.point_bn2(F.conv2d(first, kernel_of(self.point_conv2), self.point_conv2.bias))
        return interleave(self.tra(first), second)


class _TemporalAttention(nn.Module):
    """Scales the channels of each frame with gates, which depend on their energies in this and all earlier frames."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.att_gru = nn.GRU(channels, 2 * channels, batch_first=True)
        self.att_fc = nn.Linear(2 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return scale_bands(x, temporal_gate(x, self.att_gru, self.att_fc))
