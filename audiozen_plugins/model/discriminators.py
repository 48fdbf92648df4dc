"""Discriminators: networks that judge waveforms, for the trainer `adversarial`."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from audiozen_core.audio.acoustics import Acoustics
from audiozen_core.audio.stft import Stft, stfts
from audiozen_core.binding.ranges import Positive, check_ranges


class MetricDiscriminator(nn.Module):
    """Predicts a metric of an estimate, given the clean speech, as in MetricGAN+.

    Fu et al., "MetricGAN+: An Improved Version of MetricGAN for Speech Enhancement", Interspeech 2021. The network has
    four convolutions with kernels of 5 x 5 over the magnitudes of both signals, a mean over time and frequency, and
    three dense layers. All layers have spectral normalisation. The magnitudes are `log(1 + |X|)`. The network has no
    batch normalisation, so the judgement of a clip does not depend on the other clips of the batch.

    Args:
        fft_size: the length of the FFT and of its window, in samples. A clip must be longer than half of this length.
            It may differ from the `n_fft` of `[acoustics]`.
        hop_size: the number of samples between successive frames.
        channels: the number of channels of each convolution.

    Example:
        >>> network = MetricDiscriminator()
        >>> sum(weight.numel() for weight in network.parameters())
        19006
        >>> network(torch.zeros(2, 4000), torch.zeros(2, 4000)).shape
        torch.Size([2])
    """

    def __init__(self, fft_size: Positive = 512, hop_size: Positive = 256, channels: Positive = 15) -> None:
        check_ranges(MetricDiscriminator, locals())
        super().__init__()
        self.stft = Stft(Acoustics(n_fft=fft_size, win_length=fft_size, hop_length=hop_size))
        widths = [2, *[channels] * 4]
        self.convolutions = nn.ModuleList(
            spectral_norm(nn.Conv2d(inputs, outputs, 5)) for inputs, outputs in itertools.pairwise(widths)
        )
        self.dense = nn.ModuleList(
            spectral_norm(nn.Linear(inputs, outputs)) for inputs, outputs in ((channels, 50), (50, 10), (10, 1))
        )

    def forward(self, estimate: Tensor, clean: Tensor) -> Tensor:
        """Predicts the metric.

        Args:
            estimate: waveforms [batch, time].
            clean: waveforms [batch, time].

        Returns:
            The scores [batch], from about 0 (the worst value of the metric) to about 1 (the best value).
        """
        hidden = torch.stack([self.stft.transform(wave).abs().log1p() for wave in (estimate, clean)], dim=1)
        for convolution in self.convolutions:
            hidden = F.leaky_relu(convolution(F.pad(hidden, (2, 2, 2, 2))), 0.3)
        hidden = hidden.mean(dim=(2, 3))
        *first, last = self.dense
        for layer in first:
            hidden = F.leaky_relu(layer(hidden), 0.3)
        scores: Tensor = last(hidden)
        return scores.squeeze(1)


class MultiResolutionDiscriminator(nn.Module):
    """Judges the magnitudes of several STFTs of a waveform. Each STFT has its own network.

    This is the multi-resolution spectrogram discriminator of Jang et al., "UnivNet: A Neural Vocoder with
    Multi-Resolution Spectrogram Discriminators for High-Fidelity Waveform Generation", Interspeech 2021. The defaults
    are the resolutions of the paper. Each network has six convolutions with weight normalisation. Three of them halve
    the number of frames.

    Args:
        fft_sizes: the FFT size of each resolution, in samples. A clip must be longer than half of the largest size.
        hop_lengths: the number of samples between successive frames, for each resolution.
        win_lengths: the length of the Hann window in samples, for each resolution.
        channels: the number of channels of each convolution.

    Raises:
        ValueError: the arrays differ in length, or are empty.

    Example:
        >>> network = MultiResolutionDiscriminator((256, 128), (64, 32), (256, 128), channels=4)
        >>> [len(judgement) for judgement in network(torch.zeros(2, 4000))]
        [6, 6]
    """

    def __init__(
        self,
        fft_sizes: Sequence[int] = (1024, 2048, 512),
        hop_lengths: Sequence[int] = (120, 240, 50),
        win_lengths: Sequence[int] = (600, 1200, 240),
        channels: Positive = 32,
    ) -> None:
        check_ranges(MultiResolutionDiscriminator, locals())
        super().__init__()
        self.stfts = stfts(fft_sizes, hop_lengths, win_lengths)
        self.networks = nn.ModuleList(_convolutions(channels) for _ in fft_sizes)

    def forward(self, wave: Tensor) -> list[list[Tensor]]:
        """Judges waveforms [batch, time].

        Returns:
            For each resolution, five features [batch, channels, n_fft // 2 + 1, frames of the layer], and the scores
            [batch, 1, n_fft // 2 + 1, frames of the last layer].
        """
        judgements = []
        for stft, network in zip(self.stfts, self.networks, strict=True):
            assert isinstance(network, nn.ModuleList)
            hidden = stft.transform(wave).abs().unsqueeze(1)
            *layers, last = network
            features = []
            for layer in layers:
                hidden = F.leaky_relu(layer(hidden), 0.2)
                features.append(hidden)
            judgements.append([*features, last(hidden)])
        return judgements


def _convolutions(channels: int) -> nn.ModuleList:
    """Returns the layers for one resolution. Kernels and strides are [frequency, time]."""
    shapes: list[tuple[int, int, tuple[int, int], tuple[int, int]]] = [
        (1, channels, (3, 9), (1, 1)),
        *[(channels, channels, (3, 9), (1, 2))] * 3,
        (channels, channels, (3, 3), (1, 1)),
        (channels, 1, (3, 3), (1, 1)),
    ]
    return nn.ModuleList(
        weight_norm(nn.Conv2d(inputs, outputs, kernel, stride, padding=(kernel[0] // 2, kernel[1] // 2)))
        for inputs, outputs, kernel, stride in shapes
    )
