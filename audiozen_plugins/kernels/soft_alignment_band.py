"""Soft-DTW in a narrow band, on the CPU, for one item of a batch at a time.

The scores of all blocks of rows are one batched matrix product. One sweep follows the diagonal through all blocks, and
stores for each cell of the band where its paths come from. The backward pass needs neither scores nor a second sweep
with these weights. They need at most half the memory of a matrix of distances in float32, because the band is narrow.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from audiozen_plugins.kernels.band import Band
from audiozen_plugins.kernels.soft_alignment_band_sweeps import BLOCK, LANES, MEMORY, sweep_band, sweep_band_visits
from audiozen_plugins.kernels.soft_alignment_frames import Frames


class NarrowBand:
    """The cells of a narrow band.

    Args:
        band: the band; its radius is not None.
    """

    def __init__(self, band: Band) -> None:
        assert band.radius is not None
        self.frames, self.frames2 = band.frames, band.frames2
        self.low = min(0, band.frames2 - band.frames) - band.radius
        self.high = max(0, band.frames2 - band.frames) + band.radius
        # Half of the diagonals have a cell on an anti-diagonal. Vectors have up to 8 numbers.
        self.lanes = -(-(self.high - self.low + 2) // 16) * 8
        self.blocks = -(-band.frames // BLOCK)
        self.columns = BLOCK + self.high - self.low

    @property
    def saved_shape(self) -> tuple[int, int, int]:
        """The shape of what an item saves for the backward pass [anti-diagonals, 2, lanes]."""
        return self.frames + self.frames2 - 1, 2, self.lanes

    @property
    def is_narrow(self) -> bool:
        """Whether the sweeps can process the band, and the weights are at most half as large as a matrix in float32."""
        return self.lanes <= LANES and 16 * (self.frames + self.frames2) * self.lanes <= 2 * self.frames * self.frames2

    @property
    def size(self) -> tuple[int, int, int, int]:
        """The arguments of the sweeps that describe the band."""
        return self.frames, self.frames2, self.low, self.high

    def frames_of(self, x: Tensor, y: Tensor, gamma: float) -> Frames:
        """Allocates memory for the frames of an item. Each block of `x` and `y` is complete."""
        padded = self.blocks * BLOCK, (self.blocks - 1) * BLOCK + self.columns
        return Frames(x, y, gamma, before=-self.low, padded=padded)

    def blocks_of(self, frames: Frames) -> tuple[Tensor, Tensor]:
        """Returns views of the frames for each block: [blocks, BLOCK, features] and [blocks, columns, features]."""
        return frames.x.view(self.blocks, BLOCK, -1), frames.y.unfold(0, self.columns, BLOCK).mT

    @property
    def cells_shape(self) -> tuple[int, int, int]:
        """The shape of the scores or visits [blocks, columns, BLOCK]."""
        return self.blocks, self.columns, BLOCK


def forward(narrow: NarrowBand, x: Tensor, y: Tensor, gamma: float) -> tuple[Tensor, Tensor]:
    """Computes the costs [batch] of the soft alignments, and the weights [batch, anti-diagonals, 2, lanes]."""
    frames, cells = narrow.frames_of(x, y, gamma), torch.empty(narrow.cells_shape, dtype=torch.float64)
    blocks, blocks2 = narrow.blocks_of(frames)
    costs = np.empty(len(x))
    weights = torch.empty(len(x), *narrow.saved_shape, dtype=torch.float64)
    scores, memory = cells.numpy(), np.empty(MEMORY)
    for index, kept in enumerate(weights.numpy()):
        frames.load(index)
        torch.bmm(blocks2, blocks.mT, out=cells)
        costs[index] = -gamma * sweep_band(scores, *narrow.size, kept, memory)
    return torch.from_numpy(costs), weights


def backward(
    narrow: NarrowBand, x: Tensor, y: Tensor, weights: Tensor, grad: Tensor, gamma: float, needs: tuple[bool, bool]
) -> tuple[Tensor | None, Tensor | None]:
    """Computes the gradients with respect to `x` and `y`, each None if it isn't needed."""
    frames = narrow.frames_of(x, y, gamma)
    cells = torch.zeros(narrow.cells_shape, dtype=torch.float64)  # the sweep does not write to cells outside the band
    blocks, blocks2 = narrow.blocks_of(frames)
    visits, memory = cells.numpy(), np.empty(MEMORY)
    grad_x, grad_y = (torch.empty_like(side) if need else None for side, need in zip((x, y), needs, strict=True))
    weighted_x = torch.empty_like(frames.x)
    weighted_y = torch.empty_like(frames.y)
    inner = slice(-narrow.low, -narrow.low + narrow.frames2)
    # The weights of the last item are the newest, so they may still be in the cache.
    for index, (given, seed) in reversed(list(enumerate(zip(weights.numpy(), grad.tolist(), strict=True)))):
        frames.load(index)
        sweep_band_visits(visits, *narrow.size, given, seed, memory)
        if grad_y is not None:
            weighted_y.zero_()
            for own, block, block2 in zip(cells, blocks, weighted_y.unfold(0, narrow.columns, BLOCK).mT, strict=True):
                block2.addmm_(own, block)
        if grad_x is not None:
            torch.bmm(cells.mT, blocks2, out=weighted_x.view(blocks.shape))
            frames.write_gradient_of_x(weighted_x[: narrow.frames], grad_x[index])
        if grad_y is not None:
            frames.write_gradient_of_y(weighted_y[inner], grad_y[index])
    return grad_x, grad_y
