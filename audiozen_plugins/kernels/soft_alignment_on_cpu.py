"""Soft-DTW on the CPU, for one strip of rows at a time.

Soft-DTW compares all frames of two sequences x and y in a matrix of distances. A *score* is a scaled distance, and a
*visit* is the gradient with respect to a distance (both are defined in `soft_alignment_sweeps`). The matrix is never
stored as a whole. A matrix product computes the scores of a strip of rows, and a sweep goes over the strip. Only the
last row of each strip is kept, for the strip below. The backward pass computes the scores of each strip again, and adds
the strip to the gradient at once. This costs less than writing the matrix to memory and reading it back. All
computations are in float64, whatever the dtype of the input.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from audiozen_plugins.kernels.band import Band
from audiozen_plugins.kernels.soft_alignment_sweeps import (
    FAR,
    RECORD,
    RECORDS,
    ROWS,
    Floats,
    Ints,
    complete_square,
    sweep_probabilities,
    sweep_visits,
)


def is_available() -> bool:
    """Whether the kernel can be used on the CPU."""
    return sweep_probabilities.is_available()


def saved_shape(batch: int, frames: int, frames2: int, radius: int | None) -> tuple[int, ...]:
    """Returns the shape of the tensor with the row above each strip. `forward` saves this tensor for `backward`."""
    return batch, -(-frames // ROWS), 2, Band(frames, frames2, radius).width + 1


@dataclass(frozen=True)
class Strip:
    """Some rows of the matrix, and the columns in which the band contains cells of these rows.

    Attributes:
        rows: the frames of `x`.
        columns: the frames of `y`.
        x: the frames of `x` as `Matrix.load` prepares them [rows, features + 2].
        y: the frames of `y` as `Matrix.load` prepares them [columns, features + 2].
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
        features: the number of features of a frame.
        gamma: the softness of the minimum; above 0.
    """

    def __init__(self, band: Band, features: int, gamma: float) -> None:
        self._scale = -1 / (gamma * math.log(2))
        # Two more columns, for the squared norms and for their factor. A matrix product then gives complete scores.
        self._x = torch.empty(band.frames, features + 2, dtype=torch.float64)
        self._y = torch.empty(band.frames2, features + 2, dtype=torch.float64)
        rows = [slice(start, min(start + ROWS, band.frames)) for start in range(0, band.frames, ROWS)]
        columns = [slice(int(band.low[part.start]), int(band.high[part.stop - 1]) + 1) for part in rows]
        self.width = max(part.stop - part.start for part in columns)
        self.memory = np.empty(RECORDS * RECORD), np.empty(ROWS)
        scores = torch.empty(self.width * ROWS, dtype=torch.float64)
        self.strips = [self._strip(band, scores, *parts) for parts in zip(rows, columns, strict=True)]

    def _strip(self, band: Band, scores: Tensor, rows: slice, columns: slice) -> Strip:
        shape = columns.stop - columns.start, rows.stop - rows.start
        own = scores[: shape[0] * shape[1]]
        limits = band.low[rows] - columns.start, band.high[rows] - columns.start
        return Strip(rows, columns, self._x[rows], self._y[columns], own.view(shape), own.numpy(), *limits)

    def load(self, x: Tensor, y: Tensor) -> None:
        """Prepares the frames of the next item of the batch: `x` is [frames, features], `y` is [frames2, features]."""
        features = x.shape[1]
        self._x[:, :features] = x
        self._y[:, :features] = y
        centre = self._y[:, :features].mean(dim=0).numpy()  # a large offset would make the squares less precise
        complete_square(self._x.numpy(), centre, -2 * self._scale, self._scale, features + 1, features)
        complete_square(self._y.numpy(), centre, 1.0, 1.0, features, features + 1)

    def weighted_frames(self) -> tuple[Tensor, Tensor]:
        """Allocates the arguments of `gradient_of_x` and `gradient_of_y`."""
        return torch.empty_like(self._x), torch.empty_like(self._y)

    def gradient_of_x(self, weighted: Tensor) -> Tensor:
        """Returns the gradient with respect to `x` [frames, features], and overwrites the prepared `x`.

        Args:
            weighted: the matrix of visits times the prepared frames of `y` [frames, features + 2].
        """
        return self._x[:, :-2].mul_(weighted[:, -1:] / -self._scale).sub_(weighted[:, :-2], alpha=2)

    def gradient_of_y(self, weighted: Tensor) -> Tensor:
        """Returns the gradient with respect to `y` [frames2, features], and overwrites the prepared `y`.

        Args:
            weighted: the transposed matrix of visits times the prepared frames of `x` [frames2, features + 2].
        """
        return self._y[:, :-2].mul_(weighted[:, -2:-1] * 2).add_(weighted[:, :-2]).div_(self._scale)


def forward(x: Tensor, y: Tensor, gamma: float, radius: int | None) -> tuple[Tensor, Tensor]:
    """Computes the costs of the soft alignments.

    Args:
        x: features [batch, frames, features].
        y: features [batch, frames2, features].
        gamma: the softness of the minimum; above 0.
        radius: the radius of the band, see `Band`.

    Returns:
        The costs [batch], float64, and the row above each strip, which `backward` needs.
    """
    matrix = Matrix(Band(x.shape[1], y.shape[1], radius), x.shape[2], gamma)
    costs = torch.empty(len(x), dtype=torch.float64)
    edges = torch.ones(saved_shape(len(x), x.shape[1], y.shape[1], radius), dtype=torch.float64)
    edges[:, :, 1] = FAR
    edges[:, 0, 1, 0] = 0  # all paths start from this cell
    nothing, nowhere = np.empty(0), np.empty((2, 0))
    starts = [strip.columns.start for strip in matrix.strips]
    offsets = [after - 1 - start for start, after in zip(starts, [*starts[1:], 0], strict=True)]
    for index, above in enumerate(edges.numpy()):
        matrix.load(x[index], y[index])
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
        edges: the rows above the strips, from `forward`.
        grad: the gradients with respect to the costs [batch].
        gamma: the softness of the minimum; above 0.
        radius: the radius of the band, see `Band`.
        needs: whether the gradients of `x` and of `y` are needed.

    Returns:
        The gradients with respect to `x` and `y`, each None if it isn't needed.
    """
    matrix = Matrix(Band(x.shape[1], y.shape[1], radius), x.shape[2], gamma)
    need_x, need_y = needs
    grad_x, grad_y = (torch.empty_like(side) if need else None for side, need in zip((x, y), needs, strict=True))
    weighted_x, weighted_y = matrix.weighted_frames()
    weights = np.empty((matrix.width + ROWS) * 2 * ROWS)
    # `received` has the visits that the last row of a strip gets from the strip below. The sweep writes to `given` what
    # the strip passes on to the strip above.
    received, given = np.empty(y.shape[1]), np.empty(y.shape[1])
    nowhere = np.empty((2, 0))
    for index, (above, seed) in enumerate(zip(edges.numpy(), grad.tolist(), strict=True)):
        matrix.load(x[index], y[index])
        if need_y:
            weighted_y.zero_()
        received.fill(0)
        received[-1] = seed  # all paths end in the last cell
        for strip, edge in zip(reversed(matrix.strips), reversed(above), strict=True):
            strip.compute_scores()
            sweep_probabilities(strip.cells, strip.low, strip.high, edge, nowhere, 0, weights, True, *matrix.memory)
            if radius is not None:
                strip.scores.zero_()  # the sweep does not write to cells outside the band
            given.fill(0)
            start = strip.columns.start
            sweep_visits(strip.cells, strip.low, strip.high, weights, received[start:], given, -start, *matrix.memory)
            received, given = given, received
            if need_x:
                torch.mm(strip.scores.T, strip.y, out=weighted_x[strip.rows])
            if need_y:
                weighted_y[strip.columns].addmm_(strip.scores, strip.x)
        if grad_x is not None:
            grad_x[index] = matrix.gradient_of_x(weighted_x)
        if grad_y is not None:
            grad_y[index] = matrix.gradient_of_y(weighted_y)
    return grad_x, grad_y
