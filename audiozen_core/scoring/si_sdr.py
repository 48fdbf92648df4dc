"""SI-SDR, the scale-invariant signal-to-distortion ratio."""

from __future__ import annotations

import torch
from torch import Tensor

_SILENCE = 1e-24
"""Relative to the energy of a signal: rounding leaves less than this of a constant whose mean is subtracted."""


def si_sdr(estimate: Tensor, reference: Tensor, *, zero_mean: bool = True) -> Tensor:
    """Computes the scale-invariant signal-to-distortion ratio.

    Le Roux et al., "SDR – half-baked or well done?", ICASSP 2019.

    Args:
        estimate: waveforms [..., time].
        reference: clean waveforms of the same shape.
        zero_mean: whether to subtract the mean of both signals first. The paper does not, but most toolkits do.

    Returns:
        The ratios in dB, [...], float64. NaN if the reference or the estimate is silent (with `zero_mean`, also if it
        is constant); infinite if the estimate equals the reference, up to a gain (with `zero_mean`, also an
            offset) and the rounding of its type (in float32, a ratio above 138 dB).

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
    rounding = max(
        torch.finfo(signal.dtype).eps if signal.is_floating_point() else 0.0 for signal in (estimate, reference)
    )
    estimate, reference = estimate.double(), reference.double()
    totals = [signal.square().sum(-1) for signal in (estimate, reference)]
    floors = [_SILENCE * total for total in totals]
    if zero_mean:
        estimate = estimate - estimate.mean(-1, keepdim=True)
        reference = reference - reference.mean(-1, keepdim=True)
    energies = [signal.square().sum(-1) for signal in (estimate, reference)]
    scale = (estimate * reference).sum(-1, keepdim=True) / energies[1].unsqueeze(-1)
    target = scale * reference
    kept, error = target.square().sum(-1), (estimate - target).square().sum(-1)
    # A copy with another gain or offset differs from the reference by rounding only. Its ratio would be a large number
    # without meaning, and would dominate every mean. The samples were rounded together with their mean, so the limit
    # depends on the energy with the mean.
    error = error.masked_fill(error <= rounding**2 * torch.maximum(kept, totals[0]), 0)
    decibels: Tensor = 10 * torch.log10(kept / error)
    silent = (energies[0] <= floors[0]) | (energies[1] <= floors[1])
    return decibels.masked_fill(silent, torch.nan)
