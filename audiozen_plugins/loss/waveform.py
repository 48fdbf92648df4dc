"""Losses that compare waveforms sample by sample: the SNR, and the mean absolute or squared error."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from audiozen_plugins.loss.precision import in_full_precision


def snr(estimate: Tensor, target: Tensor, *, eps: float = 1e-8) -> Tensor:
    """Computes the signal-to-noise ratio of each clip: `10 log10(sum target² / sum (target - estimate)²)`.

    Unlike SI-SNR, the SNR depends on the level of the estimate. The ratio and its gradient are finite even for silence.

    Args:
        estimate: waveforms [batch, time]. Half precision is converted to float32.
        target: waveforms [batch, time].
        eps: an energy that is added to the signal and to the noise, to keep the ratio finite.

    Returns:
        The ratios in dB, [batch].

    Raises:
        ValueError: the waveforms differ in shape, or have no samples.

    Example:
        >>> target = torch.tensor([[1.0, -1.0, 1.0, -1.0]])
        >>> snr(0.9 * target, target).round(decimals=2)
        tensor([20.])
    """
    estimate, target = in_full_precision(estimate, target, "[batch, time]")
    signal, noise = target.square().sum(dim=1), (target - estimate).square().sum(dim=1)
    return 10 * torch.log10((signal + eps) / (noise + eps))


class SnrLoss(nn.Module):
    """The negative mean SNR of a batch, in dB.

    Kavalerov et al., "Universal Sound Separation", WASPAA 2019. Unlike with SI-SNR, the network also learns the level.

    Args:
        eps: the energy that keeps the ratio finite; see `snr`.
    """

    domain = "waveform"

    def __init__(self, eps: float = 1e-8) -> None:
        super().__init__()
        self.eps = eps

    def forward(self, estimate: Tensor, target: Tensor) -> Tensor:
        """Computes the loss of waveforms [batch, time], a scalar.

        Raises:
            ValueError: the waveforms differ in shape, or have no samples.
        """
        return -snr(estimate, target, eps=self.eps).mean()


class L1WaveformLoss(nn.Module):
    """The mean absolute error of the samples, as in Défossez et al., "Real Time Speech Enhancement in the Waveform
    Domain", Interspeech 2020.
    """

    domain = "waveform"

    def __init__(self) -> None:
        super().__init__()

    def forward(self, estimate: Tensor, target: Tensor) -> Tensor:
        """Computes the loss of waveforms [batch, time], a scalar.

        Raises:
            ValueError: the waveforms differ in shape, or have no samples.
        """
        return nn.functional.l1_loss(*in_full_precision(estimate, target, "[batch, time]"))


class L2WaveformLoss(nn.Module):
    """The mean squared error of the samples, as in Fu et al., "End-to-End Waveform Utterance Enhancement for Direct
    Evaluation Metrics Optimization by Fully Convolutional Neural Networks", TASLP 2018.
    """

    domain = "waveform"

    def __init__(self) -> None:
        super().__init__()

    def forward(self, estimate: Tensor, target: Tensor) -> Tensor:
        """Computes the loss of waveforms [batch, time], a scalar.

        Raises:
            ValueError: the waveforms differ in shape, or have no samples.
        """
        return nn.functional.mse_loss(*in_full_precision(estimate, target, "[batch, time]"))
