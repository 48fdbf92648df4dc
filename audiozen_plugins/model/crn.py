"""A small convolutional recurrent network for speech enhancement."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from audiozen_core.binding.ranges import Positive, out_of_range
from audiozen_plugins.model.causal_conv import pad_past
from audiozen_plugins.model.masks import apply_complex_mask


class CRN(nn.Module):
    """A small convolutional recurrent network that estimates a complex mask for the spectrum of noisy speech.

    Its form is that of Tan and Wang, "A Convolutional Recurrent Neural Network for Real-Time Speech Enhancement", 2018:
    convolutions reduce the number of frequencies, a GRU runs over the frames, and transposed convolutions with skip
    connections reverse the first ones. Three things differ. The network is given the complex spectrum, with compressed
    magnitudes; its output is a complex mask, as in Williamson et al., "Complex Ratio Masking for Monaural Speech
    Separation", 2016; and it is much smaller, so that a CPU can train it in minutes.

    The network is causal: frame `t` of the output depends on no later frame of the input. Its algorithmic latency is
    one STFT window: 32 ms for 512 samples at 16 kHz. The model declares its domain, and works with any `[acoustics]`
    that has the right number of frequencies.

    Args:
        num_freqs: the number of frequencies, `n_fft // 2 + 1`. The first layer divides `num_freqs - 1` by four, each
            other layer by two, without remainder.
        channels: the number of channels after each layer of the encoder.
        hidden_size: the number of hidden channels of the GRU.

    Raises:
        ValueError: an argument is out of range, or `num_freqs` can't be divided as often.

    Example:
        >>> spectrum = torch.randn(2, 2, 257, 63, generator=torch.Generator().manual_seed(0))
        >>> CRN()(spectrum).shape
        torch.Size([2, 2, 257, 63])
    """

    domain = "spectrum"
    layout = "channels_first"
    acoustics: ClassVar = {"sr": 16000, "n_fft": 512}

    def __init__(
        self,
        num_freqs: Positive = 257,
        channels: Sequence[Positive] = (24, 32, 32),
        hidden_size: Positive = 256,
    ) -> None:
        super().__init__()
        if wrong := out_of_range(CRN, locals()):
            raise ValueError(wrong)
        parts = 2 ** (len(channels) + 1)
        if (num_freqs - 1) % parts or num_freqs == 1:
            raise ValueError(
                f"`num_freqs` is {num_freqs}, but {parts} must divide `num_freqs - 1` for {len(channels)} `channels`"
            )
        self.num_freqs = num_freqs
        features = channels[-1] * ((num_freqs - 1) // parts + 1)
        sizes = list(itertools.pairwise([3, *channels]))
        self.encoder = nn.ModuleList(
            _Layer(nn.Conv2d(one, two, (2, 2 * half + 1), (1, 2 * half), (0, half)))
            for (one, two), half in zip(sizes, (2, *[1] * len(channels)), strict=False)
        )
        self.gru = nn.GRU(features, hidden_size, batch_first=True)
        self.linear = nn.Linear(hidden_size, features)
        self.decoder = nn.ModuleList(
            _Layer(nn.ConvTranspose2d(two, one, (1, 3), (1, 2), (0, 1))) for one, two in reversed(sizes[1:])
        )
        self.mask = nn.ConvTranspose2d(channels[0], 2, (1, 5), (1, 4), (0, 2))

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
        spectrum = noisy.transpose(2, 3)
        power = spectrum.square().sum(1, keepdim=True) + 1e-8
        # The magnitudes to the power 0.3, and the spectrum with these magnitudes.
        x = torch.cat([power**0.15, spectrum * power**-0.35], dim=1)
        skipped = []
        for layer in self.encoder:
            x = layer(pad_past(x, 1))
            skipped.append(x)
        hidden = self.linear(self.gru(x.transpose(1, 2).flatten(2))[0])
        x = hidden.reshape(*hidden.shape[:2], x.shape[1], x.shape[3]).transpose(1, 2)
        for layer in self.decoder:
            x = layer(x + skipped.pop())
        mask = self.mask(x + skipped.pop()).tanh()
        return apply_complex_mask(mask.transpose(2, 3).movedim(1, -1), noisy.movedim(1, -1)).movedim(-1, 1)


class _Layer(nn.Module):
    """A convolution with a norm over the batch and an activation."""

    def __init__(self, convolution: nn.Conv2d | nn.ConvTranspose2d) -> None:
        super().__init__()
        self.conv = convolution
        self.norm = nn.BatchNorm2d(convolution.out_channels)
        self.activation = nn.LeakyReLU(0.1)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.activation(self.norm(self.conv(x)))
        return output
