"""Soft-DTW on a GPU, in float64. Matrix products give the scores (scaled distances), which a Triton kernel sweeps over.

`soft_alignment_sweeps` defines the terms *score*, *visit* and *probability*.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from audiozen_plugins.kernels.band import Band
from audiozen_plugins.kernels.plain_forms import kernels_are_wanted

BLOCK = 256  # the number of cells of an anti-diagonal that a program computes at once
ROWS = 64  # the rows of one matrix product if there is a band; more rows would compute more cells outside the band


def is_available() -> bool:
    """Whether the kernel can be used on a GPU."""
    return kernels_are_wanted() and importlib.util.find_spec("triton") is not None


def saved_shape(batch: int, frames: int, frames2: int, radius: int | None) -> tuple[int, ...]:
    """Returns the shape of the tensor that `forward` saves for `backward`.

    For each cell, it contains the probability that a path comes to the cell from above, and from the left.
    """
    return batch, 2, frames, _Layout(Band(frames, frames2, radius)).width


class _Layout:
    """Maps the cells of a band to places in memory.

    Consecutive rows form blocks. All rows of a block are stored from the same column of the matrix on.
    """

    def __init__(self, band: Band) -> None:
        self.band = band
        rows = band.frames if band.radius is None else ROWS
        starts = range(0, band.frames, rows)
        self.rows = [slice(start, min(start + rows, band.frames)) for start in starts]
        self.columns = [slice(int(band.low[part.start]), int(band.high[part.stop - 1]) + 1) for part in self.rows]
        self.width = max(part.stop - part.start for part in self.columns)

    def blocks(self) -> Iterator[tuple[slice, slice, slice]]:
        """Yields, for each block, its rows, its columns in the matrix, and its columns in memory."""
        for rows, columns in zip(self.rows, self.columns, strict=True):
            yield rows, columns, slice(0, columns.stop - columns.start)

    def bases(self, device: torch.device) -> Tensor:
        """Returns the first stored column of each row, as a tensor [rows]."""
        counts = [rows.stop - rows.start for rows in self.rows]
        bases = np.repeat([columns.start for columns in self.columns], counts).astype(np.int32)
        return torch.from_numpy(bases).to(device, non_blocking=True)

    def limits(self, device: torch.device) -> Tensor:
        """Returns the first and the last row of each anti-diagonal [anti-diagonals, 2]."""
        rows = np.arange(self.band.frames)
        diagonals = np.arange(self.band.frames + self.band.frames2 - 1)
        first = np.searchsorted(rows + self.band.high, diagonals, side="left")
        last = np.searchsorted(rows + self.band.low, diagonals, side="right") - 1
        return torch.from_numpy(np.stack([first, last], axis=1).astype(np.int32)).to(device, non_blocking=True)


def _completed(x: Tensor, y: Tensor, gamma: float) -> tuple[Tensor, Tensor, float]:
    """Prepares both sequences, so that one matrix product gives the scores. Also returns the scale of the scores."""
    scale = -1 / (gamma * math.log(2))
    centre = y.mean(dim=1, keepdim=True, dtype=torch.float64)  # a large offset would make the squares less precise
    x, y = x - centre, y - centre
    ones, squares = torch.ones_like(y[..., :1]), y.square().sum(dim=2, keepdim=True)
    scales, squares_x = torch.full_like(x[..., :1], scale), x.square().sum(dim=2, keepdim=True) * scale
    return torch.cat([x * (-2 * scale), scales, squares_x], dim=2), torch.cat([y, squares, ones], dim=2), scale


def _launch(kernel: str, batch: int, *args: Any) -> None:
    getattr(importlib.import_module("audiozen_plugins.kernels.soft_alignment_triton"), kernel)[(batch,)](
        *args, BLOCK=BLOCK
    )


def forward(x: Tensor, y: Tensor, gamma: float, radius: int | None) -> tuple[Tensor, Tensor]:
    """Computes the costs of the soft alignments.

    Args:
        x: features [batch, frames, features].
        y: features [batch, frames2, features].
        gamma: the softness of the minimum; above 0.
        radius: the radius of the band, see `Band`.

    Returns:
        The costs [batch], float64, and the probabilities that `backward` needs.
    """
    batch, frames, _ = x.shape
    layout = _Layout(Band(frames, y.shape[1], radius))
    completed_x, completed_y, _ = _completed(x, y, gamma)
    scores = completed_x.new_empty(batch, frames, layout.width)
    for rows, columns, stored in layout.blocks():
        scores[:, rows, stored] = completed_x[:, rows] @ completed_y[:, columns].mT
    weights = scores.new_empty(batch, 2, frames, layout.width)
    mantissas, exponents = scores.new_empty(2, batch, 3, frames)
    result = scores.new_empty(batch, 2)
    limits = layout.limits(x.device)
    sizes = frames, layout.width, len(limits)
    _launch(
        "sweep_probabilities", batch, scores, weights, layout.bases(x.device), limits, mantissas, exponents, result,
        *sizes,
    )  # fmt: skip
    return (result[:, 0].log() + result[:, 1] * math.log(2)) * -gamma, weights


def backward(
    x: Tensor, y: Tensor, weights: Tensor, grad: Tensor, gamma: float, radius: int | None, needs: tuple[bool, bool]
) -> tuple[Tensor | None, Tensor | None]:
    """Computes the gradients of the costs.

    Args:
        x: features [batch, frames, features].
        y: features [batch, frames2, features].
        weights: the probabilities that `forward` returned.
        grad: the gradients with respect to the costs [batch].
        gamma: the softness of the minimum; above 0.
        radius: the radius of the band, see `Band`.
        needs: whether the gradients of `x` and of `y` are needed.

    Returns:
        The gradients with respect to `x` and `y`, each None if it isn't needed.
    """
    batch, frames, _ = x.shape
    layout = _Layout(Band(frames, y.shape[1], radius))
    # The sweep does not write to cells outside the band.
    visits = weights.new_empty(batch, frames, layout.width) if radius is None else torch.zeros_like(weights[:, 0])
    passed = weights.new_empty(batch, 9, frames)
    limits = layout.limits(x.device)
    sizes = frames, layout.width, len(limits)
    seeds = grad.to(torch.float64).contiguous()
    _launch("sweep_visits", batch, visits, weights, layout.bases(x.device), limits, passed, seeds, *sizes)
    completed_x, completed_y, scale = _completed(x, y, gamma)
    weighted_x, weighted_y = torch.empty_like(completed_x), torch.zeros_like(completed_y)
    for rows, columns, stored in layout.blocks():
        part = visits[:, rows, stored]
        if needs[0]:
            weighted_x[:, rows] = part @ completed_y[:, columns]
        if needs[1]:
            weighted_y[:, columns] += part.mT @ completed_x[:, rows]
    # `completed_x` begins with -2 * scale * x, and has a column with the scale. `completed_y` begins with y, and has a
    # column of ones.
    grad_x = completed_x[..., :-2] * weighted_x[..., -1:] / -scale - weighted_x[..., :-2] * 2
    grad_y = (completed_y[..., :-2] * weighted_y[..., -2:-1] * 2 + weighted_y[..., :-2]) / scale
    return grad_x.to(x.dtype) if needs[0] else None, grad_y.to(y.dtype) if needs[1] else None
