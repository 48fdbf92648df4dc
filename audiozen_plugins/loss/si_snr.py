"""The scale-invariant signal-to-noise ratio, as a measure and as losses."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def si_snr(estimate: Tensor, target: Tensor, *, zero_mean: bool = True, eps: float = 1e-8) -> Tensor:
    """The scale-invariant signal-to-noise ratio of each clip, in dB; also called SI-SDR.

    The part of the estimate that is a scaled target counts as signal, the rest as noise. Le Roux et al., "SDR -
    half-baked or well done?", ICASSP 2019. Finite, and of finite gradient, for silence too: against a silent target it
    is far below zero dB, and the lower the louder the estimate is.

    Args:
        estimate: waveforms [batch, time]; half precision is raised to float32.
        target: waveforms [batch, time].
        zero_mean: whether the mean of each waveform is taken off first. Without, a constant offset counts as noise.
        eps: an energy, added to both sides of the ratio; it bounds the ratio and keeps it finite.

    Returns:
        The ratios [batch].

    Raises:
        ValueError: for waveforms of different shapes, or of no samples.

    Example:
        >>> target = torch.tensor([[1.0, -1.0, 1.0, -1.0]])
        >>> noise = torch.tensor([[0.1, 0.1, -0.1, -0.1]])
        >>> si_snr(3 * (target + noise), target).round(decimals=2)
        tensor([20.])
    """
    if estimate.shape != target.shape or estimate.ndim != 2 or estimate.shape[1] == 0:
        raise ValueError(
            "SI-SNR needs two waveforms [batch, time] of one shape, of at least one sample: "
            f"estimate {list(estimate.shape)}, target {list(target.shape)}"
        )
    dtype = torch.promote_types(torch.promote_types(estimate.dtype, target.dtype), torch.float32)
    estimate, target = estimate.to(dtype), target.to(dtype)
    if zero_mean:
        estimate = estimate - estimate.mean(dim=1, keepdim=True)
        target = target - target.mean(dim=1, keepdim=True)
    scale = (estimate * target).sum(dim=1, keepdim=True) / (target.square().sum(dim=1, keepdim=True) + eps)
    signal = scale * target
    noise = estimate - signal
    return 10 * torch.log10((signal.square().sum(dim=1) + eps) / (noise.square().sum(dim=1) + eps))


class SiSnrLoss(nn.Module):
    """The negative mean SI-SNR of a batch, in dB.

    Args:
        zero_mean: whether the mean of each waveform is taken off first.
        eps: an energy that keeps the ratio finite, see `si_snr`.
    """

    domain = "waveform"

    def __init__(self, zero_mean: bool = True, eps: float = 1e-8) -> None:
        super().__init__()
        self.zero_mean = zero_mean
        self.eps = eps

    def forward(self, estimate: Tensor, target: Tensor) -> Tensor:
        """Waveforms [batch, time] twice to the loss, a scalar.

        Raises:
            ValueError: for waveforms of different shapes, or of no samples.
        """
        return -si_snr(estimate, target, zero_mean=self.zero_mean, eps=self.eps).mean()


class SiSnrMagnitudeLoss(nn.Module):
    """SI-SNR of the waveforms, and the squared error of the magnitudes: `(100 - mean SI-SNR) + lam * error`.

    The loss of the Intel N-DNS challenge's baseline (Timcheck et al., 2023). The second term fixes the level of the
    estimate, which SI-SNR leaves open.

    Args:
        lam: the weight of the mean squared error of the magnitudes.
        zero_mean: whether the mean of each waveform is taken off first.
        eps: an energy that keeps the ratio finite, see `si_snr`.
    """

    domain = "both"

    def __init__(self, lam: float = 0.001, zero_mean: bool = True, eps: float = 1e-8) -> None:
        super().__init__()
        self.lam = lam
        self.zero_mean = zero_mean
        self.eps = eps

    def forward(
        self, estimate_wave: Tensor, target_wave: Tensor, estimate_magnitude: Tensor, target_magnitude: Tensor
    ) -> Tensor:
        """The loss, a scalar.

        Args:
            estimate_wave: waveforms [batch, time].
            target_wave: waveforms [batch, time].
            estimate_magnitude: magnitudes [batch, frequencies, frames].
            target_magnitude: magnitudes [batch, frequencies, frames].

        Raises:
            ValueError: for two waveforms, or two magnitudes, of different shapes.
        """
        if estimate_magnitude.shape != target_magnitude.shape:
            raise ValueError(
                "the magnitudes must be of one shape: "
                f"estimate {list(estimate_magnitude.shape)}, target {list(target_magnitude.shape)}"
            )
        ratio = si_snr(estimate_wave, target_wave, zero_mean=self.zero_mean, eps=self.eps).mean()
        return 100 - ratio + self.lam * nn.functional.mse_loss(estimate_magnitude, target_magnitude)
