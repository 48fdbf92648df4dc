"""The Sakoe-Chiba band: the cells that a path of an alignment may visit."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class Band:
    """The cells of a matrix that are near its diagonal.

    A path may be up to `radius` cells in front of the diagonal that starts in the first cell, or behind the diagonal
    that ends in the last cell. If both sequences have the same length, both diagonals are the same.

    Args:
        frames: the number of rows.
        frames2: the number of columns.
        radius: the radius in cells; None for the whole matrix.
    """

    frames: int
    frames2: int
    radius: int | None

    @cached_property
    def low(self) -> NDArray[np.int64]:
        """The first column of each row [frames]. It never decreases."""
        if self.radius is None:
            return np.zeros(self.frames, dtype=np.int64)
        shift = min(0, self.frames2 - self.frames) - self.radius
        return np.maximum(np.arange(self.frames, dtype=np.int64) + shift, 0)

    @cached_property
    def high(self) -> NDArray[np.int64]:
        """The last column of each row [frames]. It never decreases."""
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
        """Whether a path may visit a cell [frames, frames2]."""
        columns = torch.arange(self.frames2, device=device)
        low, high = (torch.from_numpy(edge).to(device)[:, None] for edge in (self.low, self.high))
        return (columns >= low) & (columns <= high)
