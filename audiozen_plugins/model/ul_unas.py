"""UL-UNAS, an ultra-lightweight network for speech enhancement whose architecture was found by a search."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from audiozen_plugins.kernels.depthwise import depthwise_conv
from audiozen_plugins.kernels.energies import scale_bands
from audiozen_plugins.kernels.gru import run_grus
from audiozen_plugins.model.causal_conv import interleave, kernel_of, pad_past
from audiozen_plugins.model.dual_path import DualPathGRU
from audiozen_plugins.model.erb import ErbBands
from audiozen_plugins.model.gates import temporal_gate


class ULUNAS(nn.Module):
    """An ultra-lightweight U-Net that enhances the magnitudes of noisy speech.

    This is the network of Rong et al., "UL-UNAS: Ultra-Lightweight U-Nets for Real-Time Speech Enhancement via Network
    Architecture Search", 2026. The published weights load without renaming. High frequencies are joined into ERB bands.
    An encoder of five blocks, two dual-path GRUs and a decoder of five blocks estimate a mask between 0 and 1. The
    noisy phase is kept.

    The network is causal: frame `t` of the output does not depend on later frames of the input. Its algorithmic latency
    is one STFT window, 32 ms; a new frame comes every 16 ms. It has 146,752 trained weights, and 24,576 fixed weights
    in the ERB filters.

    The model declares its domain and its acoustics: the magnitudes of the STFT of 16 kHz audio with a Hann window of
    512 samples, every 256 samples.

    Example:
        >>> magnitude = torch.rand(2, 257, 63, generator=torch.Generator().manual_seed(0))
        >>> ULUNAS()(magnitude).shape
        torch.Size([2, 257, 63])
    """

    domain = "magnitude"
    acoustics: ClassVar = {"sr": 16000, "n_fft": 512, "win_length": 512, "hop_length": 256, "window": "hann"}

    def __init__(self) -> None:
        super().__init__()
        self.erb = ErbBands(num_low=65, num_bands=64)
        self.encoder = _Encoder()
        last = _SPECS[-1]
        self.dpgrnn = nn.Sequential(*(DualPathGRU(last.channels, last.width) for _ in range(2)))
        self.decoder = _Decoder()

    def forward(self, noisy: Tensor) -> Tensor:
        """Enhances magnitudes.

        Args:
            noisy: noisy magnitudes [batch, 257, frames].

        Returns:
            Enhanced magnitudes of the same shape.

        Raises:
            ValueError: the shape is wrong.
        """
        if noisy.ndim != 3 or noisy.shape[1] != 257:
            raise ValueError(f"ULUNAS needs magnitudes [batch, 257, frames], but got {list(noisy.shape)}")
        features = noisy.clamp_min(1e-12).log10().transpose(1, 2).unsqueeze(1)
        encoded, skipped = self.encoder(self.erb.join(features))
        mask = self.decoder(self.dpgrnn(encoded), skipped).sigmoid()
        return noisy * self.erb.spread(mask).squeeze(1).transpose(1, 2)


class _Spec(NamedTuple):
    """The sizes of one block of the encoder. The decoder has a mirrored block with the same sizes.

    Attributes:
        kind: the class of the block.
        channels: the number of output channels of the encoder's block.
        width: the number of bands after the encoder's block.
        kernel: the size of the convolution's kernel, in frames and in bands.
        stride: the stride of the convolution over the bands.
        groups: the number of groups of the pointwise convolutions.
    """

    kind: str
    channels: int
    width: int
    kernel: tuple[int, int]
    stride: int
    groups: int


_SPECS = (
    _Spec("plain", 12, 65, (3, 3), 2, 1),
    _Spec("inverted", 24, 33, (2, 3), 2, 2),
    _Spec("separable", 24, 33, (2, 3), 1, 2),
    _Spec("inverted", 32, 33, (1, 5), 1, 2),
    _Spec("separable", 16, 33, (1, 5), 1, 2),
)


class _Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        inputs = [1, *(spec.channels for spec in _SPECS)]
        self.en_convs = nn.ModuleList(
            _BLOCKS[spec.kind](_Shape(count, spec.channels, spec.width, spec))
            for count, spec in zip(inputs, _SPECS, strict=False)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Encodes features [batch, 1, frames, 129]; returns [batch, 16, frames, 33] and the outputs of all blocks."""
        outputs = []
        for block in self.en_convs:
            x = block(x)
            outputs.append(x)
        return x, outputs


class _Decoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        outputs = [(1, 129), *((spec.channels, spec.width) for spec in _SPECS)]
        self.de_convs = nn.ModuleList(
            _BLOCKS[spec.kind](_Shape(spec.channels, *output, spec, transposed=True, is_last=output[0] == 1))
            for output, spec in reversed(list(zip(outputs, _SPECS, strict=False)))
        )

    def forward(self, x: Tensor, skipped: list[Tensor]) -> Tensor:
        """Decodes [batch, 16, frames, 33] to [batch, 1, frames, 129]."""
        for block, other in zip(self.de_convs, reversed(skipped), strict=True):
            x = block(x + other)
        return x


class _Shape(NamedTuple):
    """The sizes of a block of the encoder or the decoder. Its methods make the layers of the block."""

    inputs: int
    outputs: int
    width: int
    spec: _Spec
    transposed: bool = False
    is_last: bool = False

    @property
    def input_width(self) -> int:
        """The number of bands before the convolution with a stride."""
        if self.spec.stride == 1:
            return self.width
        return self.width // 2 + 1 if self.transposed else 2 * self.width - 1

    def over_time(self, inputs: int, groups: int) -> tuple[nn.Module, nn.Module]:
        """Makes the padding and the convolution over frames and bands."""
        frames, bands = self.spec.kernel
        convolution = _TransposedConv if self.transposed else _Conv
        stride, padding = (1, self.spec.stride), (0, bands // 2)
        return _PadPast(frames - 1), convolution(
            inputs, self.outputs, self.spec.kernel, stride=stride, padding=padding, groups=groups
        )

    def over_channels(self, inputs: int) -> nn.Module:
        """Makes a pointwise convolution, which mixes the channels of each band."""
        return nn.Conv2d(inputs, self.outputs, 1, groups=self.spec.groups)

    def first_layers(self) -> nn.Sequential:
        """Makes the pointwise layers at the start of a block."""
        norm, activation = nn.BatchNorm2d(self.outputs), _AffinePReLU(self.outputs, self.input_width)
        return nn.Sequential(self.over_channels(self.inputs), norm, activation, self.shuffle())

    def in_each_channel(self) -> tuple[nn.Module, ...]:
        """Makes the depthwise layers, which convolve each channel over frames and bands."""
        convolution = self.over_time(self.outputs, self.outputs)
        return *convolution, nn.BatchNorm2d(self.outputs), _AffinePReLU(self.outputs, self.width)

    def shuffle(self) -> nn.Module:
        """Makes the layer that interleaves the channels of the groups, so that each next group gets channels of all."""
        return _Shuffle() if self.spec.groups == 2 else nn.Identity()


class _PlainBlock(nn.Module):
    """A convolution over frames and bands."""

    def __init__(self, shape: _Shape) -> None:
        super().__init__()
        self.ops = nn.Sequential(
            *shape.over_time(shape.inputs, shape.spec.groups),
            nn.BatchNorm2d(shape.outputs),
            nn.Identity() if shape.is_last else _AffinePReLU(shape.outputs, shape.width),
            _Attention(shape.outputs, shape.width),
        )

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.ops(x)
        return output


class _SeparableBlock(nn.Module):
    """A pointwise convolution, followed by a depthwise convolution over frames and bands."""

    def __init__(self, shape: _Shape) -> None:
        super().__init__()
        self.pconv = shape.first_layers()
        self.dconv = nn.Sequential(*shape.in_each_channel(), _Attention(shape.outputs, shape.width))

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.dconv(self.pconv(x))
        return output


class _InvertedBlock(nn.Module):
    """A separable block with another pointwise convolution, and a residual connection if the shapes allow it."""

    def __init__(self, shape: _Shape) -> None:
        super().__init__()
        self.pconv1 = shape.first_layers()
        self.dconv = nn.Sequential(*shape.in_each_channel())
        self.pconv2 = nn.Sequential(
            shape.over_channels(shape.outputs),
            nn.BatchNorm2d(shape.outputs),
            _Attention(shape.outputs, shape.width),
        )
        self.shuffle = shape.shuffle()

    def forward(self, x: Tensor) -> Tensor:
        inner = self.pconv2(self.dconv(self.pconv1(x)))
        output: Tensor = self.shuffle(inner + x if inner.shape == x.shape else inner)
        return output


_BLOCKS = {"plain": _PlainBlock, "separable": _SeparableBlock, "inverted": _InvertedBlock}


class _PadPast(nn.Module):
    """Puts frames of zeros before the first frame."""

    def __init__(self, frames: int) -> None:
        super().__init__()
        self.frames = frames

    def forward(self, x: Tensor) -> Tensor:
        return pad_past(x, self.frames)


class _Conv(nn.Conv2d):
    """A convolution over frames. Its input begins with the past frames that it needs."""

    def forward(self, x: Tensor) -> Tensor:
        if self.groups == self.in_channels == self.out_channels and self.stride[1] == 1 and self.bias is not None:
            return depthwise_conv(x, self.weight, self.bias)
        return super().forward(x)


class _TransposedConv(nn.ConvTranspose2d):
    """A transposed convolution over frames. Its input begins with past frames, which its output does not contain."""

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        past, bands = self.kernel_size[0] - 1, self.kernel_size[1] // 2
        if self.stride[1] == 1:
            if self.groups == self.in_channels == self.out_channels and self.bias is not None:
                return depthwise_conv(x, kernel_of(self), self.bias)
            return F.conv2d(x, kernel_of(self), self.bias, padding=(0, bands), groups=self.groups)
        return F.conv_transpose2d(
            x, self.weight, self.bias, stride=self.stride, padding=(past, bands), groups=self.groups
        )


class _Shuffle(nn.Module):
    """Interleaves the two halves of the channels."""

    def forward(self, x: Tensor) -> Tensor:
        return interleave(*x.chunk(2, dim=1))


class _AffinePReLU(nn.Module):
    """A PReLU for each channel, plus a linear function for each channel and band."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.affine_weight = nn.Parameter(torch.ones(channels, width))
        self.affine_bias = nn.Parameter(torch.zeros(channels, width))
        self.slope_weight = nn.Parameter(torch.full((channels,), 0.25))

    def forward(self, x: Tensor) -> Tensor:
        return torch.addcmul(
            F.prelu(x, self.slope_weight) + self.affine_bias.unsqueeze(1), self.affine_weight.unsqueeze(1), x
        )


class _Attention(nn.Module):
    """Scales the channels and the bands of each frame with gates.

    The gates of the channels depend on their energies in this and all earlier frames, and the gates of the bands depend
    on their energies in this frame.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.ta_gru = nn.GRU(channels, 2 * channels, batch_first=True)
        self.ta_fc = nn.Linear(2 * channels, channels)
        self.fa = _BandGate(width)

    def forward(self, x: Tensor) -> Tensor:
        weights: Tensor = self.fa(x)
        return scale_bands(x, temporal_gate(x, self.ta_gru, self.ta_fc)) * weights


class _BandGate(nn.Module):
    """Estimates gates for the bands of each frame [batch, 1, frames, bands] from their energies, in groups of bands."""

    def __init__(self, width: int, size: int = 4) -> None:
        super().__init__()
        self.size = size
        self.missing = -width % size
        self.gru = nn.GRU(size, size, bidirectional=True)
        self.fc = nn.Linear(2 * size, size)

    def forward(self, x: Tensor) -> Tensor:
        batch, _, frames, width = x.shape
        energies = F.pad(x.square().mean(1), (0, self.missing))
        pieces = energies.reshape(batch * frames, -1, self.size)
        weights: Tensor = self.fc(run_grus([self.gru], pieces, axis=1)[0]).sigmoid()
        return weights.reshape(batch, 1, frames, -1)[..., :width]
