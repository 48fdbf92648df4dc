"""The scale-invariant signal-to-noise ratio (SI-SNR): a function, and two losses that use it."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def si_snr(estimate: Tensor, target: Tensor, *, zero_mean: bool = True, eps: float = 1e-8) -> Tensor:
    """Computes the scale-invariant signal-to-noise ratio of each clip, also called SI-SDR.

    The projection of the estimate onto the target is the signal, and the rest of the estimate is noise. Le Roux et al.,
    "SDR - half-baked or well done?", ICASSP 2019.

    The ratio and its gradient are finite even for silence. If the target is silent, the ratio is far below 0 dB, and
    falls as the estimate gets louder.

    Args:
        estimate: waveforms [batch, time]. Half precision is converted to float32.
        target: waveforms [batch, time].
        zero_mean: whether to subtract the mean of each waveform first. If not, a constant offset counts as noise.
        eps: an energy that is added to the signal and to the noise, to keep the ratio finite.

    Returns:
        The ratios in dB, [batch].

    Raises:
        ValueError: the waveforms differ in shape, or have no samples.

    Example:
        >>> target = torch.tensor([[1.0, -1.0, 1.0, -1.0]])
        >>> noise = torch.tensor([[0.1, 0.1, -0.1, -0.1]])
        >>> si_snr(3 * (target + noise), target).round(decimals=2)
        tensor([20.])
    """
    if estimate.shape != target.shape or estimate.ndim != 2 or estimate.shape[1] == 0:
        raise ValueError(
            "SI-SNR needs two tensors of the same shape [batch, time] with at least one sample, but got "
            f"estimate {list(estimate.shape)} and target {list(target.shape)}"
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
        zero_mean: whether to subtract the mean of each waveform first.
        eps: the energy that keeps the ratio finite; see `si_snr`.
    """

    domain = "waveform"

    def __init__(self, zero_mean: bool = True, eps: float = 1e-8) -> None:
        super().__init__()
        self.zero_mean = zero_mean
        self.eps = eps

    def forward(self, estimate: Tensor, target: Tensor) -> Tensor:
        """Computes the loss.

        Args:
            estimate: waveforms [batch, time].
            target: waveforms [batch, time].

        Returns:
            The loss, a scalar.

        Raises:
            ValueError: the waveforms differ in shape, or have no samples.
        """
        return -si_snr(estimate, target, zero_mean=self.zero_mean, eps=self.eps).mean()


class SiSnrMagnitudeLoss(nn.Module):
    """SI-SNR of the waveforms, plus the squared error of the magnitudes: `(100 - mean SI-SNR) + lam * error`.

    This is the loss of the baseline of the Intel N-DNS Challenge (Timcheck et al., "The Intel Neuromorphic DNS
    Challenge", 2023). SI-SNR does not depend on the level of the estimate, so the second term determines the level.

    Args:
        lam: the weight of the mean squared error of the magnitudes.
        zero_mean: whether to subtract the mean of each waveform first.
        eps: the energy that keeps the ratio finite; see `si_snr`.
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
        """Computes the loss.

        Args:
            estimate_wave: waveforms [batch, time].
            target_wave: waveforms [batch, time].
            estimate_magnitude: magnitudes [batch, frequencies, frames].
            target_magnitude: magnitudes [batch, frequencies, frames].

        Returns:
            The loss, a scalar.

        Raises:
            ValueError: the waveforms or the magnitudes differ in shape.
        """
        if estimate_magnitude.shape != target_magnitude.shape:
            raise ValueError(
                "the magnitudes differ in shape: "
                f"estimate {list(estimate_magnitude.shape)}, target {list(target_magnitude.shape)}"
            )
        ratio = si_snr(estimate_wave, target_wave, zero_mean=self.zero_mean, eps=self.eps).mean()
        return 100 - ratio + self.lam * nn.functional.mse_loss(estimate_magnitude, target_magnitude)
