"""SI-SDR, the scale-invariant signal-to-distortion ratio."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from audiozen_core.scoring.blocks import blocks

_SILENCE = 1e-24
"""Relative to the energy of a signal: rounding leaves less than this of a constant whose mean is subtracted."""


def si_sdr(estimate: Tensor, reference: Tensor, *, zero_mean: bool = True) -> Tensor:
    """Computes the scale-invariant signal-to-distortion ratio, in float64. Long signals are not copied as a whole.

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
    totals = [_dot(signal, signal) for signal in (estimate, reference)]
    floors = [_SILENCE * total for total in totals]
    means = [_mean(signal) if zero_mean else torch.zeros_like(totals[0]) for signal in (estimate, reference)]
    energies = [_dot(signal, signal, mean, mean) for signal, mean in zip((estimate, reference), means, strict=True)]
    scale = _dot(estimate, reference, *means) / energies[1]
    kept, error = scale.square() * energies[1], _distance(estimate, reference, means, scale)
    # A copy with another gain or offset differs from the reference by rounding only. Its ratio would be a large number
    # without meaning, and would dominate every mean. The samples were rounded together with their mean, so the limit
    # depends on the energy with the mean.
    error = error.masked_fill(error <= rounding**2 * torch.maximum(kept, totals[0]), 0)
    decibels: Tensor = 10 * torch.log10(kept / error)
    silent = (energies[0] <= floors[0]) | (energies[1] <= floors[1])
    return decibels.masked_fill(silent, torch.nan)


def _mean(signal: Tensor) -> Tensor:
    """Returns the mean of signals [..., time]."""
    return _total(part.double().sum(-1) for part in blocks(signal)) / signal.shape[-1]


def _dot(first: Tensor, second: Tensor, *means: Tensor) -> Tensor:
    """Returns the inner product of signals [..., time], after subtraction of a mean [...] from each."""
    pairs = zip(blocks(first), blocks(second), strict=True)
    return _total(torch.mul(*_centred(pair, means)).sum(-1) for pair in pairs)


def _distance(estimate: Tensor, reference: Tensor, means: Sequence[Tensor], scale: Tensor) -> Tensor:
    """Returns the energy of the difference between an estimate and `scale` [...] times the reference [..., time]."""
    total = torch.zeros_like(scale)
    for pair in zip(blocks(estimate), blocks(reference), strict=True):
        of_estimate, of_reference = _centred(pair, means)
        total = total + (of_estimate - scale.unsqueeze(-1) * of_reference).square().sum(-1)
    return total


def _total(terms: Iterable[Tensor]) -> Tensor:
    # A list of the terms would lie between the freed blocks in memory, which could then not be used again.
    return functools.reduce(torch.add, terms)


def _centred(pair: tuple[Tensor, Tensor], means: Sequence[Tensor]) -> list[Tensor]:
    parts = [part.double() for part in pair]
    return [part - mean.unsqueeze(-1) for part, mean in zip(parts, means, strict=True)] if means else parts
