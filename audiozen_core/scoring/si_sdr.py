"""SI-SDR, the scale-invariant signal-to-distortion ratio."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor

from audiozen_core.scoring.blocks import blocks

_SILENCE = 1e-24
"""After the mean of a constant signal is subtracted, rounding errors leave less than this fraction of its energy."""

_MOST_KEPT = 1 << 20
"""Signals with up to this many samples are converted to float64 once. Longer signals are converted block by block
whenever they are read, because a copy of the whole signal would take too much memory."""


def si_sdr(estimate: Tensor, reference: Tensor, *, zero_mean: bool = True) -> Tensor:
    """Computes the scale-invariant signal-to-distortion ratio in float64, and processes long signals block by block.

    Le Roux et al., "SDR – half-baked or well done?", ICASSP 2019.

    Args:
        estimate: waveforms [..., time].
        reference: clean waveforms of the same shape.
        zero_mean: whether to subtract the mean from each signal first. Most toolkits do, but the paper does not.

    Returns:
        The ratios in dB, [...], float64. A ratio is NaN if the reference or the estimate is silent, or, with
        `zero_mean`, constant. A ratio is infinite if the estimate equals the reference up to a gain and rounding errors
        and, with `zero_mean`, an offset. For float32 signals, each ratio above 138 dB counts as infinite.

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
    signals = [_Doubles.from_signal(signal) for signal in (estimate, reference)]
    totals = [_dot(signal, signal) for signal in signals]
    floors = [_SILENCE * total for total in totals]
    if zero_mean:
        signals = [signal.less(_total(part.sum(-1) for part in signal) / estimate.shape[-1]) for signal in signals]
    energies = [_dot(signal, signal) for signal in signals]
    scale = _dot(*signals) / energies[1]
    kept, error = scale.square() * energies[1], _distance(signals, scale)
    # If the estimate equals the reference up to a gain and an offset, the error consists only of rounding errors. The
    # ratio would be a large, meaningless number that dominates every mean, so the error is set to 0. The samples were
    # rounded before the mean was subtracted, so the limit depends on the energy before the subtraction.
    error = error.masked_fill(error <= rounding**2 * torch.maximum(kept, totals[0]), 0)
    decibels: Tensor = 10 * torch.log10(kept / error)
    silent = (energies[0] <= floors[0]) | (energies[1] <= floors[1])
    return decibels.masked_fill(silent, torch.nan)


class _Doubles:
    """The blocks of a signal [..., time] in float64, which are kept in memory or computed again for each iteration.

    Args:
        make: returns an iterator over the blocks.
        keeps: whether to keep the blocks in memory.
    """

    def __init__(self, make: Callable[[], Iterator[Tensor]], keeps: bool) -> None:
        self._make = make
        self._kept = list(make()) if keeps else None

    @classmethod
    def from_signal(cls, signal: Tensor) -> _Doubles:
        """Returns the blocks of a signal. They are kept in memory if the signal is short."""
        return cls(lambda: (part.double() for part in blocks(signal)), keeps=signal.numel() <= _MOST_KEPT)

    def __iter__(self) -> Iterator[Tensor]:
        return self._make() if self._kept is None else iter(self._kept)

    def less(self, mean: Tensor) -> _Doubles:
        """Returns the blocks of the signal minus `mean` [...]."""
        mean = mean.unsqueeze(-1)
        return _Doubles(lambda: (part - mean for part in self), keeps=self._kept is not None)


def _dot(first: _Doubles, second: _Doubles) -> Tensor:
    """Returns the inner product of signals [..., time]."""
    return _total(torch.mul(*pair).sum(-1) for pair in zip(first, second, strict=True))


def _distance(pair: Sequence[_Doubles], scale: Tensor) -> Tensor:
    """Returns the energy of `estimate - scale * reference` for the pair (estimate, reference). `scale` is [...]."""
    total = torch.zeros_like(scale)
    for estimate, reference in zip(*pair, strict=True):
        total = total + (estimate - scale.unsqueeze(-1) * reference).square().sum(-1)
    return total


def _total(terms: Iterable[Tensor]) -> Tensor:
    # Add each term as soon as it is computed. A list of terms would lie in memory between the freed blocks and fragment
    # it.
    return functools.reduce(torch.add, terms)
