"""Soft-DTW on the CPU, for one strip of rows at a time.

Soft-DTW compares all frames of two sequences x and y in a matrix of distances. A *score* is a scaled distance, and a
*visit* is the gradient with respect to a distance (both are defined in `soft_alignment_sweeps`). The matrix is never
stored as a whole. A matrix product computes the scores of a strip of rows, and a sweep goes over the strip. Only the
last row of each strip is kept, for the strip below. The backward pass computes the scores of each strip again, and adds
the strip to the gradient at once. This costs less than writing the matrix to memory and reading it back. All
computations are in float64, whatever the dtype of the input.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from audiozen_plugins.kernels import soft_alignment_band
from audiozen_plugins.kernels.band import Band
from audiozen_plugins.kernels.soft_alignment_band import NarrowBand
from audiozen_plugins.kernels.soft_alignment_frames import Frames
from audiozen_plugins.kernels.soft_alignment_sweeps import (
    FAR,
    RECORD,
    RECORDS,
    ROWS,
    Floats,
    Ints,
    sweep_probabilities,
    sweep_visits,
)


def is_available() -> bool:
    """Whether the kernel can be used on the CPU."""
    return sweep_probabilities.is_available()


def saved_shape(batch: int, frames: int, frames2: int, radius: int | None) -> tuple[int, ...]:
    """Returns the shape of the tensor that `forward` saves for `backward`."""
    band = Band(frames, frames2, radius)
    if narrow := _narrow(band):
        return batch, *narrow.saved_shape
    return batch, -(-frames // ROWS), 2, band.width + 1


def _narrow(band: Band) -> NarrowBand | None:
    if band.radius is None:
        return None
    narrow = NarrowBand(band)
    return narrow if narrow.is_narrow else None


@dataclass(frozen=True)
class Strip:
    """Some rows of the matrix, and the columns in which the band contains cells of these rows.

    Attributes:
        rows: the frames of `x`.
        columns: the frames of `y`.
        x: the frames of `x` as `Frames.load` prepares them [rows, features + 2].
        y: the frames of `y` as `Frames.load` prepares them [columns, features + 2].
        scores: first the scores of the cells, later their visits [columns, rows]. All strips share this memory.
        cells: a flat view of `scores` [columns * rows] for the sweeps.
        low: the first column of each row [rows], counted from the strip's first column.
        high: the last column of each row [rows].
    """

    rows: slice
    columns: slice
    x: Tensor
    y: Tensor
    scores: Tensor
    cells: Floats
    low: Ints
    high: Ints

    def compute_scores(self) -> None:
        """Writes the scores of all cells to `scores`."""
        torch.mm(self.y, self.x.T, out=self.scores)


class Matrix:
    """The matrix of one item of a batch, as strips. All items and all strips share the same memory.

    Args:
        band: the cells that a path may visit.
        x: features [batch, frames, features].
        y: features [batch, frames2, features].
        gamma: the softness of the minimum; above 0.
    """

    def __init__(self, band: Band, x: Tensor, y: Tensor, gamma: float) -> None:
        self.frames = Frames(x, y, gamma)
        rows = [slice(start, min(start + ROWS, band.frames)) for start in range(0, band.frames, ROWS)]
        columns = [slice(int(band.low[part.start]), int(band.high[part.stop - 1]) + 1) for part in rows]
        self.width = max(part.stop - part.start for part in columns)
        self.memory = np.empty(RECORDS * RECORD), np.empty(ROWS)
        scores = torch.empty(self.width * ROWS, dtype=torch.float64)
        self.strips = [self._strip(band, scores, *parts) for parts in zip(rows, columns, strict=True)]

    def _strip(self, band: Band, scores: Tensor, rows: slice, columns: slice) -> Strip:
        shape = columns.stop - columns.start, rows.stop - rows.start
        strip_scores = scores[: shape[0] * shape[1]]
        limits = band.low[rows] - columns.start, band.high[rows] - columns.start
        return Strip(
            rows,
            columns,
            self.frames.x[rows],
            self.frames.y[columns],
            strip_scores.view(shape),
            strip_scores.numpy(),
            *limits,
        )


def forward(x: Tensor, y: Tensor, gamma: float, radius: int | None) -> tuple[Tensor, Tensor]:
    """Computes the costs of the soft alignments.

    Args:
        x: features [batch, frames, features].
        y: features [batch, frames2, features].
        gamma: the softness of the minimum; above 0.
        radius: the radius of the band, see `Band`.

    Returns:
        The costs [batch], float64, and what `backward` needs: the row above each strip, or the weights of a narrow band
        (`soft_alignment_band`).
    """
    band = Band(x.shape[1], y.shape[1], radius)
    if narrow := _narrow(band):
        return soft_alignment_band.forward(narrow, x, y, gamma)
    matrix = Matrix(band, x, y, gamma)
    costs = torch.empty(len(x), dtype=torch.float64)
    edges = torch.ones(saved_shape(len(x), x.shape[1], y.shape[1], radius), dtype=torch.float64)
    edges[:, :, 1] = FAR
    edges[:, 0, 1, 0] = 0  # all paths start from this cell
    nothing, nowhere = np.empty(0), np.empty((2, 0))
    starts = [strip.columns.start for strip in matrix.strips]
    offsets = [after - 1 - start for start, after in zip(starts, [*starts[1:], 0], strict=True)]
    for index, above in enumerate(edges.numpy()):
        matrix.frames.load(index)
        logarithm = 0.0
        for strip, edge, below, offset in zip(matrix.strips, above, [*above[1:], nowhere], offsets, strict=True):
            strip.compute_scores()
            logarithm = sweep_probabilities(
                strip.cells, strip.low, strip.high, edge, below, offset, nothing, False, *matrix.memory
            )
        costs[index] = -gamma * logarithm
    return costs, edges


def backward(
    x: Tensor, y: Tensor, edges: Tensor, grad: Tensor, gamma: float, radius: int | None, needs: tuple[bool, bool]
) -> tuple[Tensor | None, Tensor | None]:
    """Computes the gradients of the costs.

    Args:
        x: features [batch, frames, features].
        y: features [batch, frames2, features].
        edges: the second result of `forward`.
        grad: the gradients with respect to the costs [batch].
        gamma: the softness of the minimum; above 0.
        radius: the radius of the band, see `Band`.
        needs: whether the gradients of `x` and of `y` are needed.

    Returns:
        The gradients with respect to `x` and `y`, each None if it isn't needed.
    """
    band = Band(x.shape[1], y.shape[1], radius)
    if narrow := _narrow(band):
        return soft_alignment_band.backward(narrow, x, y, edges, grad, gamma, needs)
    matrix = Matrix(band, x, y, gamma)
    need_x, need_y = needs
    grad_x, grad_y = (torch.empty_like(side) if need else None for side, need in zip((x, y), needs, strict=True))
    weighted_x, weighted_y = torch.empty_like(matrix.frames.x), torch.empty_like(matrix.frames.y)
    weights = np.empty((matrix.width + ROWS) * 2 * ROWS)
    # `received` has the visits that the last row of a strip gets from the strip below. The sweep writes to
    # `passed_on` what the strip passes on to the strip above.
    received, passed_on = np.empty(y.shape[1]), np.empty(y.shape[1])
    nowhere = np.empty((2, 0))
    for index, (above, seed) in enumerate(zip(edges.numpy(), grad.tolist(), strict=True)):
        matrix.frames.load(index)
        if need_y:
            weighted_y.zero_()
        received.fill(0)
        received[-1] = seed  # all paths end in the last cell
        for strip, edge in zip(reversed(matrix.strips), reversed(above), strict=True):
            strip.compute_scores()
            sweep_probabilities(strip.cells, strip.low, strip.high, edge, nowhere, 0, weights, True, *matrix.memory)
            if radius is not None:
                strip.scores.zero_()  # the sweep does not write to cells outside the band
            passed_on.fill(0)
            start = strip.columns.start
            sweep_visits(
                strip.cells, strip.low, strip.high, weights, received[start:], passed_on, -start, *matrix.memory
            )
            received, passed_on = passed_on, received
            if need_x:
                torch.mm(strip.scores.T, strip.y, out=weighted_x[strip.rows])
            if need_y:
                weighted_y[strip.columns].addmm_(strip.scores, strip.x)
        if grad_x is not None:
            matrix.frames.write_gradient_of_x(weighted_x, grad_x[index])
        if grad_y is not None:
            matrix.frames.write_gradient_of_y(weighted_y, grad_y[index])
    return grad_x, grad_y
