"""The Sakoe-Chiba band, which limits the alignments of two sequences in dynamic time warping."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class Band:
    """The cells near the diagonal of a matrix that has a row for each frame of x and a column for each frame of y.

    An alignment is a path through this matrix from its first to its last cell. Two diagonals limit the path: one starts
    in the first cell, and one ends in the last cell. In each row, the path may be up to `radius` columns to the left of
    the left diagonal, and up to `radius` columns to the right of the right diagonal. In a square matrix, both diagonals
    are the same.

    Args:
        frames: the number of rows.
        frames2: the number of columns.
        radius: the radius in columns; None for the whole matrix.
    """

    frames: int
    frames2: int
    radius: int | None

    @cached_property
    def low(self) -> NDArray[np.int64]:
        """The first column of the band in each row [frames]. It never decreases from row to row."""
        if self.radius is None:
            return np.zeros(self.frames, dtype=np.int64)
        shift = min(0, self.frames2 - self.frames) - self.radius
        return np.maximum(np.arange(self.frames, dtype=np.int64) + shift, 0)

    @cached_property
    def high(self) -> NDArray[np.int64]:
        """The last column of the band in each row [frames]. It never decreases from row to row."""
        if self.radius is None:
            return np.full(self.frames, self.frames2 - 1, dtype=np.int64)
        shift = max(0, self.frames2 - self.frames) + self.radius
        return np.minimum(np.arange(self.frames, dtype=np.int64) + shift, self.frames2 - 1)

    @property
    def width(self) -> int:
        """The number of cells in the longest row."""
        if self.radius is None:
            return self.frames2
        return min(self.frames2, abs(self.frames2 - self.frames) + 2 * self.radius + 1)

    def mask(self, device: torch.device) -> Tensor:
        """Returns a boolean matrix [frames, frames2]: whether a path may visit each cell."""
        columns = torch.arange(self.frames2, device=device)
        low, high = (torch.from_numpy(edge).to(device)[:, None] for edge in (self.low, self.high))
        return (columns >= low) & (columns <= high)
