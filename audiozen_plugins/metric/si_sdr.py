"""The scale-invariant signal-to-distortion ratio."""

from __future__ import annotations

import torch
from torch import Tensor


def si_sdr(estimate: Tensor, reference: Tensor, *, zero_mean: bool = True) -> Tensor:
    """The scale-invariant signal-to-distortion ratio, in dB (Le Roux et al., "SDR – half-baked or well done?", 2019).

    Args:
        estimate: waveforms [..., time].
        reference: clean waveforms of the same shape.
        zero_mean: whether the mean is taken off both first. The paper does not, most toolkits do.

    Returns:
        The ratios [...], in float64; NaN where the reference or the estimate is silent.

    Raises:
        ValueError: the shapes differ.

    Example:
        >>> clean = torch.tensor([1.0, -1.0, 1.0, -1.0])
        >>> noise = torch.tensor([0.1, 0.1, -0.1, -0.1])
        >>> round(si_sdr(0.5 * (clean + noise), clean).item(), 3)
        20.0
    """
    if estimate.shape != reference.shape:
        raise ValueError(f"the shapes differ: {list(estimate.shape)} and {list(reference.shape)}")
    estimate, reference = estimate.double(), reference.double()
    if zero_mean:
        estimate = estimate - estimate.mean(-1, keepdim=True)
        reference = reference - reference.mean(-1, keepdim=True)
    scale = (estimate * reference).sum(-1, keepdim=True) / reference.square().sum(-1, keepdim=True)
    target = scale * reference
    ratio = target.square().sum(-1) / (estimate - target).square().sum(-1)
    decibels: Tensor = 10 * torch.log10(ratio)
    silent = (reference == 0).all(-1) | (estimate == 0).all(-1)
    return decibels.masked_fill(silent, torch.nan)


class SiSdr:
    """`si_sdr` as a metric, over the whole file.

    Args:
        zero_mean: whether the mean is taken off both signals first.
    """

    name = "si_sdr"
    label = "SI-SDR"
    unit = "dB"
    higher_is_better = True

    def __init__(self, zero_mean: bool = True) -> None:
        self.zero_mean = zero_mean

    def __call__(self, estimate: Tensor, reference: Tensor, *, sr: int) -> float:
        """The ratio in dB."""
        return si_sdr(estimate, reference, zero_mean=self.zero_mean).item()
